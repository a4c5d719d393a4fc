//! First stage: loads sessions as they are now and plans the change of each.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use guildex_document::{PointDraft, SessionText};
use guildex_embed::Embedder;
use guildex_store::StoreError;
use guildex_store::sessions::{self, Session};
use guildex_types::{ErrorChain, SessionId, Task};
use tracing::Instrument;

use super::orphans;
use super::stage::StageContext;
use super::task::{IndexTask, Loaded, Plan};
use crate::completer::Outcome;
use crate::fan_out::ModelTask;
use crate::retry::retry_transient;

pub(super) async fn load(context: &Arc<StageContext>, batch: Vec<ModelTask>) -> Loaded {
    if context.job.stop.is_cancelled() {
        return Vec::new();
    }
    match read(context, &batch).await {
        Ok(sessions) => prepare(context, batch, sessions).await,
        Err(error) => {
            tracing::warn!(%error, "failed to load a batch; retrying session by session");
            one_by_one(context, batch).await
        }
    }
}

async fn one_by_one(context: &Arc<StageContext>, batch: Vec<ModelTask>) -> Loaded {
    let mut loaded = Vec::with_capacity(batch.len());
    for task in batch {
        let span = task.span().clone();
        let one = async {
            match read(context, std::slice::from_ref(&task)).await {
                Ok(sessions) => prepare(context, vec![task], sessions).await,
                Err(error) => {
                    task.finish(Outcome::Failed(error.to_string()));
                    Vec::new()
                }
            }
        };
        loaded.extend(one.instrument(span).await);
    }
    loaded
}

async fn read(context: &StageContext, batch: &[ModelTask]) -> Result<Vec<Session>, StoreError> {
    let ids: Vec<_> =
        batch.iter().filter_map(|task| Some((task.job().guild_id, session_id(task)?))).collect();
    let model = &context.collection.model;
    retry_transient("loading sessions", || sessions::load(context.pool(), &ids, model)).await
}

async fn prepare(context: &Arc<StageContext>, batch: Vec<ModelTask>, sessions: Vec<Session>) -> Loaded {
    let mut sessions: HashMap<SessionId, Session> = sessions.into_iter().map(|s| (s.id, s)).collect();
    let (mut found, mut orphaned) = (Vec::with_capacity(batch.len()), Vec::new());
    for task in batch {
        let Some(id) = session_id(&task) else { continue };
        match sessions.remove(&id) {
            Some(session) => found.push((task, session)),
            None => orphaned.push((task, id)),
        }
    }
    orphans::remove(context, orphaned).await;

    let mut loaded = Vec::with_capacity(found.len());
    for (task, planned) in plan_all(context.clone(), found).await {
        match planned {
            Ok((session, plan)) => loaded.push(IndexTask { task, session, plan }),
            Err(outcome) => task.finish(outcome),
        }
    }

    begin_rewrite(context, loaded).await
}

/// Clears the recorded content hashes before any point changes: until the sessions are recorded, none counts as
/// unchanged. Sessions that changed since they were loaded are done; their jobs run again for the new revision.
async fn begin_rewrite(context: &StageContext, loaded: Loaded) -> Loaded {
    let (mut ready, changing): (Loaded, Loaded) =
        loaded.into_iter().partition(|task| matches!(task.plan, Plan::Keep));
    let revisions: Vec<_> =
        changing.iter().map(|t| (t.session.guild_id, t.session.id, t.session.revision)).collect();
    let model = &context.collection.model;
    let begin = || sessions::begin_rewrite(context.pool(), &revisions, model);
    let current =
        retry_transient("clearing content hashes", begin).await.map(HashSet::<SessionId>::from_iter);
    for task in changing {
        match &current {
            Ok(current) if current.contains(&task.session.id) => ready.push(task),
            Ok(_) => task.task.finish(Outcome::Completed(task.session.revision)),
            Err(error) => task.task.finish(Outcome::Failed(error.to_string())),
        }
    }
    ready
}

fn session_id(task: &ModelTask) -> Option<SessionId> {
    match task.job().task {
        Task::IndexSession { session_id } | Task::DeleteSession { session_id } => Some(session_id),
        Task::BackfillChannel { .. } | Task::RemovePoints { .. } => None,
    }
}

type Planned = Result<(Session, Plan<PointDraft>), Outcome>;

/// Tokenizing keeps a core busy for a while, so it runs on a separate thread.
async fn plan_all(context: Arc<StageContext>, found: Vec<(ModelTask, Session)>) -> Vec<(ModelTask, Planned)> {
    let embedder = match context.collection.state.is_maintained() {
        true => context.job.models.get(&context.collection.model).await.map(Some),
        false => Ok(None),
    };
    let (tasks, sessions): (Vec<ModelTask>, Vec<Session>) = found.into_iter().unzip();
    let (limit, jobs) = context.limit(tasks.iter());
    let limiter = context.job.limiter.clone();
    let plan_each = move || {
        let embedder = embedder.inspect_err(|error| {
            tracing::error!(error = %ErrorChain(error), "model unavailable; releasing jobs");
        });
        let plan_one = |session| match &embedder {
            Ok(embedder) => plan(&context, embedder.as_deref(), session),
            // Another worker may have the model, or this one later.
            Err(_) => Err(Outcome::Released),
        };
        let guarded = |session| catch_unwind(AssertUnwindSafe(|| plan_one(session)));
        let panicked = |_| Err(Outcome::Failed("tokenizing panicked".to_owned()));
        sessions
            .into_iter()
            .map(|session| guarded(session).unwrap_or_else(panicked))
            .collect::<Vec<Planned>>()
    };
    match limiter.run_blocking("tokenizing", limit, jobs, plan_each).await {
        Ok(planned) => tasks.into_iter().zip(planned).collect(),
        Err(timed_out) => {
            let outcome = || Err(Outcome::TimedOut(timed_out.to_string()));
            tasks.into_iter().map(|task| (task, outcome())).collect()
        }
    }
}

/// Without an embedder the collection only loses points.
fn plan(context: &StageContext, embedder: Option<&dyn Embedder>, session: Session) -> Planned {
    let messages = u32::try_from(session.messages.len()).unwrap_or(u32::MAX);
    let words = session.messages.iter().fold(0_u32, |sum, m| sum.saturating_add(m.words));
    if !context.job.eligible.admits(messages, words) {
        return Ok((session, Plan::Remove));
    }
    let model = &context.collection.model;
    let text = SessionText::new(&session);
    let content_hash = text.content_hash(&session, model);
    if session.indexed.as_ref().is_some_and(|indexed| indexed.content_hash.as_ref() == Some(&content_hash)) {
        return Ok((session, Plan::Keep));
    }
    let Some(embedder) = embedder else { return Ok((session, Plan::Remove)) };
    let chunks = text.chunk(embedder.tokenizer()).map_err(|error| Outcome::Failed(error.to_string()))?;
    let points = PointDraft::from_chunks(&session, chunks, model, context.job.previews);
    Ok((session, Plan::Write { points, content_hash }))
}
