//! Outcomes go into the ledger, in batches, and only then are deliveries acknowledged.

use std::sync::Arc;
use std::time::Duration;

use guildex_store::jobs::{self, ClaimToken, Failure};
use guildex_types::{JobId, JobKind, Revision};
use sqlx::PgPool;
use tokio::sync::mpsc;

use crate::claims::{Claims, Receipt};
use crate::config::WorkerConfig;
use crate::retry::{backoff, until_stored};

/// How an attempt ended.
pub(crate) enum Outcome {
    /// The session is in step with this revision; for other jobs, with what was wanted.
    Done(Revision),
    /// Another attempt may help.
    Failed(String),
    /// It took too long, or something that shared its batch did.
    Overdue(String),
    /// It panicked, or something that shared its batch did.
    Panicked,
    /// It was not tried to the end, since the worker stops or something has to come first.
    LetGo,
}

impl Outcome {
    /// Of what was dropped without a word.
    pub fn of_dropped() -> Self {
        if std::thread::panicking() { Self::Panicked } else { Self::LetGo }
    }

    /// What two parts of one job come to.
    pub fn worse(self, other: Self) -> Self {
        match (self, other) {
            (Self::Panicked, _) | (_, Self::Panicked) => Self::Panicked,
            (Self::Overdue(error), _) | (_, Self::Overdue(error)) => Self::Overdue(error),
            (Self::Failed(error), _) | (_, Self::Failed(error)) => Self::Failed(error),
            (Self::LetGo, _) | (_, Self::LetGo) => Self::LetGo,
            (Self::Done(one), Self::Done(two)) => Self::Done(one.min(two)),
        }
    }
}

/// A job with the outcome of its attempt.
pub(crate) struct Ended {
    pub id: JobId,
    pub token: ClaimToken,
    pub kind: JobKind,
    pub attempt: u32,
    pub outcome: Outcome,
    pub _receipt: Receipt,
}

/// How many outcomes are written at a time, at most.
const BATCH: usize = 256;

/// How long a job that was let go rests, so that it does not go round in circles.
const PAUSE: Duration = Duration::from_millis(500);

/// Takes outcomes; the slots bound how many wait.
#[derive(Clone)]
pub(crate) struct Finisher(mpsc::UnboundedSender<Ended>);

impl Finisher {
    pub fn take(&self, ended: Ended) {
        // The other end lives as long as this one.
        let _ = self.0.send(ended);
    }
}

/// How long jobs rest, in one way or another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pauses {
    /// After a first failure; doubled with each further one.
    pub base: Duration,
    /// After many.
    pub max: Duration,
    /// Before the second look at what was taken from another worker.
    pub second_look: Duration,
}

impl Pauses {
    pub fn of(config: &WorkerConfig) -> Self {
        let WorkerConfig { backoff_base: base, backoff_max: max, second_look, .. } = *config;
        Self { base, max, second_look }
    }
}

/// Starts writing outcomes; ends when the last [`Finisher`] is gone.
pub(crate) fn start(pool: PgPool, claims: Arc<Claims>, pauses: Pauses) -> Finisher {
    let (outcomes, mut ended) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut batch: Vec<Ended> = Vec::with_capacity(BATCH);
        while ended.recv_many(&mut batch, BATCH).await > 0 {
            write(&pool, &batch, pauses).await;
            claims.end(batch.iter().map(|ended| (ended.id, ended.token)));
            batch.clear();
        }
    });
    Finisher(outcomes)
}

/// What cannot be written is logged on the way, and the jobs come again when their leases are over.
async fn write(pool: &PgPool, batch: &[Ended], pauses: Pauses) {
    let (mut done, mut let_go) = (Vec::new(), Vec::new());
    for ended in batch {
        let pause = || backoff(ended.attempt, pauses.base, pauses.max);
        match &ended.outcome {
            Outcome::Done(revision) => done.push((ended.id, ended.token, *revision)),
            Outcome::LetGo => let_go.push((ended.id, ended.token)),
            Outcome::Failed(error) => fail(pool, ended, error, &Failure::Retry { after: pause() }).await,
            Outcome::Overdue(error) => fail(pool, ended, error, &Failure::Crashed { after: pause() }).await,
            Outcome::Panicked => {
                fail(pool, ended, "it panicked, or its batch did", &Failure::Crashed { after: pause() })
                    .await;
            }
        }
    }
    if !done.is_empty() {
        let _ = until_stored("completing jobs", || jobs::complete(pool, &done, pauses.second_look)).await;
    }
    if !let_go.is_empty() {
        let _ = until_stored("giving jobs back", || jobs::release(pool, &let_go, PAUSE)).await;
    }
}

async fn fail(pool: &PgPool, ended: &Ended, error: &str, failure: &Failure) {
    let claim = (ended.id, ended.token);
    let dead = until_stored("failing a job", || jobs::fail(pool, claim, error, failure)).await;
    let Ended { id: job, kind, attempt, .. } = ended;
    if dead.unwrap_or(false) {
        tracing::error!(%job, %kind, attempt, error, "a job is dead");
    } else {
        tracing::warn!(%job, %kind, attempt, error, "a job failed");
    }
}
