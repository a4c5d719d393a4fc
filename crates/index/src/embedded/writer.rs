//! The one thread that writes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use guildex_types::{GuildId, MessageId, Revision, SessionId};
use tokio::sync::{mpsc, oneshot};

use super::collection_registry::CollectionRegistry;
use super::shard::Shard;
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
    Collection(CollectionOp),
}

pub(super) enum CollectionOp {
    Optimize,
    UpdateInPlace,
    Snapshot(PathBuf),
    Restore { dims: usize, folder: PathBuf },
    Drop,
}

/// Serves requests until no one can send any more.
pub(super) fn run(registry: &CollectionRegistry, mut requests: mpsc::Receiver<Request>) {
    let mut group = Vec::with_capacity(MAX_GROUP);
    while requests.blocking_recv_many(&mut group, MAX_GROUP) > 0 {
        commit(registry, group.drain(..));
        let opened = registry.opened();
        opened.iter().for_each(|shard| shard.tend());
        if requests.is_empty() {
            opened.iter().for_each(|shard| shard.tend_log());
        }
    }
}

/// Applies the group's changes in their order, flushes each collection once, and only then answers. Changes of
/// a whole collection stand alone: those before them are flushed and answered first.
fn commit(registry: &CollectionRegistry, group: impl Iterator<Item = Request>) {
    let mut applied: BTreeMap<CollectionName, (Arc<Shard>, Vec<oneshot::Sender<_>>)> = BTreeMap::new();
    for Request { collection, change, done } in group {
        let outcome = match change {
            Change::Collection(change) => {
                applied.remove(&collection).into_iter().for_each(|(shard, waiting)| flush(&shard, waiting));
                answer(done, change_collection(registry, collection, change));
                continue;
            }
            Change::Upsert(points) => apply(registry, &collection, |shard| shard.upsert(points)),
            Change::DeleteBelow(guild, sessions) => {
                apply(registry, &collection, |shard| shard.delete_below(guild, sessions))
            }
            Change::DeleteMessages(guild, messages, below) => {
                apply(registry, &collection, |shard| shard.delete_messages(guild, &messages, below))
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
    registry: &CollectionRegistry,
    collection: &CollectionName,
    change: impl FnOnce(&Shard) -> Result<(), Error>,
) -> Result<Arc<Shard>, Error> {
    let shard = registry.shard(collection)?;
    change(&shard).map(|()| shard)
}

fn change_collection(
    registry: &CollectionRegistry,
    name: CollectionName,
    change: CollectionOp,
) -> Result<(), Error> {
    match change {
        CollectionOp::Optimize => registry.shard(&name)?.optimize(),
        CollectionOp::UpdateInPlace => registry.shard(&name)?.update_in_place(),
        CollectionOp::Snapshot(folder) => registry.shard(&name)?.snapshot(&folder),
        CollectionOp::Restore { dims, folder } => registry.restore(&Collection { name, dims }, &folder),
        CollectionOp::Drop => registry.remove(&name),
    }
}

fn answer(done: oneshot::Sender<Result<(), Error>>, outcome: Result<(), Error>) {
    // Whoever asked may have stopped waiting.
    let _ = done.send(outcome);
}
