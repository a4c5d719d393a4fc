//! Second stage: drafts get their vectors.

use std::sync::Arc;

use guildex_embed::{EmbedError, Embedder, ModelError, Passage};

use super::{Drafted, Embedded, Parts, Plan, Work, bounds};
use crate::breaker::Stopped;
use crate::finish::Outcome;
use guildex_document::PointDraft;

pub(super) async fn embed(parts: &Parts, batch: Drafted) -> Embedded {
    if parts.stop.is_cancelled() {
        return Vec::new();
    }
    let passages: Vec<Passage> = batch.iter().flat_map(|work| passages(&work.plan)).collect();
    if passages.is_empty() {
        return batch.into_iter().map(|work| with_vectors(work, &mut std::iter::empty())).collect();
    }
    let embedder = match parts.models.get(&parts.target.model).await {
        Ok(embedder) => embedder,
        Err(error) => return without_model(batch, &error),
    };
    match vectors(parts, &embedder, &batch, &passages).await {
        Ok(Err(error)) if error.is_timed_out() => give_up(parts, batch, &error),
        Ok(Ok(vectors)) => {
            let mut vectors = vectors.into_iter();
            batch.into_iter().map(|work| with_vectors(work, &mut vectors)).collect()
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, sessions = batch.len(), "a batch could not be embedded; trying one by one");
            one_by_one(parts, &embedder, batch).await
        }
        Err(Stopped) => Vec::new(),
    }
}

/// Waits for a model that is elsewhere and away.
async fn vectors(
    parts: &Parts,
    embedder: &Arc<dyn Embedder>,
    batch: &[Work<PointDraft>],
    passages: &[Passage],
) -> Result<Result<Vec<Vec<f32>>, EmbedError>, Stopped> {
    let (limit, _) = bounds(parts, batch.iter().map(|work| &work.part));
    let embed = || embedder.embed_within(passages.to_vec(), limit.soft);
    parts.breaker.guard("the embedding model", embed, EmbedError::is_unavailable).await
}

/// A model that hangs is not asked again for each session of the batch: it may lose a thread each time. The second
/// time each of them runs alone, and it shows whose fault it is.
fn give_up(parts: &Parts, batch: Drafted, error: &EmbedError) -> Embedded {
    let (_, jobs) = bounds(parts, batch.iter().map(|work| &work.part));
    parts.clock.underway().gave_up(&jobs);
    let told = format!("it took longer than its soft limit: {error}");
    batch.into_iter().for_each(|work| work.part.end(Outcome::Overdue(told.clone())));
    Vec::new()
}

async fn one_by_one(parts: &Parts, embedder: &Arc<dyn Embedder>, batch: Drafted) -> Embedded {
    let mut embedded = Vec::with_capacity(batch.len());
    for work in batch {
        match vectors(parts, embedder, std::slice::from_ref(&work), &passages(&work.plan)).await {
            Ok(Err(error)) if error.is_timed_out() => embedded.extend(give_up(parts, vec![work], &error)),
            Ok(Ok(vectors)) => embedded.push(with_vectors(work, &mut vectors.into_iter())),
            Ok(Err(error)) => work.part.end(Outcome::Failed(error.to_string())),
            // The rest is let go as well.
            Err(Stopped) => return embedded,
        }
    }
    embedded
}

/// It was loaded a moment ago, to count tokens.
fn without_model(batch: Drafted, error: &ModelError) -> Embedded {
    batch.into_iter().for_each(|work| work.part.end(Outcome::Failed(error.to_string())));
    Vec::new()
}

fn passages(plan: &Plan<PointDraft>) -> Vec<Passage> {
    match plan {
        Plan::Write { parts, .. } => parts.iter().map(|draft| draft.passage.clone()).collect(),
        Plan::Remove | Plan::Keep => Vec::new(),
    }
}

/// Gives each draft of a work the next vector; there is one for each.
fn with_vectors(
    work: Work<PointDraft>,
    vectors: &mut impl Iterator<Item = Vec<f32>>,
) -> Work<guildex_index::Point> {
    let plan = match work.plan {
        Plan::Remove => Plan::Remove,
        Plan::Keep => Plan::Keep,
        Plan::Write { parts, content_hash } => {
            let vectors: Vec<_> = vectors.take(parts.len()).collect();
            Plan::Write { parts: PointDraft::into_points(parts, &vectors), content_hash }
        }
    };
    Work { part: work.part, session: work.session, plan }
}
