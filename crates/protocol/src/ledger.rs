//! The ledger, as `guildex_store::jobs` keeps it.

use crate::{Config, Flaw, GuildId, JobId, Revision, SessionId};

pub(crate) const DELETE: u8 = 0;
pub(crate) const LIVE: u8 = 1;
pub(crate) const BACKFILL: u8 = 2;

/// An unfinished row of `jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Job {
    /// Never given twice.
    pub id: JobId,
    /// Whose it is.
    pub guild: GuildId,
    /// What it is about.
    pub session: SessionId,
    /// What it does.
    pub kind: Kind,
    /// Where it is.
    pub state: JobState,
    /// Its queue.
    pub class: u8,
    /// `wanted_revision`.
    pub wanted: Revision,
    /// `claimed_revision`.
    pub claimed: Revision,
    /// Claims that count.
    pub attempts: u8,
    /// Whether it has `max_attempts`.
    pub mortal: bool,
    /// Whether it was asked for as a removal since it was last done.
    pub is_removal: bool,
    /// `claim_token` while it runs, else 0.
    pub token: u8,
    /// Whether its lease is over; jobs that wait in Redis or are worked on may outlast it, others come to it.
    pub lease_over: bool,
}

/// The kind of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `index_session`.
    Index,
    /// `delete_session`.
    Delete,
    /// The removal beside an index job: points below the wanted revision. It has no key.
    Remove,
}

impl Kind {
    fn never_dies(self) -> bool {
        matches!(self, Self::Delete | Self::Remove)
    }
}

/// The state of an unfinished job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JobState {
    /// Waits for a dispatcher.
    Pending,
    /// Its id is in Redis, or was.
    Queued,
    /// A worker has claimed it.
    Running,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct NewJob {
    pub guild: GuildId,
    pub session: SessionId,
    pub kind: Kind,
    pub class: u8,
    pub wanted: Revision,
}

/// `jobs::enqueue`: INSERT .. ON CONFLICT (key) WHERE state IN ('pending', 'queued', 'running') DO UPDATE.
pub(crate) fn enqueue(config: &Config, jobs: &mut Vec<Job>, new: NewJob) {
    let NewJob { guild, session, kind, class, wanted } = new;
    if let Some(job) = with_key(jobs, guild, session).filter(|_| kind != Kind::Remove) {
        let is_same = job.kind == kind;
        if job.state == JobState::Queued && job.class != class && (!is_same || class < job.class) {
            job.state = JobState::Pending;
            job.lease_over = false;
        }
        if !config.has(Flaw::WantedNotRaised) {
            job.wanted = job.wanted.max(wanted);
        }
        // A removal that has not happened yet lives on.
        job.mortal = (job.mortal || config.has(Flaw::RemovalForgotten)) && !kind.never_dies();
        job.class = if is_same { job.class.min(class) } else { class };
        job.kind = kind;
        job.is_removal |= kind.never_dies();
        return;
    }
    let id = jobs.iter().map(|job| job.id).max().unwrap_or(0) + 1;
    jobs.push(Job {
        id,
        guild,
        session,
        kind,
        state: JobState::Pending,
        class,
        wanted,
        claimed: 0,
        attempts: 0,
        mortal: !kind.never_dies(),
        is_removal: kind.never_dies(),
        token: 0,
        lease_over: false,
    });
}

/// `jobs::raise`: an unfinished job with the key is to reach this, too.
pub(crate) fn raise(jobs: &mut [Job], guild: GuildId, session: SessionId, wanted: Revision) {
    if let Some(job) = with_key(jobs, guild, session) {
        job.wanted = job.wanted.max(wanted);
    }
}

fn with_key(jobs: &mut [Job], guild: GuildId, session: SessionId) -> Option<&mut Job> {
    jobs.iter_mut().find(|job| job.kind != Kind::Remove && (job.guild, job.session) == (guild, session))
}

impl Job {
    /// `jobs::dispatch`.
    pub(crate) fn dispatch(&mut self) -> Option<()> {
        (self.state == JobState::Pending).then(|| self.state = JobState::Queued)
    }

    /// `jobs::take_back`.
    pub(crate) fn take_back(&mut self) {
        if self.state == JobState::Queued {
            self.return_it();
        }
    }

    /// `jobs::claim`; none where the delivery is a duplicate.
    pub(crate) fn claim(&mut self, config: &Config, token: u8) -> Option<()> {
        let is_free = self.state == JobState::Queued
            || (config.has(Flaw::ClaimOfRunning) && self.state == JobState::Running);
        is_free.then(|| {
            self.state = JobState::Running;
            self.attempts += 1;
            self.token = token;
            self.claimed = self.wanted;
            self.lease_over = false;
        })
    }

    /// What renewing, completing, failing and giving back match.
    pub(crate) fn is_held(&self, config: &Config, token: u8) -> bool {
        self.state == JobState::Running && (self.token == token || config.has(Flaw::NoToken))
    }

    /// `jobs::complete`: whether it is done.
    pub(crate) fn complete(&mut self, config: &Config, reached: Revision) -> bool {
        let again = self.wanted > reached && !config.has(Flaw::NoAgain);
        if again {
            self.attempts = 0;
            self.return_it();
        }
        !again
    }

    /// `jobs::fail`: whether it is dead.
    pub(crate) fn fail(&mut self, config: &Config) -> bool {
        let spent = self.mortal && self.attempts >= config.max_attempts;
        self.end_attempt(config, spent)
    }

    /// `jobs::give_back`.
    pub(crate) fn give_back(&mut self) {
        self.attempts = self.attempts.saturating_sub(1);
        self.return_it();
    }

    /// `jobs::sweep`: whether it is dead.
    pub(crate) fn sweep(&mut self, config: &Config) -> bool {
        let spent = self.state == JobState::Running && self.mortal && self.attempts >= config.max_attempts;
        self.end_attempt(config, spent)
    }

    fn end_attempt(&mut self, config: &Config, spent: bool) -> bool {
        let newer = self.wanted > self.claimed && !config.has(Flaw::DiesWithNewer);
        if spent && newer {
            self.attempts = 0;
        }
        self.return_it();
        spent && !newer
    }

    fn return_it(&mut self) {
        self.state = JobState::Pending;
        self.token = 0;
        self.lease_over = false;
    }
}
