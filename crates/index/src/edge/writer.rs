//! The one thread that writes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use guildex_types::{GuildId, MessageId, Revision, SessionId};
use tokio::sync::{mpsc, oneshot};

use super::shard::Shard;
use super::shelf::Shelf;
use crate::{Collection, CollectionName, Error, Point};

/// How many requests may wait, and how many share a flush.
pub(super) const MAX_GROUP: usize = 64;

/// A change that somebody waits for.
pub(super) struct Request {
    pub(super) collection: CollectionName,
    pub(super) change: Change,
    /// Gets the outcome once the change is durable.
    pub(super) done: oneshot::Sender<Result<(), Error>>,
}

pub(super) enum Change {
    Upsert(Vec<Point>),
    DeleteBelow(GuildId, Vec<(SessionId, Revision)>),
    DeleteMessages(GuildId, Vec<MessageId>, Revision),
    /// Of the collection as a whole.
    Whole(Whole),
}

pub(super) enum Whole {
    Optimize,
    Amend,
    Snapshot(PathBuf),
    /// A collection of so many dimensions, from a folder.
    Restore(usize, PathBuf),
    Drop,
}

/// Serves requests until no one can send any more.
pub(super) fn run(shelf: &Shelf, mut requests: mpsc::Receiver<Request>) {
    let mut group = Vec::with_capacity(MAX_GROUP);
    while requests.blocking_recv_many(&mut group, MAX_GROUP) > 0 {
        commit(shelf, group.drain(..));
        let opened = shelf.opened();
        opened.iter().for_each(|shard| shard.tend());
        if requests.is_empty() {
            opened.iter().for_each(|shard| shard.tend_log());
        }
    }
}

/// Applies the group's changes in their order, flushes each collection once, and only then answers. Changes of
/// a whole collection stand alone: those before them are flushed and answered first.
fn commit(shelf: &Shelf, group: impl Iterator<Item = Request>) {
    let mut applied: BTreeMap<CollectionName, (Arc<Shard>, Vec<oneshot::Sender<_>>)> = BTreeMap::new();
    for Request { collection, change, done } in group {
        let outcome = match change {
            Change::Whole(change) => {
                applied.remove(&collection).into_iter().for_each(|(shard, waiting)| flush(&shard, waiting));
                answer(done, change_whole(shelf, collection, change));
                continue;
            }
            Change::Upsert(points) => apply(shelf, &collection, |shard| shard.upsert(points)),
            Change::DeleteBelow(guild, sessions) => {
                apply(shelf, &collection, |shard| shard.delete_below(guild, sessions))
            }
            Change::DeleteMessages(guild, messages, below) => {
                apply(shelf, &collection, |shard| shard.delete_messages(guild, &messages, below))
            }
        };
        match outcome {
            Ok(shard) => applied.entry(collection).or_insert_with(|| (shard, vec![])).1.push(done),
            Err(error) => answer(done, Err(error)),
        }
    }
    applied.into_values().for_each(|(shard, waiting)| flush(&shard, waiting));
}

fn flush(shard: &Shard, waiting: Vec<oneshot::Sender<Result<(), Error>>>) {
    let failure = shard.flush().err().map(|error| error.to_string());
    for done in waiting {
        answer(done, failure.clone().map_or(Ok(()), |reason| Err(Error::Engine(reason))));
    }
}

fn apply(
    shelf: &Shelf,
    collection: &CollectionName,
    change: impl FnOnce(&Shard) -> Result<(), Error>,
) -> Result<Arc<Shard>, Error> {
    let shard = shelf.shard(collection)?;
    change(&shard).map(|()| shard)
}

fn change_whole(shelf: &Shelf, name: CollectionName, change: Whole) -> Result<(), Error> {
    match change {
        Whole::Optimize => shelf.shard(&name)?.optimize(),
        Whole::Amend => shelf.shard(&name)?.amend(),
        Whole::Snapshot(folder) => shelf.shard(&name)?.snapshot(&folder),
        Whole::Restore(dims, folder) => shelf.restore(&Collection { name, dims }, &folder),
        Whole::Drop => shelf.remove(&name),
    }
}

fn answer(done: oneshot::Sender<Result<(), Error>>, outcome: Result<(), Error>) {
    // Whoever asked may have stopped waiting.
    let _ = done.send(outcome);
}
