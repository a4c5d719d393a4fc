//! Deliveries become claims, in batches: one statement takes many jobs.

use std::collections::HashMap;
use std::sync::Arc;

use guildex_store::jobs::{self, Claimed, Failure};
use guildex_types::{Job, JobId};
use sqlx::PgPool;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::claims::{Claims, Held};
use crate::config::WorkerConfig;
use crate::retry::until_stored;

/// A job id from Redis, and where to acknowledge it.
pub(crate) type Arrived = (JobId, oneshot::Sender<()>);

/// Claims what arrives.
pub(crate) struct Intake {
    pub pool: PgPool,
    pub worker: String,
    pub claims: Arc<Claims>,
    /// As many as jobs may be in flight.
    pub slots: Arc<Semaphore>,
    pub config: WorkerConfig,
}

impl Intake {
    /// Gathers deliveries into batches of claimed, decoded jobs until the last sender is gone.
    pub async fn run(self, mut arrived: mpsc::Receiver<Arrived>, batches: mpsc::Sender<Vec<Held>>) {
        while let Some(first) = arrived.recv().await {
            let batch = self.gather(first, &mut arrived).await;
            let (suspects, others): (Vec<_>, Vec<_>) =
                self.claim(batch).await.into_iter().partition(|(claimed, _)| claimed.suspect);
            let mut together = Vec::with_capacity(others.len());
            for (claimed, delivery) in others {
                together.extend(self.take(claimed, delivery, 1).await);
            }
            if !together.is_empty() && batches.send(together).await.is_err() {
                break;
            }
            // A suspect takes all slots: it waits until nothing else runs, and nothing else starts beside it.
            for (claimed, delivery) in suspects {
                let all = self.config.concurrency.total();
                let Some(held) = self.take(claimed, delivery, all).await else { continue };
                tracing::info!(job = %held.id, "running alone: it outlived a lease");
                let _ = batches.send(vec![held]).await;
            }
        }
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

    /// What cannot be claimed is a duplicate delivery: it is acknowledged by being dropped here.
    async fn claim(&self, batch: Vec<Arrived>) -> Vec<(Claimed, oneshot::Sender<()>)> {
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
        taken
    }

    /// Decodes a claimed job and waits for its slots. One that is no job this program knows is dead.
    async fn take(&self, claimed: Claimed, delivery: oneshot::Sender<()>, slots: usize) -> Option<Held> {
        let Claimed { id, token, payload, wanted, attempt, .. } = claimed;
        let job = match Job::decode(&payload) {
            Ok(job) => job,
            Err(error) => {
                let error = error.to_string();
                tracing::error!(job = %id, error, "a job is dead");
                let _ = until_stored("burying a job", || {
                    jobs::fail(&self.pool, (id, token), &error, &Failure::Permanent)
                })
                .await;
                self.claims.end([id]);
                return None;
            }
        };
        let slots = u32::try_from(slots).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        let slots = self.slots.clone().acquire_many_owned(slots).await.ok()?;
        Some(Held { id, token, job, wanted, attempt, _delivery: delivery, _slots: slots })
    }
}
