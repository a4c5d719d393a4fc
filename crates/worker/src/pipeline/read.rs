//! First stage: sessions as they are now, and what is to be done about each.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use guildex_embed::Embedder;
use guildex_store::StoreError;
use guildex_store::sessions::{self, Session};
use guildex_types::{ErrorChain, SessionId, Task};

use super::{Drafted, Parts, Plan, Work, bounds, strays};
use crate::finish::Outcome;
use crate::parts::Part;
use crate::retry::until_stored;
use guildex_document::{PointDraft, SessionText};

pub(super) async fn read(parts: &Arc<Parts>, batch: Vec<Part>) -> Drafted {
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

async fn one_by_one(parts: &Arc<Parts>, batch: Vec<Part>) -> Drafted {
    let mut drafted = Vec::with_capacity(batch.len());
    for part in batch {
        match load(parts, std::slice::from_ref(&part)).await {
            Ok(loaded) => drafted.extend(draft(parts, vec![part], loaded).await),
            Err(error) => part.end(Outcome::Failed(error.to_string())),
        }
    }
    drafted
}

async fn load(parts: &Parts, batch: &[Part]) -> Result<Vec<Session>, StoreError> {
    let wanted: Vec<_> =
        batch.iter().filter_map(|part| Some((part.job().guild_id, session_of(part)?))).collect();
    let model = &parts.target.model;
    until_stored("reading sessions", || sessions::load(&parts.pool, &wanted, model)).await
}

async fn draft(parts: &Arc<Parts>, batch: Vec<Part>, loaded: Vec<Session>) -> Drafted {
    let mut loaded: HashMap<SessionId, Session> = loaded.into_iter().map(|s| (s.id, s)).collect();
    let (mut found, mut strays) = (Vec::with_capacity(batch.len()), Vec::new());
    for part in batch {
        let Some(id) = session_of(&part) else { continue };
        match loaded.remove(&id) {
            Some(session) => found.push((part, session)),
            None => strays.push((part, id)),
        }
    }
    strays::remove(parts, strays).await;

    let mut drafted = Vec::with_capacity(found.len());
    for (part, outcome) in plan_all(parts.clone(), found).await {
        match outcome {
            Ok((session, plan)) => drafted.push(Work { part, session, plan }),
            Err(outcome) => part.end(outcome),
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
    let model = &parts.target.model;
    let begin = || sessions::begin_rewrite(&parts.pool, &sessions, model);
    let current = until_stored("announcing a rewrite", begin).await.map(HashSet::<SessionId>::from_iter);
    for work in changing {
        match &current {
            Ok(current) if current.contains(&work.session.id) => ready.push(work),
            Ok(_) => work.part.end(Outcome::Done(work.session.revision)),
            Err(error) => work.part.end(Outcome::Failed(error.to_string())),
        }
    }
    ready
}

fn session_of(part: &Part) -> Option<SessionId> {
    match part.job().task {
        Task::IndexSession { session_id } | Task::DeleteSession { session_id } => Some(session_id),
        Task::BackfillChannel { .. } | Task::RemovePoints { .. } => None,
    }
}

type Planned = Result<(Session, Plan<PointDraft>), Outcome>;

/// Tokenising takes a core for a while, so it does not happen on the runtime's threads.
async fn plan_all(parts: Arc<Parts>, found: Vec<(Part, Session)>) -> Vec<(Part, Planned)> {
    let embedder = match parts.target.state.is_maintained() {
        true => parts.models.get(&parts.target.model).await.map(Some),
        false => Ok(None),
    };
    let (jobs, sessions): (Vec<Part>, Vec<Session>) = found.into_iter().unzip();
    let (limit, ids) = bounds(&parts, jobs.iter());
    let clock = parts.clock.clone();
    let plan_each = move || {
        let embedder = embedder.inspect_err(|error| {
            tracing::error!(error = %ErrorChain(error), "sessions wait for their model");
        });
        let reads = |session| match &embedder {
            Ok(embedder) => plan(&parts, embedder.as_deref(), session),
            // It may be loaded elsewhere, or later.
            Err(_) => Err(Outcome::LetGo),
        };
        let plan = |session| catch_unwind(AssertUnwindSafe(|| reads(session)));
        let panicked = |_| Err(Outcome::Failed("tokenising panicked".to_owned()));
        sessions.into_iter().map(|session| plan(session).unwrap_or_else(panicked)).collect::<Vec<Planned>>()
    };
    match clock.blocking("tokenising", limit, ids, plan_each).await {
        Ok(planned) => jobs.into_iter().zip(planned).collect(),
        Err(overdue) => {
            let given_up = || Err(Outcome::Overdue(overdue.to_string()));
            jobs.into_iter().map(|part| (part, given_up())).collect()
        }
    }
}

/// `embedder` is none where the collection only shrinks.
fn plan(parts: &Parts, embedder: Option<&dyn Embedder>, session: Session) -> Planned {
    let messages = u32::try_from(session.messages.len()).unwrap_or(u32::MAX);
    let words = session.messages.iter().fold(0_u32, |sum, m| sum.saturating_add(m.words));
    if !parts.eligible.admits(messages, words) {
        return Ok((session, Plan::Remove));
    }
    let model = &parts.target.model;
    let enriched = SessionText::new(&session);
    let content_hash = enriched.content_hash(&session, model);
    if session.indexed.as_ref().is_some_and(|indexed| indexed.content_hash.as_ref() == Some(&content_hash)) {
        return Ok((session, Plan::Keep));
    }
    let Some(embedder) = embedder else { return Ok((session, Plan::Remove)) };
    let split = enriched.chunk(embedder.tokenizer()).map_err(|error| Outcome::Failed(error.to_string()))?;
    if split.header_cut > 0 {
        tracing::warn!(session = %session.id, tokens = split.header_cut, "the channel's name was cut");
    }
    let drafts = PointDraft::from_chunks(&session, split, model, parts.previews);
    Ok((session, Plan::Write { parts: drafts, content_hash }))
}
