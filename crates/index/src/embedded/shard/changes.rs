//! Changes of points, from the writer's thread alone. They hold after the next flush.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use guildex_types::{GuildId, MessageId, PointId, Revision, SessionId};
use qdrant_edge::{
    Filter, PointId as EnginePointId, PointInsertOperations, PointOperations, UpdateOperation,
};
use serde::Deserialize;

use super::Shard;
use crate::embedded::convert::{fields, payload, to_struct};
use crate::embedded::schema;
use crate::{Error, MAX_LIMIT, Point};

impl Shard {
    pub(in crate::embedded) fn upsert(&self, points: Vec<Point>) -> Result<(), Error> {
        points.iter().try_for_each(|point| self.check(&point.dense))?;
        let mut newest: HashMap<PointId, Point> = HashMap::with_capacity(points.len());
        for point in points {
            match newest.get(&point.id) {
                Some(other) if other.payload.revision > point.payload.revision => {}
                _ => drop(newest.insert(point.id, point)),
            }
        }
        for record in self.retrieve(newest.keys().copied(), &Stamp::FIELDS)? {
            let (id, stored): (_, Stamp) = payload(record)?;
            if newest.get(&id).is_some_and(|point| point.payload.revision < stored.revision) {
                newest.remove(&id);
            }
        }
        let points = newest.into_values().map(to_struct).collect::<Result<Vec<_>, _>>()?;
        let points = points.into_iter().map(Into::into).collect::<Vec<_>>();
        self.change(points.len(), PointOperations::UpsertPoints(PointInsertOperations::PointsList(points)))
    }

    pub(in crate::embedded) fn delete_below(
        &self,
        guild: GuildId,
        sessions: Vec<(SessionId, Revision)>,
    ) -> Result<(), Error> {
        let mut below = HashMap::with_capacity(sessions.len());
        for (session, revision) in sessions {
            let limit = below.entry(session).or_insert(revision);
            *limit = revision.max(*limit);
        }
        let filter = schema::in_sessions(guild, below.keys())?;
        self.delete_if(&filter, |point| {
            below.get(&point.session_id).is_some_and(|limit| point.revision < *limit)
        })
    }

    pub(in crate::embedded) fn delete_messages(
        &self,
        guild: GuildId,
        messages: &[MessageId],
        below: Revision,
    ) -> Result<(), Error> {
        let filter = schema::with_messages(guild, messages)?;
        self.delete_if(&filter, |point| point.revision < below)
    }

    /// Deletes what `doomed` says of what the filter finds. The engine could do it by filter alone, but
    /// compares revisions as floats.
    fn delete_if(&self, filter: &Filter, doomed: impl Fn(&Stamp) -> bool) -> Result<(), Error> {
        let mut ids = vec![];
        let mut after = None;
        loop {
            let (records, more) = self.page(filter, after, MAX_LIMIT, fields(&Stamp::FIELDS)?, false)?;
            for record in records {
                let (id, stamp) = payload(record)?;
                after = Some(id);
                if doomed(&stamp) {
                    ids.push(EnginePointId::Uuid(id.get()));
                }
            }
            if !more {
                return self.change(ids.len(), PointOperations::DeletePoints { ids });
            }
        }
    }

    fn change(&self, points: usize, change: PointOperations) -> Result<(), Error> {
        if points == 0 {
            return Ok(());
        }
        self.changed.fetch_add(points, Ordering::Relaxed);
        self.unflushed.store(true, Ordering::Relaxed);
        let outcome = self.engine.with(|engine| engine.update(UpdateOperation::PointOperation(change)));
        self.broken.fetch_or(outcome.is_err(), Ordering::Relaxed);
        outcome
    }
}

/// The part of a payload that decides what may be overwritten or deleted.
#[derive(Deserialize)]
struct Stamp {
    session_id: SessionId,
    revision: Revision,
}

impl Stamp {
    const FIELDS: [&str; 2] = ["session_id", "revision"];
}
