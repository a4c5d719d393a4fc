//! Outcomes go into the ledger, in batches, and only then are deliveries acknowledged.

use std::sync::Arc;
use std::time::Duration;

use guildex_store::jobs::{self, Failure};
use guildex_types::Revision;
use sqlx::PgPool;
use tokio::sync::mpsc;

use crate::claims::{Claims, Held};
use crate::retry::{backoff, until_stored};

/// How an attempt ended.
pub(crate) enum Outcome {
    /// The session is in step with this revision; for other jobs, with what was wanted.
    Done(Revision),
    /// Another attempt may help.
    Failed(String),
}

/// How many outcomes are written at a time, at most.
const BATCH: usize = 256;

/// Takes outcomes.
#[derive(Clone)]
pub(crate) struct Finisher(mpsc::Sender<(Held, Outcome)>);

impl Finisher {
    pub async fn end(&self, held: Held, outcome: Outcome) {
        // Nobody takes outcomes any more once the worker has given its claims back.
        let _ = self.0.send((held, outcome)).await;
    }
}

/// Starts writing outcomes; ends when the last [`Finisher`] is gone.
pub(crate) fn start(pool: PgPool, claims: Arc<Claims>, base: Duration, max: Duration) -> Finisher {
    let (outcomes, mut ended) = mpsc::channel(BATCH);
    tokio::spawn(async move {
        let mut batch: Vec<(Held, Outcome)> = Vec::with_capacity(BATCH);
        while ended.recv_many(&mut batch, BATCH).await > 0 {
            write(&pool, &batch, base, max).await;
            claims.end(batch.iter().map(|(held, _)| (held.id, held.token)));
            batch.clear();
        }
    });
    Finisher(outcomes)
}

async fn write(pool: &PgPool, batch: &[(Held, Outcome)], base: Duration, max: Duration) {
    let done: Vec<_> = batch
        .iter()
        .filter_map(|(held, outcome)| match outcome {
            Outcome::Done(revision) => Some((held.id, held.token, *revision)),
            Outcome::Failed(_) => None,
        })
        .collect();
    // What cannot be written is logged there, and the jobs come again when their leases are over.
    if !done.is_empty() {
        let _ = until_stored("completing jobs", || jobs::complete(pool, &done)).await;
    }
    for (held, outcome) in batch {
        let Outcome::Failed(error) = outcome else { continue };
        let failure = Failure::Retry { after: backoff(held.attempt, base, max) };
        let claim = (held.id, held.token);
        let dead =
            until_stored("failing a job", || jobs::fail(pool, claim, error, &failure)).await.unwrap_or(false);
        let (job, kind, attempt) = (held.id, held.job.kind(), held.attempt);
        if dead {
            tracing::error!(%job, %kind, attempt, error, "a job is dead");
        } else {
            tracing::warn!(%job, %kind, attempt, error, "a job failed");
        }
    }
}
