//! Deliveries become claims, in batches: one statement takes many jobs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use guildex_store::jobs::{self, Claimed, Failure};
use guildex_types::{Job, JobId};
use sqlx::PgPool;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::breaker::Breaker;
use crate::claims::{Claims, Held, Receipt};
use crate::config::WorkerConfig;
use crate::finish::Finisher;
use crate::retry::{backoff, until_stored};

/// The shortest pause of a job that waits for a newer release: an upgrade takes its time.
const UPGRADE: Duration = Duration::from_secs(30);

/// A job id from Redis, and where to acknowledge it.
pub(crate) type Arrived = (JobId, oneshot::Sender<()>);

/// A claimed job, and where to acknowledge it.
type Delivered = (Claimed, oneshot::Sender<()>);

/// Claims what arrives.
pub(crate) struct Intake {
    pub pool: PgPool,
    pub worker: String,
    pub claims: Arc<Claims>,
    /// As many as jobs may be in flight.
    pub slots: Arc<Semaphore>,
    pub config: WorkerConfig,
    pub finisher: Finisher,
    /// While it is open nothing is claimed.
    pub breaker: Breaker,
    /// Cancelled when nothing more is to be claimed.
    pub stop: CancellationToken,
}

impl Intake {
    /// Gathers deliveries into batches of claimed, decoded jobs until the last sender is gone. After the stop
    /// nothing is claimed: what still arrives is pending again.
    pub async fn run(self, mut arrived: mpsc::Receiver<Arrived>, batches: mpsc::Sender<Vec<Held>>) {
        while let Some(first) = arrived.recv().await {
            self.breaker.closed().await;
            let batch = self.gather(first, &mut arrived).await;
            if self.stop.is_cancelled() {
                self.refuse(&batch).await;
                continue;
            }
            let (claimed, rest) = self.claim(batch).await;
            self.pass_on(claimed, &batches).await;
            for suspect in self.suspects(rest).await {
                self.run_alone(suspect, &batches).await;
            }
        }
    }

    async fn refuse(&self, batch: &[Arrived]) {
        let ids: Vec<JobId> = batch.iter().map(|(id, _)| *id).collect();
        if let Err(error) = jobs::requeue(&self.pool, &ids).await {
            tracing::warn!(%error, "could not give deliveries back; they return when their lease is over");
        }
    }

    /// Decodes claimed jobs, waits for a slot each, and hands them over. All slots are taken at once: whoever
    /// held some while waiting for more could wait for ever beside a suspect that wants all.
    async fn pass_on(&self, claimed: Vec<Delivered>, batches: &mpsc::Sender<Vec<Held>>) {
        let mut decoded = Vec::with_capacity(claimed.len());
        for (claimed, delivery) in claimed {
            decoded.extend(self.decode(claimed).await.map(|(claimed, job)| (claimed, job, delivery)));
        }
        if decoded.is_empty() {
            return;
        }
        let all = u32::try_from(decoded.len()).unwrap_or(u32::MAX);
        // The semaphore is never closed, and has as many permits as a batch has jobs at least. Claims that wait
        // when the worker stops are given back by it.
        let free = self.slots.clone().acquire_many_owned(all);
        let Some(Ok(mut all)) = self.stop.run_until_cancelled(free).await else { return };
        let held = decoded
            .into_iter()
            .filter_map(|(claimed, job, delivery)| Some(self.hold(claimed, job, delivery, all.split(1)?)));
        let _ = batches.send(held.collect()).await;
    }

    /// A suspect takes all slots: it waits until nothing else runs, and nothing else starts beside it. It is claimed
    /// only then.
    async fn run_alone(&self, (id, delivery): Arrived, batches: &mpsc::Sender<Vec<Held>>) {
        let all = u32::try_from(self.config.concurrency.total()).unwrap_or(u32::MAX);
        let free = self.slots.clone().acquire_many_owned(all);
        let Some(Ok(slots)) = self.stop.run_until_cancelled(free).await else {
            return self.refuse(&[(id, delivery)]).await;
        };
        let claim = || jobs::claim_isolated(&self.pool, id, &self.worker, self.config.lease);
        let claimed = until_stored("claiming a job", claim).await.ok().flatten();
        let Some(claimed) = claimed else { return };
        self.claims.add(claimed.id, claimed.token);
        tracing::info!(job = %id, "running alone: it lapsed twice");
        if let Some((claimed, job)) = self.decode(claimed).await {
            let _ = batches.send(vec![self.hold(claimed, job, delivery, slots)]).await;
        }
    }

    fn hold(
        &self,
        claimed: Claimed,
        job: Job,
        delivery: oneshot::Sender<()>,
        slots: OwnedSemaphorePermit,
    ) -> Held {
        let Claimed { id, token, target_revision: wanted, attempt, .. } = claimed;
        let receipt = Some(Receipt { _delivery: delivery, _slots: slots });
        Held { id, token, job, wanted, attempt, finisher: self.finisher.clone(), receipt }
    }

    /// How long a job waits for a release that can read it.
    fn patience(&self, attempt: u32) -> Duration {
        backoff(attempt, self.config.backoff_base, self.config.backoff_max).max(UPGRADE)
    }

    async fn gather(&self, first: Arrived, arrived: &mut mpsc::Receiver<Arrived>) -> Vec<Arrived> {
        let mut batch = vec![first];
        // Ends with a full batch, a pause, or the last sender gone.
        let _ = timeout(self.config.batch_wait, async {
            while batch.len() < self.config.batch_size {
                let room = self.config.batch_size - batch.len();
                if arrived.recv_many(&mut batch, room).await == 0 {
                    break;
                }
            }
        })
        .await;
        batch
    }

    /// What can be claimed together with others, and the rest.
    async fn claim(&self, batch: Vec<Arrived>) -> (Vec<Delivered>, Vec<Arrived>) {
        let ids: Vec<JobId> = batch.iter().map(|(id, _)| *id).collect();
        let lease = self.config.lease;
        // Jobs that were not claimed stay queued until their lease is over, and come again.
        let claimed = until_stored("claiming jobs", || jobs::claim(&self.pool, &ids, &self.worker, lease))
            .await
            .unwrap_or_default();
        let mut deliveries: HashMap<_, _> = batch.into_iter().collect();
        let taken: Vec<_> = claimed
            .into_iter()
            .filter_map(|claimed| deliveries.remove(&claimed.id).map(|delivery| (claimed, delivery)))
            .collect();
        for (claimed, _) in &taken {
            self.claims.add(claimed.id, claimed.token);
        }
        (taken, deliveries.into_iter().collect())
    }

    /// Those of what could not be claimed that are to run alone. The others are duplicate deliveries: they are
    /// acknowledged by being dropped here.
    async fn suspects(&self, rest: Vec<Arrived>) -> Vec<Arrived> {
        if rest.is_empty() {
            return rest;
        }
        let ids: Vec<JobId> = rest.iter().map(|(id, _)| *id).collect();
        let suspects = until_stored("looking for suspects", || jobs::quarantined(&self.pool, &ids)).await;
        let mut deliveries: HashMap<_, _> = rest.into_iter().collect();
        let found = suspects.unwrap_or_default().into_iter();
        found.filter_map(|id| Some((id, deliveries.remove(&id)?))).collect()
    }

    /// One that is no job will never be: it is dead, unless it is a removal. One that a newer release wrote may be
    /// for another worker, or for this one once it is upgraded.
    async fn decode(&self, claimed: Claimed) -> Option<(Claimed, Job)> {
        let (error, failure) = match Job::decode(&claimed.payload) {
            Ok(job) => return Some((claimed, job)),
            Err(error) if error.needs_newer_release() => {
                let told = format!("{error}; a newer release wrote it: upgrade the workers");
                (told, Failure::Retry { after: self.patience(claimed.attempt) })
            }
            Err(error) => (error.to_string(), Failure::Permanent),
        };
        let claim = (claimed.id, claimed.token);
        let dead = until_stored("failing a job", || jobs::fail(&self.pool, claim, &error, &failure)).await;
        self.claims.end([claim]);
        tracing::error!(job = %claimed.id, error, dead = dead.unwrap_or(false), "a job cannot be read");
        None
    }
}
