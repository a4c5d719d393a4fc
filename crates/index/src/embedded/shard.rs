//! One collection in the engine.

mod changes;
mod search;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use guildex_types::{GuildId, PointId};
use qdrant_edge::{
    CountRequest, FacetRequest, FacetValue, Filter, PointId as EnginePointId, Record, ScrollRequest,
    WithPayloadInterface, WithVector,
};

use super::convert::{fields, payload, to_point};
use super::engine::Engine;
use super::schema::{self, DENSE};
use super::snapshot;
use crate::point::StoredHeader;
use crate::{Difference, Error, Page, PointHeader};

pub(super) struct Shard {
    engine: Engine,
    dims: usize,
    /// Points written or deleted since the last reorganisation.
    changed: AtomicUsize,
    /// Whether something was changed since the last flush.
    unflushed: AtomicBool,
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
            unflushed: AtomicBool::new(false),
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
        let (mut differences, indexes) = self
            .engine
            .with(|engine| Ok((schema::mismatches(&engine.config(), dims), engine.info().payload_schema)))?;
        differences.extend(schema::index_differences(&indexes)?);
        Ok(differences)
    }

    // Reads: from any thread, at any time.

    pub(super) fn scroll(&self, guild: GuildId, after: Option<PointId>, limit: usize) -> Result<Page, Error> {
        let filter = schema::in_guild(guild)?;
        let (records, more) = self.page(&filter, after, limit, WithPayloadInterface::Bool(true), true)?;
        let points = records.into_iter().map(to_point).collect::<Result<Vec<_>, _>>()?;
        let next = points.last().filter(|_| more).map(|last| last.id);
        Ok(Page { points, next })
    }

    /// The marks of the points behind `after`, in the order of their ids.
    pub(super) fn headers_after(
        &self,
        guild: GuildId,
        after: Option<PointId>,
        limit: usize,
    ) -> Result<Vec<PointHeader>, Error> {
        let (filter, wanted) = (schema::in_guild(guild)?, fields(&StoredHeader::FIELDS)?);
        let (records, _) = self.page(&filter, after, limit, wanted, false)?;
        records
            .into_iter()
            .map(|record| payload::<StoredHeader>(record).map(|(id, marked)| marked.of(id)))
            .collect()
    }

    /// The marks of those of the points that are the guild's.
    pub(super) fn headers_by_id(&self, guild: GuildId, ids: &[PointId]) -> Result<Vec<PointHeader>, Error> {
        let mut marks = Vec::with_capacity(ids.len());
        for record in self.retrieve(ids.iter().copied(), &StoredHeader::FIELDS)? {
            let (id, marked) = payload::<StoredHeader>(record)?;
            if marked.guild_id == guild {
                marks.push(marked.of(id));
            }
        }
        marks.sort_unstable_by_key(|mark| mark.id);
        Ok(marks)
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

    // Changes: from the writer's thread alone.

    /// Makes the changes up to here durable.
    pub(super) fn flush(&self) -> Result<(), Error> {
        if self.broken.swap(false, Ordering::Relaxed) {
            // The engine takes no more changes after a failure, until it is loaded anew; what it has of the
            // changes before is not certain.
            self.engine.reopen()?;
            return Err(Error::Engine("a change failed, and those made with it have to be repeated".into()));
        }
        // It costs as much when nothing was changed: most removals of what is older find nothing.
        if self.unflushed.load(Ordering::Relaxed) {
            self.engine.flush()?;
            self.unflushed.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Seals the segment that took new points when it is full, merges small ones, and drops what was deleted.
    pub(super) fn optimize(&self) -> Result<(), Error> {
        let indexes = schema::payload_indexes()?;
        self.changed.store(0, Ordering::Relaxed);
        let reorganised = self.engine.with(|engine| {
            let segments = schema::segments(self.dims, engine.info().points_count);
            if engine.config().optimizers != segments {
                engine.set_optimizers_config(segments)?;
            }
            let reorganised = engine.optimize()?;
            // It opens a new segment for what comes next, without payload indexes.
            indexes.into_iter().try_for_each(|index| engine.update(index))?;
            Ok(reorganised)
        })?;
        self.unflushed.store(true, Ordering::Relaxed);
        self.flush()?;
        if !reorganised {
            return Ok(());
        }
        // What was read and written of files that are mapped counts as the process' memory until they are closed.
        self.engine.reopen()
    }

    /// Makes the payload indexes that are missing.
    pub(super) fn update_in_place(&self) -> Result<(), Error> {
        let indexes = schema::payload_indexes()?;
        self.engine.with(|engine| indexes.into_iter().try_for_each(|index| engine.update(index)))?;
        self.unflushed.store(true, Ordering::Relaxed);
        self.flush()
    }

    /// Writes a copy of the collection into an empty folder. Nothing is changed meanwhile, since whoever could is
    /// here; reads go on.
    pub(super) fn snapshot(&self, folder: &Path) -> Result<(), Error> {
        self.flush()?;
        snapshot::write(self.engine.folder(), folder)
    }

    /// Reorganises the collection if enough was changed.
    pub(super) fn tend(&self) {
        if self.changed.load(Ordering::Relaxed) < schema::SEALED_FROM {
            return;
        }
        let started = std::time::Instant::now();
        let outcome = self.optimize();
        let (folder, ms) = (self.engine.folder().display(), started.elapsed().as_millis());
        match outcome {
            Ok(()) => tracing::info!(%folder, ms, "reorganised a collection"),
            Err(error) => tracing::warn!(%folder, %error, "a collection could not be reorganised"),
        }
    }

    /// Cuts the log when it has grown long.
    pub(super) fn tend_log(&self) {
        if let Err(error) = self.engine.tend_log() {
            tracing::error!(%error, "a collection could not be opened again");
        }
    }

    // Ways to the engine.

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
