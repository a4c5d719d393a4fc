//! The engine behind a collection: opened, closed, and opened again.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use qdrant_edge::{EdgeConfig, EdgeShard, OperationResult};

use super::schema;
use crate::Error;

/// How many closed files of the engine's log, 8 MiB each, are let lie about.
const MAX_LOG_FILES: usize = 32;

pub(super) struct Engine {
    folder: PathBuf,
    state: RwLock<State>,
}

enum State {
    Open(Box<EdgeShard>),
    /// It could not be opened again.
    Lost,
    /// The collection was dropped, or another took its place.
    Closed,
}

impl Engine {
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
    pub(super) fn open(folder: PathBuf) -> Result<Self, Error> {
        let state = RwLock::new(State::Open(Box::new(load(&folder)?)));
        Ok(Self { folder, state })
    }

    /// The collection's folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Works with the engine while it is open; it is not closed meanwhile.
    pub(super) fn with<T>(&self, work: impl FnOnce(&EdgeShard) -> OperationResult<T>) -> Result<T, Error> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(engine) => guarded(|| work(engine)),
            State::Lost => Err(damaged(&self.folder, "it could not be opened again")),
            State::Closed => Err(Error::Engine("the collection is no longer there".to_owned())),
        }
    }

    /// Makes what was changed up to here durable.
    pub(super) fn flush(&self) -> Result<(), Error> {
        self.with(|engine| {
            engine.flush();
            Ok(())
        })?;
        // Files that are mapped can be written long after they are deleted.
        if self.folder.is_dir() { Ok(()) } else { Err(damaged(&self.folder, "it has vanished")) }
    }

    /// Closes the engine, which flushes it, and opens it again, unless it is closed for good. Reads wait.
    pub(super) fn reopen(&self) -> Result<(), Error> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Closed) {
            return Ok(());
        }
        let closed = end(std::mem::replace(&mut *state, State::Lost));
        *state = State::Open(Box::new(load(&self.folder)?));
        closed
    }

    /// Closes the engine for good once the reads that run are done, so that nothing of it reaches for files that
    /// come to lie where its own did.
    pub(super) fn close(&self) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let open = std::mem::replace(&mut *state, State::Closed);
        drop(state);
        if let Err(error) = end(open) {
            tracing::error!(folder = %self.folder.display(), %error, "a collection could not be closed");
        }
    }

    /// Whether [`close`](Self::close) was called.
    pub(super) fn is_closed(&self) -> bool {
        matches!(&*self.state.read().unwrap_or_else(PoisonError::into_inner), State::Closed)
    }

    /// Cuts the log when it has grown long. The engine never does.
    pub(super) fn tend_log(&self) -> Result<(), Error> {
        let is_long = closed_logs(&self.folder).is_ok_and(|logs| logs.len() > MAX_LOG_FILES);
        if is_long { self.reopen() } else { Ok(()) }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}

fn load(folder: &Path) -> Result<EdgeShard, Error> {
    let segments = fs::read_dir(folder.join("segments")).map(|mut entries| entries.next().is_some());
    // The engine would make up for missing segments with an empty one.
    if !segments.unwrap_or(false) {
        return Err(damaged(folder, "its segments are missing"));
    }
    cut_log(folder).map_err(|source| Error::Io { path: folder.to_owned(), source })?;
    guarded(|| {
        // With what is wanted today; segments of another make are rewritten when the collection is reorganised.
        let config = EdgeConfig::load(folder).transpose()?.map(schema::renewed);
        EdgeShard::load(folder, config)
    })
    .map_err(|error| damaged(folder, &error.to_string()))
}

/// The engine flushes when it is dropped, and panics if it cannot.
fn end(state: State) -> Result<(), Error> {
    guarded(|| {
        drop(state);
        Ok(())
    })
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
