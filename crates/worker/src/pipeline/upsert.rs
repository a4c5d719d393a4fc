//! Last stage: writes points to the index, records them in Postgres, and finishes the tasks. The order matters: a crash
//! between any two steps leaves the job unfinished, and it runs again.

use std::sync::Arc;

use guildex_index::{Error, Point};
use guildex_store::sessions::{self, Record, Recorded};
use tracing::Instrument;

use super::stage::{OutdatedPoints, StageContext};
use super::task::{Embedded, IndexTask, Plan};
use crate::circuit_breaker::GuardError;
use crate::completer::Outcome;
use crate::job_context::{INDEX, IndexChangeError};
use crate::retry::retry_transient;

pub(super) async fn upsert(context: &Arc<StageContext>, mut batch: Embedded) {
    match write(context, &batch).await {
        Ok(()) => {}
        // Session by session it would only take as long again.
        Err(GuardError::Failed(error @ IndexChangeError::TimedOut(_))) => {
            return batch.into_iter().for_each(|task| task.task.finish(error.outcome()));
        }
        Err(GuardError::Failed(error)) => {
            tracing::warn!(%error, "failed to write a batch; retrying session by session");
            batch = one_by_one(context, batch).await;
        }
        Err(GuardError::Stopped) => return,
    }
    let Some(models) = batch.first().map(|task| task.task.models().to_vec()) else { return };
    let records: Vec<Record> = batch.iter().filter_map(record).collect();
    let model = &context.collection.model;
    let record = || sessions::record(context.pool(), &records, model, &models);
    let recorded = retry_transient("recording sessions", record).await;
    if recorded.is_ok() && remove_superseded(context, &batch).await.is_err() {
        return;
    }
    for task in batch {
        let outcome = match &recorded {
            Ok(Recorded::Yes) => Outcome::Completed(task.session.revision),
            Ok(Recorded::ModelAdded | Recorded::IndexReplaced) => Outcome::Released,
            Err(error) => Outcome::Failed(error.to_string()),
        };
        task.task.finish(outcome);
    }
}

async fn one_by_one(context: &Arc<StageContext>, batch: Embedded) -> Embedded {
    let mut written = Vec::with_capacity(batch.len());
    for task in batch {
        let span = task.task.span().clone();
        match write(context, std::slice::from_ref(&task)).instrument(span).await {
            Ok(()) => written.push(task),
            Err(GuardError::Failed(error)) => task.task.finish(error.outcome()),
            Err(GuardError::Stopped) => return written,
        }
    }
    written
}

async fn write(
    context: &Arc<StageContext>,
    batch: &[IndexTask<Point>],
) -> Result<(), GuardError<IndexChangeError>> {
    let (limit, jobs) = context.limit(batch.iter().map(|task| &task.task));
    let write = || write_points(context.clone(), Changes::new(batch));
    context.job.change_index("writing to the index", limit, jobs, write).await
}

/// Changes of a batch to the index.
struct Changes {
    points: Vec<Point>,
    outdated: OutdatedPoints,
}

impl Changes {
    fn new(batch: &[IndexTask<Point>]) -> Self {
        let mut points: Vec<Point> = Vec::new();
        let mut outdated = OutdatedPoints::new();
        for IndexTask { session, plan, .. } in batch {
            let current = match (plan, &session.indexed) {
                // A worker that was frozen may have left points of other revisions beside those to keep.
                (Plan::Keep, Some(indexed)) => indexed.point_revision,
                (Plan::Keep, None) => continue,
                (Plan::Remove, _) => session.revision,
                (Plan::Write { points: new, .. }, _) => {
                    points.extend(new.iter().cloned());
                    session.revision
                }
            };
            outdated.entry(session.guild_id).or_default().push((session.id, current));
        }
        Self { points, outdated }
    }
}

/// Writes new points before it deletes outdated ones.
async fn write_points(context: Arc<StageContext>, changes: Changes) -> Result<(), Error> {
    if !changes.points.is_empty() {
        context.job.index.upsert(&context.collection.collection, changes.points).await?;
    }
    context.delete_outdated(&changes.outdated).await
}

/// Removes what was just written of sessions that have changed meanwhile. If this worker was slow or frozen, another
/// worker may have completed the job for the new revision before these points were written, and no later job would
/// remove them.
async fn remove_superseded(
    context: &StageContext,
    batch: &[IndexTask<Point>],
) -> Result<(), GuardError<Error>> {
    let written = batch.iter().filter(|task| matches!(task.plan, Plan::Write { .. }));
    let revisions: Vec<_> = written.map(|t| (t.session.guild_id, t.session.id, t.session.revision)).collect();
    let find = || sessions::superseded(context.pool(), &revisions, &context.collection.model);
    let Ok(superseded) = retry_transient("finding superseded sessions", find).await else { return Ok(()) };
    let mut points = OutdatedPoints::new();
    for (guild, session, revision) in superseded {
        points.entry(guild).or_default().push((session, revision));
    }
    for (guild, sessions) in &points {
        let collection = &context.collection.collection;
        let delete = || context.job.index.delete_below(collection, *guild, sessions);
        match context.job.breaker.guard(INDEX, delete, Error::is_unavailable).await {
            Err(GuardError::Failed(error)) => {
                tracing::warn!(%error, sessions = sessions.len(), "failed to remove superseded points");
            }
            result => result?,
        }
    }
    Ok(())
}

fn record(task: &IndexTask<Point>) -> Option<Record> {
    let IndexTask { session, plan, .. } = task;
    let (point_revision, content_hash, point_ids) = match plan {
        Plan::Remove => (session.revision, Vec::new(), Vec::new()),
        Plan::Keep => {
            let indexed = session.indexed.as_ref()?;
            (indexed.point_revision, indexed.content_hash.clone()?, indexed.point_ids.clone())
        }
        Plan::Write { points, content_hash } => {
            (session.revision, content_hash.clone(), points.iter().map(|point| point.id).collect())
        }
    };
    let (guild_id, session_id, revision) = (session.guild_id, session.id, session.revision);
    Some(Record { guild_id, session_id, revision, point_revision, content_hash, point_ids })
}
