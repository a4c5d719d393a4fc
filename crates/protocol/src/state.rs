//! State of the whole system: Postgres, Redis, the index, and the processes that work on them.

use std::collections::BTreeMap;

use crate::claimed_job::{ClaimedJob, Outcome, Stage};
use crate::ids::{GuildId, JobId, Revision, SessionId};
use crate::index::{Point, PointId};
use crate::jobs::Job;
use crate::postgres::{LoadedSession, Session};

/// State of the system at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// Postgres: sessions with their index records.
    pub sessions: Vec<Session>,
    /// Postgres: unfinished jobs.
    pub jobs: Vec<Job>,
    /// Job ids in Redis, sorted; duplicates are possible.
    pub redis: Vec<JobId>,
    /// Job that a dispatch has committed and not pushed yet.
    pub pushing: Option<JobId>,
    /// Points; none if the index is lost.
    pub index: Option<BTreeMap<PointId, Point>>,
    /// Claimed job of each worker.
    pub workers: Vec<Option<ClaimedJob>>,
    /// Progress of `verify --repair`.
    pub repair: RepairProgress,
    /// Changes and faults that may still happen.
    pub remaining: Remaining,
    /// Whether a worker continued after it lost its claim.
    pub claim_lost: bool,
}

/// Changes and faults that may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Remaining {
    /// Changes by producers.
    pub changes: u8,
    /// Faults.
    pub faults: u8,
    /// Sessions that a repair scans.
    pub repairs: u8,
}

/// Progress of `verify --repair`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RepairProgress {
    /// No repair runs.
    Idle,
    /// A session's points are scanned.
    Scanned {
        /// Session.
        session: SessionId,
        /// Revision and number of the points, if there are any; no revision if they have several.
        points: Option<(Option<Revision>, u8)>,
    },
}

impl State {
    /// Returns a revision above all that the state contains; those that nothing refers to do not matter.
    pub(crate) fn next_revision(&self) -> Revision {
        let mut latest = 0;
        self.clone().for_each_revision(|revision| latest = latest.max(*revision));
        latest + 1
    }

    /// Returns the unfinished job with this id.
    pub(crate) fn job(&mut self, id: JobId) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|job| job.id == id)
    }

    /// Iterates over a session's points under a guild.
    pub(crate) fn points(&self, guild: GuildId, session: SessionId) -> impl Iterator<Item = &Point> {
        let index = self.index.iter().flatten();
        index.filter(move |(id, _)| (id.guild, id.session) == (guild, session)).map(|(_, point)| point)
    }

    /// Removes one delivery of a job from Redis.
    pub(crate) fn take_delivery(&mut self, id: JobId) -> Option<()> {
        let position = self.redis.iter().position(|queued| *queued == id)?;
        self.redis.remove(position);
        Some(())
    }

    /// Removes a dead job from the unfinished ones, and notes its target on its session.
    pub(crate) fn finish_dead(&mut self, id: JobId) -> Option<()> {
        let job = self.job(id)?.clone();
        let session = self.sessions.get_mut(job.session).filter(|session| session.guild == job.guild);
        if let Some(session) = session {
            session.dead_revision = session.dead_revision.max(job.target_revision_at_claim);
        }
        self.jobs.retain(|job| job.id != id);
        Some(())
    }

    /// Spends one fault; none if no more may happen.
    pub(crate) fn spend_fault(&mut self) -> Option<()> {
        self.remaining.faults = self.remaining.faults.checked_sub(1)?;
        Some(())
    }

    /// Visits every revision that the state contains.
    pub(crate) fn for_each_revision(&mut self, mut visit: impl FnMut(&mut Revision)) {
        for session in &mut self.sessions {
            visit(&mut session.revision);
            visit(&mut session.last_removal_revision);
            visit(&mut session.dead_revision);
            if let Some(indexed) = &mut session.indexed {
                visit(&mut indexed.point_revision);
                visit(&mut indexed.indexed_revision);
            }
        }
        for job in &mut self.jobs {
            visit(&mut job.target_revision);
            visit(&mut job.target_revision_at_claim);
        }
        self.index.iter_mut().flatten().for_each(|(_, point)| visit(&mut point.revision));
        for job in self.workers.iter_mut().flatten() {
            visit(&mut job.target_revision);
            match &mut job.stage {
                Stage::Loaded(loaded)
                | Stage::Upserting(loaded, _)
                | Stage::DeletingBelow(loaded)
                | Stage::Recording(loaded) => visit_loaded(loaded, &mut visit),
                Stage::Ending(Outcome::Reached(revision)) => visit(revision),
                Stage::Claimed | Stage::Ending(Outcome::Released) => {}
            }
        }
        if let RepairProgress::Scanned { points: Some((Some(revision), _)), .. } = &mut self.repair {
            visit(revision);
        }
    }
}

fn visit_loaded(loaded: &mut LoadedSession, visit: &mut impl FnMut(&mut Revision)) {
    visit(&mut loaded.revision);
    if let Some(indexed) = &mut loaded.indexed {
        visit(&mut indexed.point_revision);
        visit(&mut indexed.indexed_revision);
    }
}
