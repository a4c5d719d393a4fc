//! Claims delivered jobs, many with one statement.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use guildex_store::jobs::{self, Claimed, Failure};
use guildex_types::{Job, JobId, RetryPolicy};
use sqlx::PgPool;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info_span};

use crate::circuit_breaker::CircuitBreaker;
use crate::claimed_job::ClaimedJob;
use crate::completer::{Completer, DeliveryAck, fail};
use crate::config::WorkerConfig;
use crate::lease_keeper::LeaseKeeper;
use crate::retry::retry_transient;

/// Shortest delay of a job that waits for a newer release: upgrades take a while.
const UPGRADE_DELAY: Duration = Duration::from_secs(30);

/// A job id from Redis.
pub(crate) struct DeliveredId {
    pub id: JobId,
    /// Dropped to acknowledge the delivery.
    pub ack: oneshot::Sender<()>,
}

/// A claimed row with its delivery.
struct ClaimedDelivery {
    claimed: Claimed,
    ack: oneshot::Sender<()>,
}

/// Turns deliveries of one queue into claimed jobs.
pub(crate) struct Claimer {
    pub pool: PgPool,
    /// The worker's name, recorded with the claim.
    pub worker: String,
    pub leases: Arc<LeaseKeeper>,
    /// One slot for each job that may run.
    pub slots: Arc<Semaphore>,
    pub retry: RetryPolicy,
    pub config: WorkerConfig,
    pub completer: Completer,
    /// Nothing is claimed while it is open.
    pub breaker: CircuitBreaker,
    /// Cancelled when nothing more may be claimed.
    pub stop: CancellationToken,
}

impl Claimer {
    /// Claims deliveries in batches until the last sender is dropped. Deliveries that arrive after the stop are requeued.
    pub async fn run(
        self,
        mut deliveries: mpsc::Receiver<DeliveredId>,
        batches: mpsc::Sender<Vec<ClaimedJob>>,
    ) {
        while let Some(first) = deliveries.recv().await {
            self.breaker.closed().await;
            let batch = self.gather(first, &mut deliveries).await;
            if self.stop.is_cancelled() {
                self.requeue(&batch).await;
                continue;
            }
            let (claimed, unclaimed) = self.claim(batch).await;
            self.pass_on(claimed, &batches).await;
            for quarantined in self.quarantined(unclaimed).await {
                self.run_isolated(quarantined, &batches).await;
            }
        }
    }

    /// A batch ends when it is full, when `batch_wait` is over, or with the last sender.
    async fn gather(
        &self,
        first: DeliveredId,
        deliveries: &mut mpsc::Receiver<DeliveredId>,
    ) -> Vec<DeliveredId> {
        let mut batch = vec![first];
        let _ = timeout(self.config.batch_wait, async {
            while batch.len() < self.config.batch_size {
                let room = self.config.batch_size - batch.len();
                if deliveries.recv_many(&mut batch, room).await == 0 {
                    break;
                }
            }
        })
        .await;
        batch
    }

    async fn requeue(&self, batch: &[DeliveredId]) {
        let ids: Vec<JobId> = batch.iter().map(|delivery| delivery.id).collect();
        if let Err(error) = jobs::requeue(&self.pool, &ids).await {
            tracing::warn!(%error, "failed to requeue deliveries; they are redelivered when their lease expires");
        }
    }

    /// Claims what can run beside other jobs. Returns the rest, too. If the claim fails, jobs stay queued until their
    /// lease expires.
    async fn claim(&self, batch: Vec<DeliveredId>) -> (Vec<ClaimedDelivery>, Vec<DeliveredId>) {
        let ids: Vec<JobId> = batch.iter().map(|delivery| delivery.id).collect();
        let claim = || jobs::claim(&self.pool, &ids, &self.worker, self.config.lease);
        let claimed = retry_transient("claiming jobs", claim).await.unwrap_or_default();
        let mut acks: HashMap<_, _> = batch.into_iter().map(|delivery| (delivery.id, delivery.ack)).collect();
        let claimed: Vec<_> = claimed
            .into_iter()
            .filter_map(|claimed| Some(ClaimedDelivery { ack: acks.remove(&claimed.id)?, claimed }))
            .collect();
        for ClaimedDelivery { claimed, .. } in &claimed {
            self.leases.add((claimed.id, claimed.token));
        }
        (claimed, acks.into_iter().map(|(id, ack)| DeliveredId { id, ack }).collect())
    }

    /// Quarantined jobs among those that were not claimed. The rest are duplicate deliveries, acknowledged by dropping
    /// them.
    async fn quarantined(&self, unclaimed: Vec<DeliveredId>) -> Vec<DeliveredId> {
        if unclaimed.is_empty() {
            return unclaimed;
        }
        let ids: Vec<JobId> = unclaimed.iter().map(|delivery| delivery.id).collect();
        let find = || jobs::quarantined(&self.pool, &ids);
        let found = retry_transient("finding quarantined jobs", find).await.unwrap_or_default();
        unclaimed.into_iter().filter(|delivery| found.contains(&delivery.id)).collect()
    }

    /// Waits until no other job runs, keeps others from starting, and only then claims the job.
    async fn run_isolated(&self, delivery: DeliveredId, batches: &mpsc::Sender<Vec<ClaimedJob>>) {
        let all = u32::try_from(self.config.slots()).unwrap_or(u32::MAX);
        let free = self.slots.clone().acquire_many_owned(all);
        let Some(Ok(slots)) = self.stop.run_until_cancelled(free).await else {
            return self.requeue(&[delivery]).await;
        };
        let claim = || jobs::claim_isolated(&self.pool, delivery.id, &self.worker, self.config.lease);
        let claimed = retry_transient("claiming a quarantined job", claim).await.ok().flatten();
        let Some(claimed) = claimed else { return };
        self.leases.add((claimed.id, claimed.token));
        if let Some(job) = self.decode(&claimed).await {
            let job = self.job(&claimed, job, delivery.ack, slots);
            tracing::info!(parent: &job.span, "running quarantined job in isolation");
            let _ = batches.send(vec![job]).await;
        }
    }

    /// Decodes claimed jobs, waits for their slots, and passes them on. All slots are acquired at once: holding some
    /// while waiting for more could deadlock with a quarantined job, which needs all of them.
    async fn pass_on(&self, claimed: Vec<ClaimedDelivery>, batches: &mpsc::Sender<Vec<ClaimedJob>>) {
        let mut decoded = Vec::with_capacity(claimed.len());
        for delivery in claimed {
            decoded.extend(self.decode(&delivery.claimed).await.map(|job| (delivery, job)));
        }
        if decoded.is_empty() {
            return;
        }
        let count = u32::try_from(decoded.len()).unwrap_or(u32::MAX);
        // The semaphore is never closed, and has at least as many permits as a batch has jobs. Jobs that wait for slots
        // when the worker stops are released with its leases.
        let free = self.slots.clone().acquire_many_owned(count);
        let Some(Ok(mut slots)) = self.stop.run_until_cancelled(free).await else { return };
        let jobs = decoded.into_iter().filter_map(|(delivery, job)| {
            Some(self.job(&delivery.claimed, job, delivery.ack, slots.split(1)?))
        });
        let _ = batches.send(jobs.collect()).await;
    }

    fn job(
        &self,
        claimed: &Claimed,
        job: Job,
        ack: oneshot::Sender<()>,
        slots: OwnedSemaphorePermit,
    ) -> ClaimedJob {
        let (id, attempt) = (claimed.id, claimed.attempt);
        let span = info_span!("job", %id, kind = %job.kind(), guild = %job.guild_id, attempt);
        let ack = DeliveryAck { _delivery: ack, _slots: slots };
        ClaimedJob::new(claimed, job, span, self.completer.clone(), ack)
    }

    /// Decodes a payload. A payload that is no job moves to the dead-letter state, unless it is a deletion. One of a
    /// newer release waits for a worker that can read it.
    async fn decode(&self, claimed: &Claimed) -> Option<Job> {
        let (error, failure) = match Job::decode(&claimed.payload) {
            Ok(job) => return Some(job),
            Err(error) if error.needs_newer_release() => {
                let after = self.retry.delay(claimed.attempt).max(UPGRADE_DELAY);
                (
                    format!("{error}; written by a newer release: upgrade the workers"),
                    Failure::Retry { after },
                )
            }
            Err(error) => (error.to_string(), Failure::Permanent),
        };
        let lease = (claimed.id, claimed.token);
        let span = info_span!("job", id = %claimed.id, attempt = claimed.attempt);
        fail(&self.pool, lease, &error, failure).instrument(span).await;
        self.leases.remove([lease]);
        None
    }
}
