//! A stage of the pipeline, and what all stages use.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::future::try_join_all;
use futures::{FutureExt, StreamExt};
use guildex_index::Error;
use guildex_types::{GuildId, JobId, JobQueue, Revision, SessionId};
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tracing::{Span, info_span};

use crate::fan_out::ModelTask;
use crate::job_context::JobContext;
use crate::model_collections::ModelCollection;
use crate::time_limits::TimeLimit;

/// Batches that a stage works on at the same time. Two, so that one continues while the other waits for I/O or for the
/// last text of its batch.
const OVERLAP: usize = 2;

/// Sessions by guild, each with the revision below which its points are outdated.
pub(super) type OutdatedPoints = BTreeMap<GuildId, Vec<(SessionId, Revision)>>;

/// Context of the stages of one queue and model.
pub(super) struct StageContext {
    pub job: JobContext,
    pub queue: JobQueue,
    pub collection: ModelCollection,
}

impl StageContext {
    pub fn pool(&self) -> &PgPool {
        self.job.ingest.pool()
    }

    /// Span of a batch in a stage.
    pub fn batch_span(&self, jobs: usize) -> Span {
        info_span!("batch", queue = %self.queue, model = %self.collection.model, jobs)
    }

    /// Time limit of each step of a batch, and the ids of its jobs.
    pub fn limit<'a>(&self, batch: impl Iterator<Item = &'a ModelTask> + Clone) -> (TimeLimit, Arc<[JobId]>) {
        let limit = self.job.limiter.limit(batch.clone().map(|task| task.job().kind()));
        (limit, batch.map(ModelTask::id).collect())
    }

    /// Deletes outdated points of all guilds at the same time, so that the index can make them durable together. Ends with
    /// the first failure, so that an unavailable index is not called once for each guild.
    pub async fn delete_outdated(&self, points: &OutdatedPoints) -> Result<(), Error> {
        let collection = &self.collection.collection;
        let delete =
            points.iter().map(|(guild, sessions)| self.job.index.delete_below(collection, *guild, sessions));
        try_join_all(delete).await.map(drop)
    }
}

/// Runs `work` on each batch in a separate task, [`OVERLAP`] batches at the same time, and passes on the results.
pub(super) fn run_stage<A, B, F>(
    batches: mpsc::Receiver<A>,
    context: Arc<StageContext>,
    work: impl Fn(Arc<StageContext>, A) -> F + Send + 'static,
) -> mpsc::Receiver<B>
where
    A: Send + 'static,
    B: Send + 'static,
    F: Future<Output = B> + Send + 'static,
{
    let (sender, results) = mpsc::channel(1);
    tokio::spawn(async move {
        // A panic must not end the stage. It drops the batch, which reports each of its jobs.
        let mut done = ReceiverStream::new(batches)
            .map(move |batch| AssertUnwindSafe(work(context.clone(), batch)).catch_unwind())
            .buffer_unordered(OVERLAP);
        while let Some(outcome) = done.next().await {
            if let Ok(result) = outcome
                && sender.send(result).await.is_err()
            {
                break;
            }
        }
    });
    results
}
