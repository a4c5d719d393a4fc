//! Second stage: drafts get their vectors.

use std::sync::Arc;

use guildex_embed::{EmbedError, Embedder, ModelError};

use super::{Drafted, Embedded, Parts, Plan, Work};
use crate::breaker::Stopped;
use crate::enrich::Draft;
use crate::finish::Outcome;

pub(super) async fn embed(parts: &Parts, batch: Drafted) -> Embedded {
    if parts.stop.is_cancelled() {
        return Vec::new();
    }
    let texts: Vec<String> = batch.iter().flat_map(|work| texts(&work.plan)).collect();
    if texts.is_empty() {
        return batch.into_iter().map(|work| with_vectors(work, &mut std::iter::empty())).collect();
    }
    let embedder = match parts.models.get(&parts.target.model).await {
        Ok(embedder) => embedder,
        Err(error) => return without_model(batch, &error),
    };
    match vectors(parts, &embedder, &texts).await {
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
    texts: &[String],
) -> Result<Result<Vec<Vec<f32>>, EmbedError>, Stopped> {
    parts.breaker.guard("the embedding model", || embedder.embed(texts.to_vec()), EmbedError::is_away).await
}

async fn one_by_one(parts: &Parts, embedder: &Arc<dyn Embedder>, batch: Drafted) -> Embedded {
    let mut embedded = Vec::with_capacity(batch.len());
    for work in batch {
        match vectors(parts, embedder, &texts(&work.plan)).await {
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

fn texts(plan: &Plan<Draft>) -> Vec<String> {
    match plan {
        Plan::Write { parts, .. } => parts.iter().map(|draft| draft.text.clone()).collect(),
        Plan::Remove | Plan::Keep => Vec::new(),
    }
}

/// Gives each draft of a work the next vector; there is one for each.
fn with_vectors(
    work: Work<Draft>,
    vectors: &mut impl Iterator<Item = Vec<f32>>,
) -> Work<guildex_index::Point> {
    let plan = match work.plan {
        Plan::Remove => Plan::Remove,
        Plan::Keep => Plan::Keep,
        Plan::Write { parts, content_hash } => {
            let vectors: Vec<_> = vectors.take(parts.len()).collect();
            Plan::Write { parts: Draft::into_points(parts, &vectors), content_hash }
        }
    };
    Work { part: work.part, session: work.session, plan }
}
