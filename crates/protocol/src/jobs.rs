//! The job queue, as `guildex_store::jobs` keeps it.

use crate::config::{Config, Mutation};
use crate::ids::{GuildId, JobId, Revision, SessionId};

/// Unfinished row of `jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Job {
    /// Id; never reused.
    pub id: JobId,
    /// Guild of the payload.
    pub guild: GuildId,
    /// Session of the payload.
    pub session: SessionId,
    /// Kind.
    pub kind: JobKind,
    /// State.
    pub state: JobState,
    /// Queue.
    pub queue: JobQueue,
    /// `target_revision`.
    pub target_revision: Revision,
    /// `target_revision_at_claim`.
    pub target_revision_at_claim: Revision,
    /// Attempts that count.
    pub attempts: u8,
    /// Whether it has `max_attempts`.
    pub may_die: bool,
    /// Whether a removal was enqueued under this job since it last completed.
    pub is_removal: bool,
    /// `claim_token` while running, else 0.
    pub token: u8,
    /// Whether the lease has expired. Queued jobs that Redis has lost need no flag: their lease expires in the end.
    pub lease_expired: bool,
}

/// Kind of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JobKind {
    /// `index_session`.
    IndexSession,
    /// `delete_session`.
    DeleteSession,
    /// `remove_points`: deletes points below the target revision, beside an index job. It has no dedup key.
    RemovePoints,
}

impl JobKind {
    fn retries_forever(self) -> bool {
        matches!(self, Self::DeleteSession | Self::RemovePoints)
    }
}

/// Queue of a job, most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JobQueue {
    /// Deletions.
    Delete,
    /// Changes of live messages.
    Live,
    /// Backfills and repairs.
    Backfill,
}

/// State of an unfinished job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JobState {
    /// Waits for dispatch.
    Pending,
    /// Dispatched: its id is in Redis, unless Redis lost it.
    Queued,
    /// Claimed by a worker.
    Running,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct NewJob {
    pub guild: GuildId,
    pub session: SessionId,
    pub kind: JobKind,
    pub queue: JobQueue,
    pub target_revision: Revision,
}

/// Models `jobs::enqueue`: INSERT .. ON CONFLICT (dedup_key) WHERE state IN ('pending', 'queued', 'running') DO UPDATE.
pub(crate) fn enqueue(config: &Config, jobs: &mut Vec<Job>, new: NewJob) {
    let NewJob { guild, session, kind, queue, target_revision } = new;
    if let Some(job) = with_dedup_key(jobs, guild, session).filter(|_| kind != JobKind::RemovePoints) {
        let is_same = job.kind == kind;
        if job.state == JobState::Queued && job.queue != queue && (!is_same || queue < job.queue) {
            job.state = JobState::Pending;
            job.lease_expired = false;
        }
        if !config.has(Mutation::KeepTargetRevision) {
            job.target_revision = job.target_revision.max(target_revision);
        }
        // A removal that has not run yet keeps the job alive.
        job.may_die = (job.may_die || config.has(Mutation::RemovalMayDie)) && !kind.retries_forever();
        job.queue = if is_same { job.queue.min(queue) } else { queue };
        job.kind = kind;
        job.is_removal |= kind.retries_forever();
        return;
    }
    let id = jobs.iter().map(|job| job.id).max().unwrap_or(0) + 1;
    jobs.push(Job {
        id,
        guild,
        session,
        kind,
        state: JobState::Pending,
        queue,
        target_revision,
        target_revision_at_claim: 0,
        attempts: 0,
        may_die: !kind.retries_forever(),
        is_removal: kind.retries_forever(),
        token: 0,
        lease_expired: false,
    });
}

/// Models `jobs::raise_target_revision` of the unfinished job of a session, if there is one.
pub(crate) fn raise_target_revision(
    jobs: &mut [Job],
    guild: GuildId,
    session: SessionId,
    target_revision: Revision,
) {
    if let Some(job) = with_dedup_key(jobs, guild, session) {
        job.target_revision = job.target_revision.max(target_revision);
    }
}

fn with_dedup_key(jobs: &mut [Job], guild: GuildId, session: SessionId) -> Option<&mut Job> {
    jobs.iter_mut()
        .find(|job| job.kind != JobKind::RemovePoints && (job.guild, job.session) == (guild, session))
}

impl Job {
    /// Models `jobs::dispatch`.
    pub(crate) fn dispatch(&mut self) -> Option<()> {
        (self.state == JobState::Pending).then(|| self.state = JobState::Queued)
    }

    /// Models `jobs::requeue`.
    pub(crate) fn requeue(&mut self) {
        if self.state == JobState::Queued {
            self.make_pending();
        }
    }

    /// Models `jobs::claim`; none if the delivery is a duplicate.
    pub(crate) fn claim(&mut self, config: &Config, token: u8) -> Option<()> {
        let is_claimable = self.state == JobState::Queued
            || (config.has(Mutation::ClaimRunning) && self.state == JobState::Running);
        is_claimable.then(|| {
            self.state = JobState::Running;
            self.attempts += 1;
            self.token = token;
            self.target_revision_at_claim = self.target_revision;
            self.lease_expired = false;
        })
    }

    /// Returns whether a claim is still valid: what renewing, completing, failing and releasing match.
    pub(crate) fn is_claimed_with(&self, config: &Config, token: u8) -> bool {
        self.state == JobState::Running && (self.token == token || config.has(Mutation::IgnoreClaimToken))
    }

    /// Models `jobs::complete`; returns whether the job is completed.
    pub(crate) fn complete(&mut self, config: &Config, reached: Revision) -> bool {
        let runs_again = self.target_revision > reached && !config.has(Mutation::CompleteBelowTarget);
        if runs_again {
            self.attempts = 0;
            self.make_pending();
        }
        !runs_again
    }

    /// Models `jobs::fail`; returns whether the job is dead.
    pub(crate) fn fail(&mut self, config: &Config) -> bool {
        let spent = self.may_die && self.attempts >= config.max_attempts;
        self.end_attempt(config, spent)
    }

    /// Models `jobs::release`.
    pub(crate) fn release(&mut self) {
        self.attempts = self.attempts.saturating_sub(1);
        self.make_pending();
    }

    /// Models `jobs::rescue_expired`; returns whether the job is dead.
    pub(crate) fn rescue(&mut self, config: &Config) -> bool {
        let spent = self.state == JobState::Running && self.may_die && self.attempts >= config.max_attempts;
        self.end_attempt(config, spent)
    }

    fn end_attempt(&mut self, config: &Config, spent: bool) -> bool {
        let has_newer_target =
            self.target_revision > self.target_revision_at_claim && !config.has(Mutation::DieBelowTarget);
        if spent && has_newer_target {
            self.attempts = 0;
        }
        self.make_pending();
        spent && !has_newer_target
    }

    fn make_pending(&mut self) {
        self.state = JobState::Pending;
        self.token = 0;
        self.lease_expired = false;
    }
}
