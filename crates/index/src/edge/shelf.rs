//! The collections of a folder, each in a folder of its own, opened when they are first asked for.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::lock::lock;
use super::shard::Shard;
use crate::{Collection, CollectionName, Ensured, Error, Identity};

/// The file in a collection's folder that says whose it is.
const IDENTITY: &str = "identity.json";

pub(super) struct Shelf {
    dir: PathBuf,
    shards: Mutex<HashMap<CollectionName, Arc<Shard>>>,
    /// Last, so that it outlives the shards.
    _lock: File,
}

impl Shelf {
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(|source| Error::Io { path: dir.to_owned(), source })?;
        Ok(Self { dir: dir.to_owned(), _lock: lock(dir)?, shards: Mutex::default() })
    }

    /// The collection, if it is there.
    pub(super) fn shard(&self, name: &CollectionName) -> Result<Arc<Shard>, Error> {
        self.find(&mut self.shards(), name)?.ok_or_else(|| Error::NoCollection(name.clone()))
    }

    /// All collections that are open.
    pub(super) fn opened(&self) -> Vec<Arc<Shard>> {
        self.shards().values().cloned().collect()
    }

    pub(super) fn ensure(&self, wanted: &Collection) -> Result<Ensured, Error> {
        let mut shards = self.shards();
        if let Some(shard) = self.find(&mut shards, &wanted.name)? {
            return match shard.difference(wanted.dims)? {
                None => Ok(Ensured::Existing),
                Some(difference) => Err(Error::Mismatch { collection: wanted.name.clone(), difference }),
            };
        }
        let shard = Arc::new(self.create(wanted)?);
        shards.insert(wanted.name.clone(), shard);
        Ok(Ensured::Created)
    }

    /// Whose the collection is.
    pub(super) fn identity(&self, name: &CollectionName) -> Result<Option<Identity>, Error> {
        self.shard(name)?;
        let path = self.dir.join(name.as_str()).join(IDENTITY);
        match fs::read(&path) {
            // What was cut short by a crash counts as not written.
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io { path, source }),
        }
    }

    pub(super) fn set_identity(&self, name: &CollectionName, identity: Identity) -> Result<(), Error> {
        self.shard(name)?;
        let path = self.dir.join(name.as_str()).join(IDENTITY);
        let text = serde_json::to_vec(&identity).map_err(|error| Error::Engine(error.to_string()))?;
        fs::write(&path, text).map_err(|source| Error::Io { path, source })
    }

    /// Closes the collection and removes its folder. Reads that run still end well or with an error.
    pub(super) fn remove(&self, name: &CollectionName) -> Result<(), Error> {
        let mut shards = self.shards();
        shards.remove(name);
        let folder = self.dir.join(name.as_str());
        absent_is_fine(fs::remove_dir_all(&folder)).map_err(|source| Error::Io { path: folder, source })
    }

    /// Puts a collection from another folder in the place of the one named.
    pub(super) fn restore(&self, wanted: &Collection, from: &Path) -> Result<(), Error> {
        let _ = (wanted, from);
        Err(Error::Engine("cannot restore".to_owned()))
    }

    fn find(
        &self,
        shards: &mut HashMap<CollectionName, Arc<Shard>>,
        name: &CollectionName,
    ) -> Result<Option<Arc<Shard>>, Error> {
        if let Some(shard) = shards.get(name) {
            return Ok(Some(Arc::clone(shard)));
        }
        let folder = self.dir.join(name.as_str());
        if !folder.exists() {
            return Ok(None);
        }
        let shard = Arc::new(Shard::load(folder)?);
        shards.insert(name.clone(), Arc::clone(&shard));
        Ok(Some(shard))
    }

    /// Makes the collection under a name that no collection can have and renames it when it is whole, so that
    /// a process that dies here leaves nothing that looks like a collection.
    fn create(&self, wanted: &Collection) -> Result<Shard, Error> {
        let folder = self.dir.join(wanted.name.as_str());
        let draft = self.dir.join(format!(".new-{}", wanted.name));
        let io = |source| Error::Io { path: draft.clone(), source };
        absent_is_fine(fs::remove_dir_all(&draft)).map_err(io)?;
        fs::create_dir(&draft).map_err(io)?;
        Shard::create(&draft, wanted.dims)?;
        fs::rename(&draft, &folder).map_err(io)?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(io)?;
        Shard::load(folder)
    }

    fn shards(&self) -> MutexGuard<'_, HashMap<CollectionName, Arc<Shard>>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn absent_is_fine(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
