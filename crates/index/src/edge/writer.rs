//! The one thread that writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use guildex_types::{GuildId, MessageId, Revision, SessionId};
use tokio::sync::{mpsc, oneshot};

use super::shard::Shard;
use super::shelf::Shelf;
use crate::{CollectionName, Error, Point};

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
        match shelf.shard(&collection).and_then(|shard| apply(&shard, change).map(|()| shard)) {
            Ok(shard) => applied.entry(collection).or_insert_with(|| (shard, vec![])).1.push(done),
            Err(error) => answer(done, Err(error)),
        }
    }
    for (shard, waiting) in applied.into_values() {
        let failure = shard.flush().err().map(|error| error.to_string());
        for done in waiting {
            answer(done, failure.clone().map_or(Ok(()), |reason| Err(Error::Engine(reason))));
        }
    }
}

fn apply(shard: &Shard, change: Change) -> Result<(), Error> {
    match change {
        Change::Upsert(points) => shard.upsert(points),
        Change::DeleteBelow(guild, sessions) => shard.delete_below(guild, sessions),
        Change::DeleteMessages(guild, messages, below) => shard.delete_messages(guild, &messages, below),
        Change::Optimize => shard.optimize(),
    }
}

fn answer(done: oneshot::Sender<Result<(), Error>>, outcome: Result<(), Error>) {
    // Whoever asked may have stopped waiting.
    let _ = done.send(outcome);
}
