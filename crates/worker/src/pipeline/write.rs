//! Last stage: points into the index, then the record, then the ledger. The order matters: a crash between any
//! two steps leaves the job unfinished, and it runs again.

use std::collections::BTreeMap;

use guildex_index::{Error, Point};
use guildex_store::sessions::{self, Record, Recorded};
use guildex_types::{GuildId, Revision, SessionId};

use super::{Embedded, Parts, Plan, Work};
use crate::breaker::Stopped;
use crate::finish::Outcome;
use crate::retry::until_stored;

pub(super) async fn write(parts: &Parts, mut batch: Embedded) {
    match sync(parts, &batch).await {
        Ok(Ok(())) => {}
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
            Ok(Recorded::ModelAdded) => Outcome::LetGo,
            Err(error) => Outcome::Failed(error.to_string()),
        };
        work.part.end(outcome);
    }
}

async fn one_by_one(parts: &Parts, batch: Embedded) -> Embedded {
    let mut synced = Vec::with_capacity(batch.len());
    for work in batch {
        match sync(parts, std::slice::from_ref(&work)).await {
            Ok(Ok(())) => synced.push(work),
            Ok(Err(error)) => work.part.end(Outcome::Failed(error.to_string())),
            // The rest is let go as well.
            Err(Stopped) => return synced,
        }
    }
    synced
}

/// Brings the index in step, and waits for one that is away.
async fn sync(parts: &Parts, batch: &[Work<Point>]) -> Result<Result<(), Error>, Stopped> {
    parts.breaker.guard("the index", || write_points(parts, batch), Error::is_away).await
}

/// New points in, then everything of lower revisions out.
async fn write_points(parts: &Parts, batch: &[Work<Point>]) -> Result<(), Error> {
    let collection = &parts.target.collection;
    let mut points: Vec<Point> = Vec::new();
    let mut older: BTreeMap<GuildId, Vec<(SessionId, Revision)>> = BTreeMap::new();
    for Work { session, plan, .. } in batch {
        match plan {
            Plan::Keep => continue,
            Plan::Remove => {}
            Plan::Write { parts, .. } => points.extend(parts.iter().cloned()),
        }
        older.entry(session.guild_id).or_default().push((session.id, session.revision));
    }
    if !points.is_empty() {
        parts.index.upsert(collection, points).await?;
    }
    for (guild, sessions) in &older {
        parts.index.delete_below(collection, *guild, sessions).await?;
    }
    Ok(())
}

/// Where a session moved on, what was written of it may have come after its new points, or after its removal: if this
/// worker was slow or frozen, another has done the job by now, and no job follows that would find these.
async fn sweep(parts: &Parts, batch: &[Work<Point>]) -> Result<(), Stopped> {
    let written = batch.iter().filter(|work| matches!(work.plan, Plan::Write { .. }));
    let read: Vec<_> = written.map(|w| (w.session.guild_id, w.session.id, w.session.revision)).collect();
    let outrun = || sessions::outrun(&parts.pool, &read, &parts.target.model);
    let Ok(outrun) = until_stored("looking for newer revisions", outrun).await else { return Ok(()) };
    let mut older: BTreeMap<GuildId, Vec<(SessionId, Revision)>> = BTreeMap::new();
    for (guild, session, revision) in outrun {
        older.entry(guild).or_default().push((session, revision));
    }
    for (guild, sessions) in &older {
        let delete = || parts.index.delete_below(&parts.target.collection, *guild, sessions);
        if let Err(error) = parts.breaker.guard("the index", delete, Error::is_away).await? {
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
