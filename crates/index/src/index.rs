use futures::future::BoxFuture;
use guildex_types::{GuildId, MessageId, PointId, Revision, SessionId};

use crate::{CollectionName, Collections, Error, Hit, Page, Point, PointHeader, PointSelector, Query, Scope};

/// A vector index. Whatever reads or deletes points names their guild.
///
/// Writes are durable when they return, may be repeated, and may come in any order: a revision that is older
/// than what is stored changes nothing.
pub trait VectorIndex: Send + Sync {
    /// The collections that the points are in.
    fn collections(&self) -> &dyn Collections;

    /// Writes the points, except those whose stored revision is higher. The refusal is silent.
    ///
    /// # Errors
    /// [`Error::Vector`] for a dense vector of other dimensions or with values that are not finite; nothing of
    /// the batch is written then.
    fn upsert<'a>(
        &'a self,
        collection: &'a CollectionName,
        points: Vec<Point>,
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// Removes the points of each session that have a lower revision than the one given. The revision of a
    /// session's tombstone removes all of it.
    fn delete_below<'a>(
        &'a self,
        collection: &'a CollectionName,
        guild: GuildId,
        sessions: &'a [(SessionId, Revision)],
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// Removes the points with a revision lower than `below` that hold any of the messages.
    fn delete_messages<'a>(
        &'a self,
        collection: &'a CollectionName,
        guild: GuildId,
        messages: &'a [MessageId],
        below: Revision,
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// The best points of the scope, best first, ties by id.
    ///
    /// # Errors
    /// [`Error::Vector`] for a dense vector of other dimensions or with values that are not finite.
    fn search<'a>(
        &'a self,
        collection: &'a CollectionName,
        scope: &'a Scope,
        query: Query,
    ) -> BoxFuture<'a, Result<Vec<Hit>, Error>>;

    /// The guild's points in the order of their ids, from the one behind `after` on; at most `limit` and at
    /// most [`MAX_LIMIT`](crate::MAX_LIMIT) of them. Dense vectors come back with length 1.
    fn scroll<'a>(
        &'a self,
        collection: &'a CollectionName,
        guild: GuildId,
        after: Option<PointId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, Error>>;

    /// Where some of the guild's points say that they belong, in the order of their ids. Those that are not there, or
    /// are another guild's, are left out; where fewer come than were asked for, there are no more.
    fn headers<'a>(
        &'a self,
        collection: &'a CollectionName,
        guild: GuildId,
        which: PointSelector<'a>,
    ) -> BoxFuture<'a, Result<Vec<PointHeader>, Error>>;

    /// How many points the guild has.
    fn count<'a>(
        &'a self,
        collection: &'a CollectionName,
        guild: GuildId,
    ) -> BoxFuture<'a, Result<usize, Error>>;

    /// The guilds that have points, by id: `verify` looks here for guilds that the truth does not know.
    fn guilds<'a>(&'a self, collection: &'a CollectionName) -> BoxFuture<'a, Result<Vec<GuildId>, Error>>;
}
