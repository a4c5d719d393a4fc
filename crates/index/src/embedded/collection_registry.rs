//! The collections of a folder, each in a folder of its own, opened when they are first asked for.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::files::Folders;
use super::lock::lock;
use super::shard::Shard;
use super::{identity, snapshot};
use crate::{Collection, CollectionName, Difference, Ensured, Error, Identity};

pub(super) struct CollectionRegistry {
    folders: Folders,
    shards: Mutex<Shards>,
    /// Last, so that it outlives the shards.
    _lock: File,
}

type Shards = HashMap<CollectionName, Arc<Shard>>;

impl CollectionRegistry {
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(|source| Error::Io { path: dir.to_owned(), source })?;
        let lock = lock(dir)?;
        Ok(Self { folders: Folders::open(dir)?, shards: Mutex::default(), _lock: lock })
    }

    /// The collection, if it is there.
    pub(super) fn shard(&self, name: &CollectionName) -> Result<Arc<Shard>, Error> {
        self.existing(&mut self.shards(), name)
    }

    /// All collections that are open.
    pub(super) fn opened(&self) -> Vec<Arc<Shard>> {
        self.shards().values().cloned().collect()
    }

    pub(super) fn ensure(&self, wanted: &Collection) -> Result<Ensured, Error> {
        let mut shards = self.shards();
        if let Some(shard) = self.find(&mut shards, &wanted.name)? {
            return match shard.mismatch(wanted.dims)? {
                None => Ok(Ensured::Existing),
                Some(difference) => Err(mismatch(wanted, &difference)),
            };
        }
        // Made elsewhere and renamed when it is whole: a process that dies here leaves nothing that looks like
        // a collection.
        Shard::create(&self.folders.draft(&wanted.name)?, wanted.dims)?;
        self.folders.place(&wanted.name)?;
        self.existing(&mut shards, &wanted.name)?;
        Ok(Ensured::Created)
    }

    /// Whose the collection is.
    pub(super) fn identity(&self, name: &CollectionName) -> Result<Option<Identity>, Error> {
        let mut shards = self.shards();
        self.existing(&mut shards, name)?;
        identity::read(&self.folders.home(name))
    }

    pub(super) fn set_identity(&self, name: &CollectionName, identity: Identity) -> Result<(), Error> {
        let mut shards = self.shards();
        self.existing(&mut shards, name)?;
        identity::write(&self.folders.home(name), identity)
    }

    /// Closes the collection and removes its folder.
    pub(super) fn remove(&self, name: &CollectionName) -> Result<(), Error> {
        let mut shards = self.shards();
        close(&mut shards, name);
        self.folders.take(name)?;
        drop(shards);
        self.folders.clear(name);
        Ok(())
    }

    /// Puts the collection that a snapshot holds in the place of the one named. Reads go on until the folders
    /// are renamed, which nothing but damage that the opening of a copy did not show makes fail.
    pub(super) fn restore(&self, wanted: &Collection, from: &Path) -> Result<(), Error> {
        let restored = self.bring_in(wanted, from).and_then(|()| self.exchange(&wanted.name));
        self.folders.clear(&wanted.name);
        restored
    }

    /// Copies the snapshot beside the collection and tries it.
    fn bring_in(&self, wanted: &Collection, from: &Path) -> Result<(), Error> {
        let next = self.folders.next(&wanted.name)?;
        snapshot::read(from, &next)?;
        let copy = Shard::load(next).map_err(|error| match error {
            Error::Damaged { reason, .. } => Error::NotASnapshot { folder: from.to_owned(), reason },
            other => other,
        })?;
        match copy.mismatch(wanted.dims)? {
            None => Ok(()),
            Some(difference) => Err(mismatch(wanted, &difference)),
        }
        // The copy closes here: the engine does not follow when its folder is renamed.
    }

    fn exchange(&self, name: &CollectionName) -> Result<(), Error> {
        let mut shards = self.shards();
        close(&mut shards, name);
        self.folders.swap(name)?;
        if let Err(error) = self.existing(&mut shards, name) {
            self.folders.swap_back(name)?;
            return Err(error);
        }
        Ok(())
    }

    fn existing(&self, shards: &mut Shards, name: &CollectionName) -> Result<Arc<Shard>, Error> {
        self.find(shards, name)?.ok_or_else(|| Error::NoCollection(name.clone()))
    }

    fn find(&self, shards: &mut Shards, name: &CollectionName) -> Result<Option<Arc<Shard>>, Error> {
        if let Some(shard) = shards.get(name) {
            return Ok(Some(Arc::clone(shard)));
        }
        let home = self.folders.home(name);
        if !home.exists() {
            return Ok(None);
        }
        let shard = Arc::new(Shard::load(home)?);
        shards.insert(name.clone(), Arc::clone(&shard));
        Ok(Some(shard))
    }

    fn shards(&self) -> MutexGuard<'_, Shards> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the collection if it is open. Whoever still has it finds that out, and looks here again.
fn close(shards: &mut Shards, name: &CollectionName) {
    if let Some(shard) = shards.remove(name) {
        shard.close();
    }
}

fn mismatch(wanted: &Collection, difference: &Difference) -> Error {
    Error::Mismatch { collection: wanted.name.clone(), difference: difference.to_string() }
}
