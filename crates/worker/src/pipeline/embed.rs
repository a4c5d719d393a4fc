//! Second stage: embeds drafts.

use std::sync::Arc;

use guildex_document::PointDraft;
use guildex_embed::{EmbedError, Embedder, ModelError, Passage};
use guildex_index::Point;
use tracing::Instrument;

use super::stage::StageContext;
use super::task::{Embedded, IndexTask, Loaded, Plan};
use crate::circuit_breaker::GuardError;
use crate::completer::Outcome;

pub(super) async fn embed(context: &StageContext, batch: Loaded) -> Embedded {
    if context.job.stop.is_cancelled() {
        return Vec::new();
    }
    let passages: Vec<Passage> = batch.iter().flat_map(|task| passages(&task.plan)).collect();
    if passages.is_empty() {
        return batch.into_iter().map(|task| with_vectors(task, &mut std::iter::empty())).collect();
    }
    let embedder = match context.job.models.get(&context.collection.model).await {
        Ok(embedder) => embedder,
        Err(error) => return without_model(batch, &error),
    };
    match vectors(context, &embedder, &batch, &passages).await {
        Ok(vectors) => {
            let mut vectors = vectors.into_iter();
            batch.into_iter().map(|task| with_vectors(task, &mut vectors)).collect()
        }
        Err(GuardError::Failed(error)) if error.is_timed_out() => abandon(context, batch, &error),
        Err(GuardError::Failed(error)) => {
            tracing::warn!(%error, "failed to embed a batch; retrying session by session");
            one_by_one(context, &embedder, batch).await
        }
        Err(GuardError::Stopped) => Vec::new(),
    }
}

/// Waits for a remote model that is unavailable.
async fn vectors(
    context: &StageContext,
    embedder: &Arc<dyn Embedder>,
    batch: &[IndexTask<PointDraft>],
    passages: &[Passage],
) -> Result<Vec<Vec<f32>>, GuardError<EmbedError>> {
    let (limit, _) = context.limit(batch.iter().map(|task| &task.task));
    let embed = || embedder.embed_within(passages.to_vec(), limit.soft);
    context.job.breaker.guard("embedding model", embed, EmbedError::is_unavailable).await
}

/// A call that hangs is not repeated for each session: each may cost a thread. After their second time out the jobs run
/// in isolation, which shows which of them causes it.
fn abandon(context: &StageContext, batch: Loaded, error: &EmbedError) -> Embedded {
    let (_, jobs) = context.limit(batch.iter().map(|task| &task.task));
    context.job.limiter.in_flight().abandon(&jobs);
    let error = format!("embedding took longer than its soft limit: {error}");
    batch.into_iter().for_each(|task| task.task.finish(Outcome::TimedOut(error.clone())));
    Vec::new()
}

async fn one_by_one(context: &StageContext, embedder: &Arc<dyn Embedder>, batch: Loaded) -> Embedded {
    let mut embedded = Vec::with_capacity(batch.len());
    for task in batch {
        let (span, passages) = (task.task.span().clone(), passages(&task.plan));
        let call = vectors(context, embedder, std::slice::from_ref(&task), &passages);
        match call.instrument(span).await {
            Ok(vectors) => embedded.push(with_vectors(task, &mut vectors.into_iter())),
            Err(GuardError::Failed(error)) if error.is_timed_out() => {
                embedded.extend(abandon(context, vec![task], &error));
            }
            Err(GuardError::Failed(error)) => task.task.finish(Outcome::Failed(error.to_string())),
            Err(GuardError::Stopped) => return embedded,
        }
    }
    embedded
}

/// The model was loaded a moment ago, to count tokens.
fn without_model(batch: Loaded, error: &ModelError) -> Embedded {
    batch.into_iter().for_each(|task| task.task.finish(Outcome::Failed(error.to_string())));
    Vec::new()
}

fn passages(plan: &Plan<PointDraft>) -> Vec<Passage> {
    match plan {
        Plan::Write { points, .. } => points.iter().map(|draft| draft.passage.clone()).collect(),
        Plan::Remove | Plan::Keep => Vec::new(),
    }
}

/// Gives each draft of a task the next vector.
fn with_vectors(
    task: IndexTask<PointDraft>,
    vectors: &mut impl Iterator<Item = Vec<f32>>,
) -> IndexTask<Point> {
    let IndexTask { task, session, plan } = task;
    let plan = match plan {
        Plan::Remove => Plan::Remove,
        Plan::Keep => Plan::Keep,
        Plan::Write { points, content_hash } => {
            let vectors: Vec<_> = vectors.take(points.len()).collect();
            Plan::Write { points: PointDraft::into_points(points, &vectors), content_hash }
        }
    };
    IndexTask { task, session, plan }
}
