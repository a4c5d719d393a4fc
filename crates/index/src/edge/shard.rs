//! One collection in the engine.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use guildex_types::{ChannelId, GuildId, MessageId, PointId, Revision, SessionId};
use qdrant_edge::{
    CountRequest, EdgeShard, FacetRequest, FacetValue, Filter, NamedQuery, OperationResult,
    PointId as EnginePointId, PointInsertOperations, PointOperations, PointStruct, QueryEnum, QueryRequest,
    Record, ScoringQuery, ScrollRequest, SearchParams, SparseVector as EngineSparseVector, UpdateOperation,
    Vector, VectorInternal, VectorStructInternal, Vectors, WithPayloadInterface, WithVector,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::schema::{self, BM25, DENSE};
use crate::fusion::{Scored, rank};
use crate::{Bulk, Difference, Error, Hit, MAX_LIMIT, Mode, Page, Point, Query, Scope, SparseVector};

/// After how many written or deleted points an idle collection is reorganised.
const TEND_AFTER: usize = 20_000;

/// How many closed files of the engine's log, 8 MiB each, are let lie about.
const MAX_LOG_FILES: usize = 32;

/// How many candidates a ranking gives for each hit wanted, and how many at least: fusion finds more when the
/// rankings reach deeper than what is shown.
const CANDIDATES: (usize, usize) = (3, 50);

pub(super) struct Shard {
    folder: PathBuf,
    dims: usize,
    /// `None` after a failure to open it again.
    engine: RwLock<Option<EdgeShard>>,
    /// Points written or deleted since the last reorganisation.
    changed: AtomicUsize,
    /// Whether a change failed since the last flush.
    broken: AtomicBool,
}

impl Shard {
    /// Makes an empty collection in an empty folder.
    pub(super) fn create(folder: &Path, dims: usize) -> Result<(), Error> {
        let indexes = schema::payload_indexes()?;
        guarded(|| {
            let engine = EdgeShard::new(folder, schema::config(dims))?;
            indexes.into_iter().try_for_each(|index| engine.update(index))
            // The engine flushes when it is dropped.
        })
    }

    /// Opens the collection in a folder.
    pub(super) fn load(folder: PathBuf) -> Result<Self, Error> {
        let engine = open(&folder)?;
        let dims = engine.config().vectors.get(DENSE).map_or(0, |dense| dense.size);
        Ok(Self {
            folder,
            dims,
            engine: RwLock::new(Some(engine)),
            changed: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
        })
    }

    /// In what way this is not a collection of `dims` dimensions.
    pub(super) fn difference(&self, dims: usize) -> Result<Option<String>, Error> {
        self.with(|engine| Ok(schema::difference(&engine.config(), dims)))
    }

    /// Every way in which it is not.
    pub(super) fn differences(&self, dims: usize) -> Result<Vec<Difference>, Error> {
        Ok(self
            .difference(dims)?
            .map(|difference| Difference {
                what: "the collection".to_owned(),
                found: difference,
                wanted: format!("dense vectors of {dims} dimensions by cosine, and words with IDF"),
                fatal: true,
            })
            .into_iter()
            .collect())
    }

    // Reads: from any thread, at any time.

    pub(super) fn search(&self, scope: &Scope, query: &Query) -> Result<Vec<Hit>, Error> {
        if query.mode != Mode::Sparse {
            self.check(&query.dense)?;
        }
        let limit = query.limit.min(MAX_LIMIT);
        if limit == 0
            || scope.channels().is_some_and(<[_]>::is_empty)
            || query.filter.authors.as_ref().is_some_and(Vec::is_empty)
        {
            return Ok(vec![]);
        }
        let filter = schema::in_scope(scope, &query.filter)?;
        let dense = || self.nearest(DENSE, VectorInternal::Dense(query.dense.clone()), &filter, query);
        let words = || match query.bm25.is_empty() {
            true => Ok(vec![]),
            false => self.nearest(BM25, VectorInternal::Sparse(to_engine(&query.bm25)), &filter, query),
        };
        let mut ranking = match query.mode {
            Mode::Dense => dense()?,
            Mode::Sparse => words()?,
            Mode::Hybrid => query.fusion.fuse(dense()?, words()?),
        };
        if let Some(least) = query.min_score {
            ranking.retain(|(_, score)| *score >= least);
        }
        self.hits(scope, ranking.into_iter().take(limit).collect())
    }

    /// The points nearest to a vector, best first.
    fn nearest(
        &self,
        name: &str,
        vector: VectorInternal,
        filter: &Filter,
        query: &Query,
    ) -> Result<Vec<Scored>, Error> {
        let (per_hit, at_least) = CANDIDATES;
        let named = NamedQuery { query: vector, using: Some(name.into()) };
        let request = QueryRequest {
            prefetches: vec![],
            query: Some(ScoringQuery::Vector(QueryEnum::Nearest(named))),
            filter: Some(filter.clone()),
            score_threshold: None,
            limit: (query.limit.min(MAX_LIMIT) * per_hit).max(at_least),
            offset: 0,
            params: Some(SearchParams { exact: query.exact, ..SearchParams::default() }),
            with_vector: WithVector::Bool(false),
            with_payload: WithPayloadInterface::Bool(false),
        };
        let found = self.with(|engine| engine.query(request))?;
        let scored = found.into_iter().map(|point| Ok((from_engine_id(point.id)?, point.score)));
        Ok(rank(scored.collect::<Result<_, Error>>()?))
    }

    /// The ranked points with what is known of them now; one that was deleted meanwhile is left out.
    fn hits(&self, scope: &Scope, ranking: Vec<Scored>) -> Result<Vec<Hit>, Error> {
        #[derive(Deserialize)]
        struct Place {
            guild_id: GuildId,
            channel_id: ChannelId,
            session_id: SessionId,
            chunk: u32,
            message_ids: Vec<MessageId>,
            revision: Revision,
        }
        const FIELDS: [&str; 6] =
            ["guild_id", "channel_id", "session_id", "chunk", "message_ids", "revision"];

        let scores: HashMap<_, _> = ranking.iter().copied().collect();
        let mut hits = vec![];
        for record in self.retrieve(ranking.into_iter().map(|(id, _)| id), &FIELDS)? {
            let (id, place): (_, Place) = payload(record)?;
            let Some(&score) = scores.get(&id) else { continue };
            // The filter saw to this; a leak between tenants is worth a second look.
            if scope.admits(place.guild_id, place.channel_id) {
                let Place { guild_id, channel_id, session_id, chunk, message_ids, revision } = place;
                hits.push(Hit { id, score, guild_id, channel_id, session_id, chunk, message_ids, revision });
            }
        }
        Ok(hits)
    }

    pub(super) fn scroll(&self, guild: GuildId, after: Option<PointId>, limit: usize) -> Result<Page, Error> {
        let filter = schema::in_guild(guild)?;
        let (records, more) = self.page(&filter, after, limit, WithPayloadInterface::Bool(true), true)?;
        let points = records.into_iter().map(to_point).collect::<Result<Vec<_>, _>>()?;
        let next = points.last().filter(|_| more).map(|last| last.id);
        Ok(Page { points, next })
    }

    pub(super) fn count(&self, guild: GuildId) -> Result<usize, Error> {
        let filter = Some(schema::in_guild(guild)?);
        self.with(|engine| engine.count(CountRequest { filter, exact: true }))
    }

    pub(super) fn guilds(&self) -> Result<Vec<GuildId>, Error> {
        let key = schema::field("guild_id")?;
        let facet = self.with(|engine| {
            let limit = engine.info().points_count.max(1);
            engine.facet(FacetRequest { key, limit, filter: None, exact: true })
        })?;
        let mut guilds: Vec<GuildId> = facet
            .hits
            .into_iter()
            .filter_map(|hit| match hit.value {
                FacetValue::Keyword(id) if hit.count > 0 => id.parse().ok(),
                _ => None,
            })
            .collect();
        guilds.sort_unstable();
        Ok(guilds)
    }

    // Changes: from the writer's thread alone. They hold after the next flush.

    pub(super) fn upsert(&self, points: Vec<Point>) -> Result<(), Error> {
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

    pub(super) fn delete_below(
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

    pub(super) fn delete_messages(
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
        let outcome = self.with(|engine| engine.update(UpdateOperation::PointOperation(change)));
        self.broken.fetch_or(outcome.is_err(), Ordering::Relaxed);
        outcome
    }

    /// Makes the changes up to here durable.
    pub(super) fn flush(&self) -> Result<(), Error> {
        if self.broken.swap(false, Ordering::Relaxed) {
            // The engine takes no more changes after a failure, until it is loaded anew; what it has of the
            // changes before is not certain.
            self.reopen()?;
            return Err(Error::Engine("a change failed, and those made with it have to be repeated".into()));
        }
        self.with(|engine| {
            engine.flush();
            Ok(())
        })?;
        // Files that are mapped can be written long after they are deleted.
        if self.folder.is_dir() { Ok(()) } else { Err(damaged(&self.folder, "it has vanished")) }
    }

    /// Merges and indexes what has piled up, and drops what was deleted.
    pub(super) fn optimize(&self) -> Result<(), Error> {
        let indexes = schema::payload_indexes()?;
        self.changed.store(0, Ordering::Relaxed);
        self.with(|engine| {
            engine.optimize()?;
            // It opens a new segment for what comes next, without payload indexes.
            indexes.into_iter().try_for_each(|index| engine.update(index))
        })?;
        self.flush()
    }

    /// Makes the payload indexes that are missing.
    pub(super) fn amend(&self) -> Result<(), Error> {
        let indexes = schema::payload_indexes()?;
        self.with(|engine| indexes.into_iter().try_for_each(|index| engine.update(index)))
    }

    /// Puts reorganising off, or makes up for it.
    pub(super) fn bulk(&self, _bulk: Bulk) -> Result<(), Error> {
        Ok(())
    }

    /// Writes the collection into a folder.
    pub(super) fn snapshot(&self, _folder: &Path) -> Result<(), Error> {
        Err(Error::Engine("cannot make a snapshot".to_owned()))
    }

    /// What is to be done now and then, when nothing else is.
    pub(super) fn tend(&self) {
        if self.changed.load(Ordering::Relaxed) >= TEND_AFTER {
            let started = std::time::Instant::now();
            let outcome = self.optimize();
            let (folder, ms) = (self.folder.display(), started.elapsed().as_millis());
            match outcome {
                Ok(()) => tracing::info!(%folder, ms, "reorganised a collection"),
                Err(error) => tracing::warn!(%folder, %error, "a collection could not be reorganised"),
            }
        }
        let log_is_long = closed_logs(&self.folder).is_ok_and(|logs| logs.len() > MAX_LOG_FILES);
        if log_is_long && let Err(error) = self.reopen() {
            tracing::error!(%error, "a collection could not be opened again");
        }
    }

    /// Closes the engine, which flushes it, and opens it again. Reads wait.
    fn reopen(&self) -> Result<(), Error> {
        let mut engine = self.engine.write().unwrap_or_else(PoisonError::into_inner);
        let closed = guarded(|| {
            drop(engine.take());
            Ok(())
        });
        *engine = Some(open(&self.folder)?);
        closed
    }

    // Ways to the engine.

    fn with<T>(&self, work: impl FnOnce(&EdgeShard) -> OperationResult<T>) -> Result<T, Error> {
        let engine = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        let engine = engine.as_ref().ok_or_else(|| damaged(&self.folder, "it could not be opened again"))?;
        guarded(|| work(engine))
    }

    fn retrieve(&self, ids: impl Iterator<Item = PointId>, names: &[&str]) -> Result<Vec<Record>, Error> {
        let ids: Vec<_> = ids.map(|id| EnginePointId::Uuid(id.get())).collect();
        let wanted = fields(names)?;
        self.with(|engine| engine.retrieve(&ids, Some(wanted), Some(WithVector::Bool(false))))
    }

    /// What the filter finds behind `after`, in the order of ids, and whether there is more.
    fn page(
        &self,
        filter: &Filter,
        after: Option<PointId>,
        limit: usize,
        with_payload: WithPayloadInterface,
        with_vector: bool,
    ) -> Result<(Vec<Record>, bool), Error> {
        let first = match after.map(|id| id.get().as_u128().checked_add(1)) {
            None => None,
            Some(None) => return Ok((vec![], false)),
            Some(Some(next)) => Some(EnginePointId::Uuid(uuid::Uuid::from_u128(next))),
        };
        let request = ScrollRequest {
            offset: first,
            limit: Some(limit),
            filter: Some(filter.clone()),
            with_payload: Some(with_payload),
            with_vector: WithVector::Bool(with_vector),
            order_by: None,
        };
        let (records, next) = self.with(|engine| engine.scroll(request))?;
        Ok((records, next.is_some()))
    }

    /// Whether the collection can hold the dense vector.
    fn check(&self, dense: &[f32]) -> Result<(), Error> {
        let finite = dense.iter().filter(|value| value.is_finite()).count();
        if dense.len() == self.dims && finite == self.dims {
            Ok(())
        } else {
            Err(Error::Vector { expected: self.dims, given: finite })
        }
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        let engine = self.engine.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Err(error) = guarded(|| {
            drop(engine);
            Ok(())
        }) {
            tracing::error!(folder = %self.folder.display(), %error, "a collection could not be closed");
        }
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

fn open(folder: &Path) -> Result<EdgeShard, Error> {
    let segments = fs::read_dir(folder.join("segments")).map(|mut entries| entries.next().is_some());
    // The engine would make up for missing segments with an empty one.
    if !segments.unwrap_or(false) {
        return Err(damaged(folder, "its segments are missing"));
    }
    cut_log(folder).map_err(|source| Error::Io { path: folder.to_owned(), source })?;
    guarded(|| EdgeShard::load(folder, None)).map_err(|error| damaged(folder, &error.to_string()))
}

/// Deletes all but the newest of the log's closed files, oldest first. The engine replays none of them at load
/// and goes on counting from the newest.
fn cut_log(folder: &Path) -> io::Result<()> {
    let mut logs = closed_logs(folder)?;
    logs.sort_unstable();
    logs.pop();
    logs.into_iter().try_for_each(|(_, path)| fs::remove_file(path))
}

/// The log's closed files with the number of their first entry.
fn closed_logs(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut logs = vec![];
    for entry in fs::read_dir(folder.join("wal"))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(first) = name.and_then(|name| name.strip_prefix("closed-")?.parse().ok()) {
            logs.push((first, path));
        }
    }
    Ok(logs)
}

/// The engine panics where it cannot go on, for instance when a flush fails.
fn guarded<T>(work: impl FnOnce() -> OperationResult<T>) -> Result<T, Error> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => outcome.map_err(|error| Error::Engine(error.to_string())),
        Err(_) => Err(Error::Engine("it panicked".to_owned())),
    }
}

fn damaged(folder: &Path, reason: &str) -> Error {
    Error::Damaged { folder: folder.to_owned(), reason: reason.to_owned() }
}

fn fields(names: &[&str]) -> Result<WithPayloadInterface, Error> {
    Ok(WithPayloadInterface::Fields(names.iter().map(|name| schema::field(name)).collect::<Result<_, _>>()?))
}

fn to_engine(vector: &SparseVector) -> EngineSparseVector {
    EngineSparseVector { indices: vector.indices().to_vec(), values: vector.values().to_vec() }
}

fn to_struct(point: Point) -> Result<PointStruct, Error> {
    let Point { id, dense, bm25, payload } = point;
    let payload = serde_json::to_value(payload).map_err(|_| Error::Payload(id))?;
    let vectors = Vectors::new_named([(DENSE, Vector::from(dense)), (BM25, Vector::from(to_engine(&bm25)))]);
    Ok(PointStruct::new(EnginePointId::Uuid(id.get()), vectors, payload))
}

fn to_point(mut record: Record) -> Result<Point, Error> {
    let Some(VectorStructInternal::Named(mut vectors)) = record.vector.take() else {
        return Err(Error::Engine("a point has no named vectors".to_owned()));
    };
    let dense = match vectors.remove(DENSE) {
        Some(VectorInternal::Dense(dense)) => dense,
        _ => vec![],
    };
    let bm25 = match vectors.remove(BM25) {
        Some(VectorInternal::Sparse(words)) => words.indices.into_iter().zip(words.values).collect(),
        _ => SparseVector::default(),
    };
    let (id, payload) = payload(record)?;
    Ok(Point { id, dense, bm25, payload })
}

fn payload<T: DeserializeOwned>(record: Record) -> Result<(PointId, T), Error> {
    let id = from_engine_id(record.id)?;
    let map = record.payload.map(|payload| payload.0).unwrap_or_default();
    // What the decoder says could quote content.
    let decoded = serde_json::from_value(serde_json::Value::Object(map)).map_err(|_| Error::Payload(id))?;
    Ok((id, decoded))
}

fn from_engine_id(id: EnginePointId) -> Result<PointId, Error> {
    match id {
        EnginePointId::Uuid(id) => Ok(id.into()),
        EnginePointId::NumId(id) => Err(Error::Engine(format!("point {id} is not of this program"))),
    }
}
