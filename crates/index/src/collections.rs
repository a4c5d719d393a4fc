//! What happens to whole collections.

use std::fmt;
use std::path::Path;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Collection, CollectionName, Error};

/// The collections of an index: their making, checking, moving and end.
pub trait Collections: Send + Sync {
    /// Makes the collection with its payload indexes, unless it is there.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if it is there with other vectors; [`Error::Damaged`] if it cannot be opened.
    fn ensure<'a>(&'a self, collection: &'a Collection) -> BoxFuture<'a, Result<Ensured, Error>>;

    /// Where the collection differs from what [`ensure`](Self::ensure) would make; empty if nowhere.
    ///
    /// # Errors
    /// [`Error::NoCollection`] if it is not there.
    fn differences<'a>(&'a self, collection: &'a Collection)
    -> BoxFuture<'a, Result<Vec<Difference>, Error>>;

    /// Mends what can be mended in place (payload indexes, graphs, thresholds, limits, quantization) and returns
    /// the [`differences`](Self::differences) that are left. Searches go on meanwhile.
    ///
    /// # Errors
    /// [`Error::NoCollection`] if it is not there.
    fn update_in_place<'a>(
        &'a self,
        collection: &'a Collection,
    ) -> BoxFuture<'a, Result<Vec<Difference>, Error>>;

    /// Whose collection it is, as [`set_identity`](Self::set_identity) wrote it; `None` if nobody did.
    ///
    /// # Errors
    /// [`Error::NoCollection`] if it is not there.
    fn identity<'a>(
        &'a self,
        collection: &'a CollectionName,
    ) -> BoxFuture<'a, Result<Option<Identity>, Error>>;

    /// Writes into the collection whose it is, at once.
    ///
    /// # Errors
    /// [`Error::NoCollection`] if it is not there.
    fn set_identity<'a>(
        &'a self,
        collection: &'a CollectionName,
        identity: Identity,
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// Removes the collection with everything in it. One that is not there is removed already.
    fn drop_collection<'a>(&'a self, collection: &'a CollectionName) -> BoxFuture<'a, Result<(), Error>>;

    /// Makes the alias name the collection, at once and in place of any other, for other readers of the index.
    /// The embedded engine has no other readers: nothing happens there.
    fn set_alias<'a>(
        &'a self,
        alias: &'a str,
        collection: &'a CollectionName,
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// While much is written at once, building graphs for searches is wasted work: [`BulkLoad::Begin`] puts it off,
    /// [`BulkLoad::End`] does it. Searches are right before, during and after. The embedded engine has no graphs,
    /// and makes no difference.
    fn bulk_load<'a>(
        &'a self,
        collection: &'a CollectionName,
        bulk: BulkLoad,
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// Reorganises the collection for fast searches. An index does so by itself when enough has changed; searches
    /// are right before, during and after, while writes may wait.
    fn optimize<'a>(&'a self, collection: &'a CollectionName) -> BoxFuture<'a, Result<(), Error>>;

    /// Writes the collection as it is at one moment into `folder`, which is there and empty. Searches go on
    /// meanwhile, writes may wait. Nothing of a snapshot that was not finished can be restored.
    ///
    /// # Errors
    /// [`Error::NoCollection`] if it is not there; [`Error::Io`] if the folder cannot be written.
    fn snapshot<'a>(
        &'a self,
        collection: &'a CollectionName,
        folder: &'a Path,
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// Puts a collection that [`snapshot`](Self::snapshot) wrote in the place of the one named, which may or may
    /// not be there. It is neither the one that was there nor the one that was copied: say whose it is with
    /// [`set_identity`](Self::set_identity). The snapshot stays as it is; until the end, there has to be room for
    /// a second copy.
    ///
    /// # Errors
    /// [`Error::NotASnapshot`] or [`Error::Mismatch`] if it is no snapshot of such a collection, and whatever
    /// prevents it; what was there is as it was then.
    fn restore<'a>(
        &'a self,
        collection: &'a Collection,
        folder: &'a Path,
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// Whether the index answers.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it does not.
    fn ping(&self) -> BoxFuture<'_, Result<(), Error>>;
}

/// What [`Collections::ensure`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ensured {
    /// The collection was there.
    Existing,
    /// It is new and empty. If the truth has records of points in it, those are lost: index them again.
    Created,
}

/// Whether much is about to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BulkLoad {
    /// Much is.
    Begin,
    /// It has been.
    End,
}

/// Which database a collection belongs to, and which of the collections that ever had this name it is: revisions
/// of two databases do not mix, and neither do a collection and one that took its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The database's installation.
    pub database: Uuid,
    /// The collection.
    pub index: Uuid,
}

/// One way in which a collection is not as it ought to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What differs, such as `payload index guild_id`.
    pub what: String,
    /// How it is.
    pub found: String,
    /// How it ought to be.
    pub wanted: String,
    /// Whether searches and writes are wrong with it, and not only slow.
    pub fatal: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, {} is wanted", self.what, self.found, self.wanted)
    }
}
