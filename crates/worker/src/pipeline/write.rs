//! Last stage: points into the index, then the record, then the ledger. The order matters: a crash between any
//! two steps leaves the job unfinished, and it runs again.

use std::sync::Arc;

use guildex_index::{Error, Point};
use guildex_store::sessions::{self, Record, Recorded};

use super::{Embedded, Older, Parts, Plan, Work, bounds};
use crate::breaker::Stopped;
use crate::finish::Outcome;
use crate::limits::{GivenUp, Overdue};
use crate::retry::until_stored;

/// Why points are not as they should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SyncError {
    #[error(transparent)]
    Index(#[from] Error),
    #[error("{0}")]
    Overdue(Overdue),
}

impl SyncError {
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Index(error) if error.is_unavailable())
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Index(error) => Outcome::Failed(error.to_string()),
            Self::Overdue(overdue) => Outcome::Overdue(overdue.to_string()),
        }
    }
}

pub(super) async fn write(parts: &Arc<Parts>, mut batch: Embedded) {
    match sync(parts, &batch).await {
        Ok(Ok(())) => {}
        // One by one they would only wait as long again.
        Ok(Err(error @ SyncError::Overdue(_))) => {
            return batch.into_iter().for_each(|work| work.part.end(error.outcome()));
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, sessions = batch.len(), "a batch could not be written; trying one by one");
            batch = one_by_one(parts, batch).await;
        }
        Err(Stopped) => return,
    }
    let Some(models) = batch.first().map(|work| work.part.models().to_vec()) else { return };
    let records: Vec<Record> = batch.iter().filter_map(record).collect();
    let model = &parts.target.model;
    let recorded =
        until_stored("recording sessions", || sessions::record(&parts.pool, &records, model, &models)).await;
    if recorded.is_ok() && sweep(parts, &batch).await == Err(Stopped) {
        return;
    }
    for work in batch {
        let outcome = match &recorded {
            Ok(Recorded::Yes) => Outcome::Done(work.session.revision),
            Ok(Recorded::ModelAdded | Recorded::IndexReplaced) => Outcome::LetGo,
            Err(error) => Outcome::Failed(error.to_string()),
        };
        work.part.end(outcome);
    }
}

async fn one_by_one(parts: &Arc<Parts>, batch: Embedded) -> Embedded {
    let mut synced = Vec::with_capacity(batch.len());
    for work in batch {
        match sync(parts, std::slice::from_ref(&work)).await {
            Ok(Ok(())) => synced.push(work),
            Ok(Err(error)) => work.part.end(error.outcome()),
            // The rest is let go as well.
            Err(Stopped) => return synced,
        }
    }
    synced
}

/// Brings the index in step, and waits for one that is away. An index that is slower than the limit may still be
/// at it; what it then writes is at most as old as the next attempt's.
async fn sync(parts: &Arc<Parts>, batch: &[Work<Point>]) -> Result<Result<(), SyncError>, Stopped> {
    let (limit, jobs) = bounds(parts, batch.iter().map(|work| &work.part));
    let write = || async {
        let work = write_points(parts.clone(), Changes::of(batch));
        let written =
            parts.clock.within("writing to the index", limit, jobs.clone(), GivenUp::GoesOn, work).await;
        Ok(written.map_err(SyncError::Overdue)??)
    };
    parts.breaker.guard("the index", write, SyncError::is_unavailable).await
}

/// What a batch changes in the index.
struct Changes {
    points: Vec<Point>,
    /// Of each session what is of a lower revision goes.
    older: Older,
}

impl Changes {
    fn of(batch: &[Work<Point>]) -> Self {
        let mut points: Vec<Point> = Vec::new();
        let mut older = Older::new();
        for Work { session, plan, .. } in batch {
            let kept = match (plan, &session.indexed) {
                // A worker that had frozen may have left something beside what is kept.
                (Plan::Keep, Some(indexed)) => indexed.point_revision,
                (Plan::Keep, None) => continue,
                (Plan::Remove, _) => session.revision,
                (Plan::Write { parts, .. }, _) => {
                    points.extend(parts.iter().cloned());
                    session.revision
                }
            };
            older.entry(session.guild_id).or_default().push((session.id, kept));
        }
        Self { points, older }
    }
}

/// New points in, then everything of lower revisions out.
async fn write_points(parts: Arc<Parts>, changes: Changes) -> Result<(), Error> {
    let collection = &parts.target.collection;
    if !changes.points.is_empty() {
        parts.index.upsert(collection, changes.points).await?;
    }
    parts.delete_below(&changes.older).await
}

/// Where a session moved on, what was written of it may have come after its new points, or after its removal: if this
/// worker was slow or frozen, another has done the job by now, and no job follows that would find these.
async fn sweep(parts: &Parts, batch: &[Work<Point>]) -> Result<(), Stopped> {
    let written = batch.iter().filter(|work| matches!(work.plan, Plan::Write { .. }));
    let read: Vec<_> = written.map(|w| (w.session.guild_id, w.session.id, w.session.revision)).collect();
    let outrun = || sessions::superseded(&parts.pool, &read, &parts.target.model);
    let Ok(outrun) = until_stored("looking for newer revisions", outrun).await else { return Ok(()) };
    let mut older = Older::new();
    for (guild, session, revision) in outrun {
        older.entry(guild).or_default().push((session, revision));
    }
    for (guild, sessions) in &older {
        let delete = || parts.index.delete_below(&parts.target.collection, *guild, sessions);
        if let Err(error) = parts.breaker.guard("the index", delete, Error::is_unavailable).await? {
            tracing::warn!(%error, sessions = sessions.len(), "outdated points could not be removed");
        }
    }
    Ok(())
}

fn record(work: &Work<Point>) -> Option<Record> {
    let Work { session, plan, .. } = work;
    let (point_revision, content_hash, points) = match plan {
        Plan::Remove => (session.revision, Vec::new(), 0),
        Plan::Keep => {
            let indexed = session.indexed.as_ref()?;
            (indexed.point_revision, indexed.content_hash.clone()?, indexed.points)
        }
        Plan::Write { parts, content_hash } => {
            (session.revision, content_hash.clone(), u32::try_from(parts.len()).unwrap_or(u32::MAX))
        }
    };
    let (guild_id, session_id, revision) = (session.guild_id, session.id, session.revision);
    Some(Record { guild_id, session_id, revision, point_revision, content_hash, points })
}
