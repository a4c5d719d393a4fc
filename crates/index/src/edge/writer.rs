//! The one thread that writes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use guildex_types::{GuildId, MessageId, Revision, SessionId};
use tokio::sync::{mpsc, oneshot};

use super::shard::Shard;
use super::shelf::Shelf;
use crate::{Bulk, Collection, CollectionName, Error, Point};

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
    Optimize,
    Amend,
    Bulk(Bulk),
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
        if requests.is_empty() {
            shelf.opened().iter().for_each(|shard| shard.tend());
        }
    }
}

/// Applies the group's changes in their order, flushes each collection once, and only then answers.
fn commit(shelf: &Shelf, group: impl Iterator<Item = Request>) {
    let mut applied: BTreeMap<CollectionName, (Arc<Shard>, Vec<oneshot::Sender<_>>)> = BTreeMap::new();
    for Request { collection, change, done } in group {
        let change = match change {
            Change::Drop => {
                applied.remove(&collection).into_iter().for_each(|(shard, waiting)| flush(&shard, waiting));
                answer(done, shelf.remove(&collection));
                continue;
            }
            Change::Restore(dims, folder) => {
                applied.remove(&collection).into_iter().for_each(|(shard, waiting)| flush(&shard, waiting));
                answer(done, shelf.restore(&Collection { name: collection, dims }, &folder));
                continue;
            }
            change => change,
        };
        match shelf.shard(&collection).and_then(|shard| apply(&shard, change).map(|()| shard)) {
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

fn apply(shard: &Shard, change: Change) -> Result<(), Error> {
    match change {
        Change::Upsert(points) => shard.upsert(points),
        Change::DeleteBelow(guild, sessions) => shard.delete_below(guild, sessions),
        Change::DeleteMessages(guild, messages, below) => shard.delete_messages(guild, &messages, below),
        Change::Optimize => shard.optimize(),
        Change::Amend => shard.amend(),
        Change::Bulk(bulk) => shard.bulk(bulk),
        Change::Snapshot(folder) => shard.snapshot(&folder),
        // These are about the folder, not what is in it.
        Change::Drop | Change::Restore(..) => Ok(()),
    }
}

fn answer(done: oneshot::Sender<Result<(), Error>>, outcome: Result<(), Error>) {
    // Whoever asked may have stopped waiting.
    let _ = done.send(outcome);
}
