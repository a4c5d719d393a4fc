//! The pipeline of session jobs: load, embed, upsert.
//!
//! The stages overlap: while one batch is embedded, the next is loaded and the previous one upserted, so that the model
//! never waits for a database. A batch that fails is retried session by session, so that one failing session fails
//! alone.

mod embed;
mod load;
mod orphans;
mod stage;
mod task;
mod upsert;

use std::collections::BTreeMap;
use std::sync::Arc;

use guildex_types::{JobQueue, ModelSlug};
use tokio::sync::mpsc;
use tracing::Instrument;

use self::stage::{StageContext, run_stage};
use crate::fan_out::ModelTask;
use crate::job_context::JobContext;
use crate::model_collections::ModelCollection;

/// Pipelines of one queue, one for each model.
pub(crate) struct Pipelines {
    context: JobContext,
    queue: JobQueue,
    by_model: BTreeMap<ModelSlug, (ModelCollection, Pipeline)>,
}

/// Stages of one queue and model.
struct Pipeline(mpsc::Sender<Vec<ModelTask>>);

impl Pipelines {
    pub fn new(context: JobContext, queue: JobQueue) -> Self {
        Self { context, queue, by_model: BTreeMap::new() }
    }

    /// Passes each collection its tasks. Starts pipelines of new collections and ends those of dropped ones.
    pub async fn push(&mut self, collections: &[ModelCollection], tasks: Vec<Vec<ModelTask>>) {
        self.by_model.retain(|_, (collection, _)| collections.contains(collection));
        for (collection, tasks) in collections.iter().zip(tasks) {
            let start = || {
                let stage = StageContext {
                    job: self.context.clone(),
                    queue: self.queue,
                    collection: collection.clone(),
                };
                (collection.clone(), Pipeline::start(Arc::new(stage)))
            };
            let (_, pipeline) = self.by_model.entry(collection.model.clone()).or_insert_with(start);
            pipeline.push(tasks).await;
        }
    }
}

impl Pipeline {
    /// Starts the stages. They end when the pipeline is dropped and its tasks are finished.
    fn start(context: Arc<StageContext>) -> Self {
        let (batches, incoming) = mpsc::channel(1);
        let loaded = run_stage(incoming, context.clone(), |context, batch: Vec<_>| {
            let span = context.batch_span(batch.len());
            async move { load::load(&context, batch).await }.instrument(span)
        });
        let embedded = run_stage(loaded, context.clone(), |context, batch: Vec<_>| {
            let span = context.batch_span(batch.len());
            async move { embed::embed(&context, batch).await }.instrument(span)
        });
        let mut upserted = run_stage(embedded, context, |context, batch: Vec<_>| {
            let span = context.batch_span(batch.len());
            async move { upsert::upsert(&context, batch).await }.instrument(span)
        });
        tokio::spawn(async move { while upserted.recv().await.is_some() {} });
        Self(batches)
    }

    async fn push(&self, batch: Vec<ModelTask>) {
        let _ = self.0.send(batch).await;
    }
}
