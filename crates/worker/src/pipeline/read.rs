//! First stage: sessions as they are now, and what is to be done about each.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use guildex_store::StoreError;
use guildex_store::sessions::{self, Session};
use guildex_types::{SessionId, Task};

use super::{Drafted, Parts, Plan, Work};
use crate::claims::Held;
use crate::enrich::{Draft, Enriched};
use crate::finish::Outcome;
use crate::retry::until_stored;

pub(super) async fn read(parts: &Arc<Parts>, batch: Vec<Held>) -> Drafted {
    if parts.stop.is_cancelled() {
        return Vec::new();
    }
    match load(parts, &batch).await {
        Ok(loaded) => draft(parts, batch, loaded).await,
        Err(error) => {
            tracing::warn!(%error, sessions = batch.len(), "a batch could not be read; trying one by one");
            one_by_one(parts, batch).await
        }
    }
}

async fn one_by_one(parts: &Arc<Parts>, batch: Vec<Held>) -> Drafted {
    let mut drafted = Vec::with_capacity(batch.len());
    for held in batch {
        match load(parts, std::slice::from_ref(&held)).await {
            Ok(loaded) => drafted.extend(draft(parts, vec![held], loaded).await),
            Err(error) => held.end(Outcome::Failed(error.to_string())),
        }
    }
    drafted
}

async fn load(parts: &Parts, batch: &[Held]) -> Result<Vec<Session>, StoreError> {
    let wanted: Vec<_> =
        batch.iter().filter_map(|held| Some((held.job.guild_id, session_of(held)?))).collect();
    let model = parts.embedder.slug();
    until_stored("reading sessions", || sessions::load(&parts.pool, &wanted, model)).await
}

async fn draft(parts: &Arc<Parts>, batch: Vec<Held>, loaded: Vec<Session>) -> Drafted {
    let mut loaded: HashMap<SessionId, Session> = loaded.into_iter().map(|s| (s.id, s)).collect();
    let mut found = Vec::with_capacity(batch.len());
    for held in batch {
        match session_of(&held).and_then(|id| loaded.remove(&id)) {
            Some(session) => found.push((held, session)),
            // The guild never had such a session: there is nothing to be in step with.
            None => {
                let wanted = held.wanted;
                held.end(Outcome::Done(wanted));
            }
        }
    }

    let mut drafted = Vec::with_capacity(found.len());
    for (held, outcome) in plan_all(parts.clone(), found).await {
        match outcome {
            Ok((session, plan)) => drafted.push(Work { held, session, plan }),
            Err(error) => held.end(Outcome::Failed(error)),
        }
    }

    begin_rewrite(parts, drafted).await
}

/// Before any point changes: from here until the record, nothing is taken for unchanged. Sessions that moved on
/// since they were read are let go: their jobs run again for what is wanted now.
async fn begin_rewrite(parts: &Parts, drafted: Drafted) -> Drafted {
    let (mut ready, changing): (Drafted, Drafted) =
        drafted.into_iter().partition(|work| matches!(work.plan, Plan::Keep));
    let sessions: Vec<_> =
        changing.iter().map(|w| (w.session.guild_id, w.session.id, w.session.revision)).collect();
    let model = parts.embedder.slug();
    let begin = || sessions::begin_rewrite(&parts.pool, &sessions, model);
    let current = until_stored("announcing a rewrite", begin).await.map(HashSet::<SessionId>::from_iter);
    for work in changing {
        match &current {
            Ok(current) if current.contains(&work.session.id) => ready.push(work),
            Ok(_) => work.held.end(Outcome::Done(work.session.revision)),
            Err(error) => work.held.end(Outcome::Failed(error.to_string())),
        }
    }
    ready
}

fn session_of(held: &Held) -> Option<SessionId> {
    match held.job.task {
        Task::IndexSession { session_id } | Task::DeleteSession { session_id } => Some(session_id),
        Task::DeleteMessages { .. } | Task::BackfillChannel { .. } => None,
    }
}

type Planned = Result<(Session, Plan<Draft>), String>;

/// Tokenising takes a core for a while, so it does not happen on the runtime's threads.
async fn plan_all(parts: Arc<Parts>, found: Vec<(Held, Session)>) -> Vec<(Held, Planned)> {
    let (held, sessions): (Vec<Held>, Vec<Session>) = found.into_iter().unzip();
    let planned = tokio::task::spawn_blocking(move || {
        let plan = |session| catch_unwind(AssertUnwindSafe(|| plan(&parts, session)));
        let panicked = |_| Err("tokenising panicked".to_owned());
        sessions.into_iter().map(|session| plan(session).unwrap_or_else(panicked)).collect::<Vec<Planned>>()
    })
    .await;
    match planned {
        Ok(planned) => held.into_iter().zip(planned).collect(),
        Err(error) => {
            held.into_iter().map(|held| (held, Err(format!("tokenising stopped: {error}")))).collect()
        }
    }
}

fn plan(parts: &Parts, session: Session) -> Planned {
    let messages = u32::try_from(session.messages.len()).unwrap_or(u32::MAX);
    let words = session.messages.iter().fold(0_u32, |sum, m| sum.saturating_add(m.words));
    if !parts.eligible.admits(messages, words) {
        return Ok((session, Plan::Remove));
    }
    let model = parts.embedder.slug();
    let enriched = Enriched::of(&session);
    let content_hash = enriched.content_hash(&session, model);
    if session.indexed.as_ref().is_some_and(|indexed| indexed.content_hash.as_ref() == Some(&content_hash)) {
        return Ok((session, Plan::Keep));
    }
    let split = enriched.split(parts.embedder.tokenizer()).map_err(|error| error.to_string())?;
    if split.header_cut > 0 {
        tracing::warn!(session = %session.id, tokens = split.header_cut, "the channel's name was cut");
    }
    let drafts = Draft::all(&session, split, model, parts.previews);
    Ok((session, Plan::Write { parts: drafts, content_hash }))
}
