//! One collection in the engine.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use guildex_types::{ChannelId, GuildId, MessageId, PointId, Revision, SessionId};
use qdrant_edge::{
    CountRequest, FacetRequest, FacetValue, Filter, NamedQuery, PointId as EnginePointId,
    PointInsertOperations, PointOperations, QueryEnum, QueryRequest, Record, ScoringQuery, ScrollRequest,
    SearchParams, UpdateOperation, VectorInternal, WithPayloadInterface, WithVector,
};
use serde::Deserialize;

use super::convert::{fields, from_engine_id, payload, to_engine, to_point, to_struct};
use super::engine::Engine;
use super::schema::{self, BM25, DENSE};
use super::snapshot;
use crate::fusion::{DEPTH, Scored, rank};
use crate::{Bulk, Difference, Error, Hit, MAX_LIMIT, Mode, Page, Point, Query, Scope};

/// After how many written or deleted points an idle collection is reorganised.
const TEND_AFTER: usize = 20_000;

/// How far a ranking is read for points that score as well as its last one.
const MAX_TIES: usize = 10_000;

pub(super) struct Shard {
    engine: Engine,
    dims: usize,
    /// Points written or deleted since the last reorganisation.
    changed: AtomicUsize,
    /// Whether much is being written, and reorganising has to wait.
    bulk: AtomicBool,
    /// Whether a change failed since the last flush.
    broken: AtomicBool,
}

impl Shard {
    /// Makes an empty collection in an empty folder.
    pub(super) fn create(folder: &Path, dims: usize) -> Result<(), Error> {
        Engine::create(folder, dims)
    }

    /// Opens the collection in a folder.
    pub(super) fn load(folder: PathBuf) -> Result<Self, Error> {
        let engine = Engine::open(folder)?;
        let (dims, unsorted) = engine.with(|engine| {
            let dims = engine.config().vectors.get(DENSE).map_or(0, |dense| dense.size);
            let info = engine.info();
            // Of an organised point both vectors count.
            Ok((dims, info.points_count.saturating_sub(info.indexed_vectors_count / 2)))
        })?;
        Ok(Self {
            engine,
            dims,
            changed: AtomicUsize::new(unsorted),
            bulk: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        })
    }

    /// Closes the collection for good, once the reads that run are done.
    pub(super) fn close(&self) {
        self.engine.close();
    }

    /// Whether it is closed: another may be in its place.
    pub(super) fn is_closed(&self) -> bool {
        self.engine.is_closed()
    }

    /// In what way these are not vectors of `dims` dimensions, compared by cosine, and words with IDF.
    pub(super) fn mismatch(&self, dims: usize) -> Result<Option<Difference>, Error> {
        self.engine.with(|engine| Ok(schema::mismatches(&engine.config(), dims).into_iter().next()))
    }

    /// Every way in which this is not what [`create`](Self::create) makes.
    pub(super) fn differences(&self, dims: usize) -> Result<Vec<Difference>, Error> {
        let (mut differences, indexes) = self.engine.with(|engine| {
            let config = engine.config();
            let mut differences = schema::mismatches(&config, dims);
            differences.extend(schema::slowdowns(&config, dims));
            Ok((differences, engine.info().payload_schema))
        })?;
        differences.extend(schema::index_differences(&indexes)?);
        Ok(differences)
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

    /// The [`DEPTH`] points nearest to a vector, best first. Where equal scores straddle the cut, those with the
    /// lowest ids are in, like everywhere else, as long as no more than [`MAX_TIES`] points score as well; of
    /// more, the engine's pick stands, which is the same until something is written.
    fn nearest(
        &self,
        name: &str,
        vector: VectorInternal,
        filter: &Filter,
        query: &Query,
    ) -> Result<Vec<Scored>, Error> {
        let named = NamedQuery { query: vector, using: Some(name.into()) };
        let mut request = QueryRequest {
            prefetches: vec![],
            query: Some(ScoringQuery::Vector(QueryEnum::Nearest(named))),
            filter: Some(filter.clone()),
            score_threshold: None,
            limit: DEPTH + 1,
            offset: 0,
            params: Some(SearchParams { exact: query.exact, ..SearchParams::default() }),
            with_vector: WithVector::Bool(false),
            with_payload: WithPayloadInterface::Bool(false),
        };
        let mut found = self.engine.with(|engine| engine.query(request.clone()))?;
        if let [.., last, next] = found.as_slice()
            && found.len() > DEPTH
            && last.score == next.score
        {
            request.limit = MAX_TIES;
            found = self.engine.with(|engine| engine.query(request))?;
        }
        let scored = found.into_iter().map(|point| Ok((from_engine_id(point.id)?, point.score)));
        let mut ranking = rank(scored.collect::<Result<_, Error>>()?);
        ranking.truncate(DEPTH);
        Ok(ranking)
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
        self.engine.with(|engine| engine.count(CountRequest { filter, exact: true }))
    }

    pub(super) fn guilds(&self) -> Result<Vec<GuildId>, Error> {
        let key = schema::field("guild_id")?;
        let facet = self.engine.with(|engine| {
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
        let outcome = self.engine.with(|engine| engine.update(UpdateOperation::PointOperation(change)));
        self.broken.fetch_or(outcome.is_err(), Ordering::Relaxed);
        outcome
    }

    /// Makes the changes up to here durable.
    pub(super) fn flush(&self) -> Result<(), Error> {
        if self.broken.swap(false, Ordering::Relaxed) {
            // The engine takes no more changes after a failure, until it is loaded anew; what it has of the
            // changes before is not certain.
            self.engine.reopen()?;
            return Err(Error::Engine("a change failed, and those made with it have to be repeated".into()));
        }
        self.engine.flush()
    }

    /// Merges and indexes what has piled up, and drops what was deleted.
    pub(super) fn optimize(&self) -> Result<(), Error> {
        let indexes = schema::payload_indexes()?;
        self.changed.store(0, Ordering::Relaxed);
        self.engine.with(|engine| {
            engine.optimize()?;
            // It opens a new segment for what comes next, without payload indexes.
            indexes.into_iter().try_for_each(|index| engine.update(index))
        })?;
        self.flush()
    }

    /// Makes the payload indexes that are missing.
    pub(super) fn amend(&self) -> Result<(), Error> {
        let indexes = schema::payload_indexes()?;
        self.engine.with(|engine| indexes.into_iter().try_for_each(|index| engine.update(index)))?;
        self.flush()
    }

    /// Puts reorganising off, or makes up for it.
    pub(super) fn bulk(&self, bulk: Bulk) -> Result<(), Error> {
        self.bulk.store(bulk == Bulk::Begin, Ordering::Relaxed);
        if self.is_due() { self.optimize() } else { Ok(()) }
    }

    fn is_due(&self) -> bool {
        !self.bulk.load(Ordering::Relaxed) && self.changed.load(Ordering::Relaxed) >= TEND_AFTER
    }

    /// Writes a copy of the collection into an empty folder. Nothing is changed meanwhile, since whoever could is
    /// here; reads go on.
    pub(super) fn snapshot(&self, folder: &Path) -> Result<(), Error> {
        self.flush()?;
        snapshot::write(self.engine.folder(), folder)
    }

    /// What is to be done now and then, when nothing else is.
    pub(super) fn tend(&self) {
        if self.is_due() {
            let started = std::time::Instant::now();
            let outcome = self.optimize();
            let (folder, ms) = (self.engine.folder().display(), started.elapsed().as_millis());
            match outcome {
                Ok(()) => tracing::info!(%folder, ms, "reorganised a collection"),
                Err(error) => tracing::warn!(%folder, %error, "a collection could not be reorganised"),
            }
        }
        if let Err(error) = self.engine.tend_log() {
            tracing::error!(%error, "a collection could not be opened again");
        }
    }

    fn retrieve(&self, ids: impl Iterator<Item = PointId>, names: &[&str]) -> Result<Vec<Record>, Error> {
        let ids: Vec<_> = ids.map(|id| EnginePointId::Uuid(id.get())).collect();
        let wanted = fields(names)?;
        self.engine.with(|engine| engine.retrieve(&ids, Some(wanted), Some(WithVector::Bool(false))))
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
        let (records, next) = self.engine.with(|engine| engine.scroll(request))?;
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

/// The part of a payload that decides what may be overwritten or deleted.
#[derive(Deserialize)]
struct Stamp {
    session_id: SessionId,
    revision: Revision,
}

impl Stamp {
    const FIELDS: [&str; 2] = ["session_id", "revision"];
}
