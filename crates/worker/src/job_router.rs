//! Passes claimed jobs to the code that runs them.

use guildex_consistency::ownership::OwnershipError;
use guildex_types::{JobQueue, Task};
use tokio::sync::mpsc;
use tracing::Instrument;

use crate::circuit_breaker::GuardError;
use crate::claimed_job::ClaimedJob;
use crate::job_context::{INDEX, JobContext};
use crate::jobs::{backfill_channel, index_session, remove_points};
use crate::model_collections::Snapshot;
use crate::pipeline::Pipelines;

/// Runs the jobs of one queue. Each queue has its own pipelines, so that a deletion never waits behind an embedding.
pub(crate) struct JobRouter {
    context: JobContext,
    pipelines: Pipelines,
}

impl JobRouter {
    /// Starts a router. It ends with the sender and its jobs.
    pub fn start(context: JobContext, queue: JobQueue) -> mpsc::Sender<Vec<ClaimedJob>> {
        let (batches, mut claimed) = mpsc::channel::<Vec<ClaimedJob>>(1);
        let pipelines = Pipelines::new(context.clone(), queue);
        let mut router = Self { context, pipelines };
        tokio::spawn(async move {
            while let Some(batch) = claimed.recv().await {
                router.run(batch).await;
            }
        });
        batches
    }

    /// Starts a batch of jobs. While the index is unavailable all of them wait. Jobs that are dropped are released.
    async fn run(&mut self, batch: Vec<ClaimedJob>) {
        let snapshot = match self.snapshot().await {
            Ok(snapshot) => snapshot,
            Err(GuardError::Failed(error)) => {
                tracing::error!(%error, jobs = batch.len(), "collections unusable; releasing jobs");
                return;
            }
            Err(GuardError::Stopped) => return,
        };
        let mut sessions = Vec::with_capacity(batch.len());
        for claimed in batch {
            let (context, collections) = (self.context.clone(), snapshot.collections.clone());
            let span = claimed.span.clone();
            // A panic ends its task alone; dropping the job reports it.
            match &claimed.job.task {
                Task::IndexSession { .. } | Task::DeleteSession { .. } => sessions.push(claimed),
                Task::RemovePoints { .. } => {
                    let run = async move { remove_points::run(&context, claimed, &collections).await };
                    tokio::spawn(run.instrument(span));
                }
                Task::BackfillChannel { .. } => {
                    let run = async move { backfill_channel::run(&context, claimed).await };
                    tokio::spawn(run.instrument(span));
                }
            }
        }
        index_session::run(&mut self.pipelines, sessions, &snapshot).await;
    }

    async fn snapshot(&self) -> Result<Snapshot, GuardError<OwnershipError>> {
        let current = || self.context.collections.current();
        self.context.breaker.guard(INDEX, current, OwnershipError::is_unavailable).await
    }
}
