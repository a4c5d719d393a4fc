//! Second stage: drafts get their vectors.

use super::{Drafted, Embedded, Parts, Plan, Work};
use crate::enrich::Draft;
use crate::finish::Outcome;

pub(super) async fn embed(parts: &Parts, batch: Drafted) -> Embedded {
    if parts.stop.is_cancelled() {
        return Vec::new();
    }
    let texts: Vec<String> = batch.iter().flat_map(|work| texts(&work.plan)).collect();
    match parts.embedder.embed(texts).await {
        Ok(vectors) => {
            let mut vectors = vectors.into_iter();
            batch.into_iter().map(|work| with_vectors(work, &mut vectors)).collect()
        }
        Err(error) => {
            tracing::warn!(%error, sessions = batch.len(), "a batch could not be embedded; trying one by one");
            one_by_one(parts, batch).await
        }
    }
}

async fn one_by_one(parts: &Parts, batch: Drafted) -> Embedded {
    let mut embedded = Vec::with_capacity(batch.len());
    for work in batch {
        match parts.embedder.embed(texts(&work.plan)).await {
            Ok(vectors) => embedded.push(with_vectors(work, &mut vectors.into_iter())),
            Err(error) => work.held.end(Outcome::Failed(error.to_string())),
        }
    }
    embedded
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
        Plan::Write { parts, content_hash } => Plan::Write {
            parts: parts.into_iter().zip(vectors).map(|(draft, vector)| draft.into_point(vector)).collect(),
            content_hash,
        },
    };
    Work { held: work.held, session: work.session, plan }
}
