//! The world: the truth, the ledger, Redis, the index, and those who work on them.

use std::collections::BTreeMap;

use crate::index::{PointId, Points};
use crate::ledger::{self, NewJob};
use crate::{Config, GuildId, Held, Job, JobId, Kind, Point, Repairer, Revision, Session, SessionId};

/// All that there is at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// Postgres: the sessions with their books.
    pub sessions: Vec<Session>,
    /// Postgres: the unfinished jobs.
    pub jobs: Vec<Job>,
    /// The ids in Redis, sorted; one may be there twice.
    pub redis: Vec<JobId>,
    /// What a dispatcher committed and has not pushed yet.
    pub pushing: Option<JobId>,
    /// The points; none when the index is lost.
    pub index: Option<BTreeMap<PointId, Point>>,
    /// The jobs in the workers' hands.
    pub workers: Vec<Option<Held>>,
    /// Where `verify --repair` is.
    pub repairer: Repairer,
    /// What may still happen.
    pub left: Left,
    /// Whether a claim was lost whose worker goes on.
    pub lapsed: bool,
}

/// What may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Left {
    /// Changes by producers.
    pub changes: u8,
    /// Faults.
    pub faults: u8,
    /// Sessions that a repair looks at.
    pub repairs: u8,
}

impl State {
    /// New sessions with their jobs.
    pub(crate) fn new(config: &Config) -> Self {
        let mut state = Self {
            sessions: Vec::new(),
            jobs: Vec::new(),
            redis: Vec::new(),
            pushing: None,
            index: Some(Points::new()),
            workers: vec![None; config.workers],
            repairer: Repairer::Away,
            left: Left { changes: config.changes, faults: config.faults, repairs: config.repairs },
            lapsed: false,
        };
        for (session, &guild) in config.sessions.iter().enumerate() {
            let revision = state.next_revision();
            state.sessions.push(Session {
                guild,
                content: config.content,
                revision,
                removed_revision: 0,
                book: None,
                is_asked_for: false,
                dead: 0,
            });
            let new = NewJob { guild, session, kind: Kind::Index, class: ledger::LIVE, wanted: revision };
            ledger::enqueue(config, &mut state.jobs, new);
        }
        // A job of one guild that names another's session: no caller makes one.
        if let [first, .., last] = config.sessions.as_slice()
            && first != last
        {
            let new = NewJob { guild: *last, session: 0, kind: Kind::Index, class: ledger::LIVE, wanted: 1 };
            ledger::enqueue(config, &mut state.jobs, new);
        }
        state
    }

    /// A number above all that were given: those that nothing remembers do not matter.
    pub(crate) fn next_revision(&self) -> Revision {
        let mut latest = 0;
        crate::canonical::each_revision(&mut self.clone(), |revision| latest = latest.max(*revision));
        latest + 1
    }

    /// The job with this id, unless it is finished.
    pub(crate) fn job(&mut self, id: JobId) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|job| job.id == id)
    }

    /// The points of a session under a guild.
    pub(crate) fn points(&self, guild: GuildId, session: SessionId) -> impl Iterator<Item = &Point> {
        let index = self.index.iter().flatten();
        index.filter(move |(id, _)| (id.guild, id.session) == (guild, session)).map(|(_, point)| point)
    }

    /// Pays for a fault; none if no more may happen.
    pub(crate) fn fault(&mut self) -> Option<()> {
        self.left.faults = self.left.faults.checked_sub(1)?;
        Some(())
    }
}
