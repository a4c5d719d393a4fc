//! Sessions: revisions, loading, recording, and what a search shows.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use guildex_store::channels::{self, Channel};
use guildex_store::search::{self, Shown};
use guildex_store::sessions::{self, Changed, Record, Recorded};
use guildex_store::{MIGRATOR, StoreError, messages, models, soft_delete};
use guildex_test_support::TEST_TIMEOUT;
use guildex_test_support::locks::until_blocked;
use guildex_types::{
    Author, ChannelId, Eligibility, GuildId, Links, Message, MessageId, MessageKind, ModelSlug, PointId,
    Revision, SearchText, SessionId,
};
use sqlx::PgPool;
use tokio::time::timeout;

fn id(number: i64) -> MessageId {
    number.try_into().unwrap()
}

fn model() -> ModelSlug {
    "model-fp32".parse().unwrap()
}

fn minute(number: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::minutes(number)
}

/// A channel and its database.
struct Place {
    pool: PgPool,
    guild: GuildId,
    channel: ChannelId,
}

impl Place {
    /// Creates channel 9 of guild 1.
    async fn new(pool: &PgPool) -> Self {
        Self::at(pool, 1, 9).await
    }

    async fn at(pool: &PgPool, guild: i64, channel: i64) -> Self {
        models::ensure_active(pool, &model(), 384).await.unwrap();
        let place = Self {
            pool: pool.clone(),
            guild: guild.try_into().unwrap(),
            channel: channel.try_into().unwrap(),
        };
        let described = Channel {
            guild_id: place.guild,
            guild_name: format!("guild {guild}"),
            id: place.channel,
            name: format!("channel-{channel}"),
            parent_id: None,
        };
        channels::upsert(&mut pool.acquire().await.unwrap(), &described).await.unwrap();
        place
    }

    fn session(&self, first: i64) -> SessionId {
        SessionId::new(self.guild, self.channel, id(first))
    }

    /// Inserts a message, sent in the minute of its id, into the session that starts with `first`.
    async fn insert_message(&self, number: i64, first: i64, text: &str) {
        let message = Message {
            guild_id: self.guild,
            channel_id: self.channel,
            id: id(number),
            author: Author::member(5.try_into().unwrap(), "ann".to_owned()),
            kind: MessageKind::Conversation,
            sent_at: minute(number),
            edited_at: None,
            links: Links::default(),
            text: SearchText::from_parts([text]),
        };
        let mut tx = self.pool.begin().await.unwrap();
        let fresh = messages::NewMessage {
            message: &message,
            excluded_reason: None,
            first_message_id: Some(id(first)),
        };
        messages::insert(&mut tx, self.guild, self.channel, &[fresh]).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn delete(&self, number: i64) {
        let mut tx = self.pool.begin().await.unwrap();
        soft_delete::messages(&mut tx, self.guild, self.channel, &[id(number)]).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn bump(&self, sessions: &[(i64, bool)]) -> Vec<Changed> {
        let sessions: Vec<_> = sessions.iter().map(|(first, removed)| (id(*first), *removed)).collect();
        let mut tx = self.pool.begin().await.unwrap();
        let mut changed =
            sessions::bump_revisions(&mut tx, self.guild, self.channel, &sessions).await.unwrap();
        tx.commit().await.unwrap();
        changed.sort_by_key(|change| sessions.iter().position(|(m, _)| self.session(m.get()) == change.id));
        changed
    }

    /// Bumps the session that starts with `first`, as an addition does.
    async fn bump_after_addition(&self, first: i64) -> Changed {
        self.bump(&[(first, false)]).await[0]
    }

    /// Bumps the session, as a removal or an edit does.
    async fn bump_after_removal(&self, first: i64) -> Changed {
        self.bump(&[(first, true)]).await[0]
    }

    /// Creates a session of two messages.
    async fn conversation(&self, first: i64) -> Changed {
        self.insert_message(first, first, "hello there").await;
        self.insert_message(first + 1, first, "hello you").await;
        self.bump_after_addition(first).await
    }

    fn points(&self, first: i64, chunks: u32) -> Vec<PointId> {
        (0..chunks).map(|chunk| PointId::new(self.guild, self.channel, id(first), &model(), chunk)).collect()
    }

    fn record_of(&self, first: i64, revision: Revision) -> Record {
        Record {
            guild_id: self.guild,
            session_id: self.session(first),
            revision,
            point_revision: revision,
            content_hash: vec![7],
            point_ids: self.points(first, 1),
        }
    }

    async fn record(&self, first: i64, revision: Revision) {
        record(&self.pool, &[self.record_of(first, revision)]).await.unwrap();
    }

    async fn load(&self, first: i64) -> sessions::Session {
        let wanted = [(self.guild, self.session(first))];
        sessions::load(&self.pool, &wanted, &model()).await.unwrap().remove(0)
    }

    async fn show(&self, first: i64, revision: Revision) -> Option<Shown> {
        self.show_in(None, first, revision).await
    }

    async fn show_in(&self, channels: Option<&[ChannelId]>, first: i64, revision: Revision) -> Option<Shown> {
        let hit = (self.session(first), revision);
        let mut shown = search::show(&self.pool, self.guild, channels, &[hit, hit], &model()).await.unwrap();
        assert!(shown.len() <= 1, "a session is shown once");
        shown.pop()
    }
}

/// Recorded point revisions and indexed revisions.
async fn recorded(pool: &PgPool) -> Vec<(i64, i64)> {
    sqlx::query_as("SELECT point_revision, indexed_revision FROM indexed_sessions ORDER BY 1, 2")
        .fetch_all(pool)
        .await
        .unwrap()
}

// Revisions.

/// Records for the model.
async fn record(pool: &PgPool, records: &[Record]) -> Result<Recorded, StoreError> {
    sessions::record(pool, records, &model(), &models::list(pool).await?).await
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_bump_counts_live_messages_with_text(pool: PgPool) {
    let place = Place::new(&pool).await;
    place.insert_message(1, 1, "one two three").await;
    place.insert_message(2, 1, "four five").await;
    place.insert_message(3, 1, "").await;
    place.insert_message(4, 1, "six").await;
    place.insert_message(5, 5, "another session").await;
    place.delete(4).await;
    let change = place.bump_after_addition(1).await;
    assert_eq!((change.id, change.before, change.now), (place.session(1), (0, 0), (2, 5)));
    let span: (DateTime<Utc>, DateTime<Utc>) =
        sqlx::query_as("SELECT started_at, ended_at FROM sessions").fetch_one(&pool).await.unwrap();
    assert_eq!(span, (minute(1), minute(2)));

    place.delete(1).await;
    let change = place.bump_after_removal(1).await;
    assert_eq!((change.before, change.now), ((2, 5), (1, 2)));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn revisions_rise_and_never_repeat(pool: PgPool) {
    let place = Place::new(&pool).await;
    let mut seen = vec![place.conversation(1).await.revision];
    seen.push(place.conversation(11).await.revision);
    seen.push(place.bump_after_addition(1).await.revision);

    // Not even if a change was rolled back,
    let mut tx = pool.begin().await.unwrap();
    let undone =
        sessions::bump_revisions(&mut tx, place.guild, place.channel, &[(id(1), true)]).await.unwrap();
    seen.push(undone[0].revision);
    tx.rollback().await.unwrap();
    assert_eq!(place.load(1).await.revision, seen[2]);

    // and not if a session is created again with its id, even if its row was lost.
    place.delete(1).await;
    place.delete(2).await;
    seen.push(place.bump_after_removal(1).await.revision);
    place.insert_message(3, 1, "again").await;
    seen.push(place.bump_after_addition(1).await.revision);
    sqlx::query("DELETE FROM sessions").execute(&pool).await.unwrap();
    seen.push(place.bump_after_addition(1).await.revision);

    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
    assert!(seen[0] > Revision::NONE);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn sessions_bumped_together_have_revisions_of_their_own(pool: PgPool) {
    let place = Place::new(&pool).await;
    for first in [1, 11, 21] {
        place.insert_message(first, first, "hello").await;
    }
    let changed = place.bump(&[(21, false), (1, true), (11, false)]).await;
    assert_eq!(changed.iter().map(|c| c.revision).collect::<BTreeSet<_>>().len(), 3);
    assert!(changed.iter().all(|change| change.now == (1, 1)));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_session_without_live_messages_is_a_tombstone_until_a_message_is_added(pool: PgPool) {
    let place = Place::new(&pool).await;
    place.conversation(1).await;
    place.delete(1).await;
    place.delete(2).await;
    let deletion = place.bump_after_removal(1).await;
    assert_eq!((deletion.before, deletion.now), ((2, 4), (0, 0)));
    let tombstone = place.load(1).await;
    assert_eq!((tombstone.revision, tombstone.messages.len()), (deletion.revision, 0));

    place.insert_message(3, 1, "back").await;
    let back = place.bump_after_addition(1).await;
    assert_eq!((back.before, back.now), ((0, 0), (1, 1)));
    place.record(1, back.revision).await;
    assert!(place.show(1, back.revision).await.is_some());
}

// Loading and recording.

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_session_is_loaded_with_its_messages_in_order_and_its_record(pool: PgPool) {
    let place = Place::new(&pool).await;
    place.insert_message(3, 1, "third").await;
    place.insert_message(1, 1, "first").await;
    place.insert_message(2, 1, "").await;
    place.insert_message(4, 4, "in another session").await;
    let change = place.bump(&[(1, false), (4, false)]).await[0];
    let read = place.load(1).await;
    assert_eq!((read.channel_name.as_str(), read.first_message_id), ("channel-9", id(1)));
    assert_eq!((read.revision, read.indexed), (change.revision, None));
    let said: Vec<_> = read.messages.iter().map(|m| (m.id.get(), m.text.as_str())).collect();
    assert_eq!(said, [(1, "first"), (3, "third")]);

    place.record(1, change.revision).await;
    let indexed = place.load(1).await.indexed.unwrap();
    assert_eq!(
        (indexed.point_revision, indexed.content_hash, indexed.point_ids),
        (change.revision, Some(vec![7]), place.points(1, 1))
    );
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_session_is_not_loaded_for_another_guild(pool: PgPool) {
    let (one, two) = (Place::at(&pool, 1, 9).await, Place::at(&pool, 2, 8).await);
    one.conversation(1).await;
    two.conversation(1).await;
    let wanted = [(two.guild, one.session(1)), (one.guild, two.session(1)), (one.guild, one.session(77))];
    assert!(sessions::load(&pool, &wanted, &model()).await.unwrap().is_empty());
    let both = [(one.guild, one.session(1)), (two.guild, two.session(1))];
    let read = sessions::load(&pool, &both, &model()).await.unwrap();
    assert_eq!(read.len(), 2);
    assert!(read.iter().all(|session| session.messages.len() == 2));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn only_sessions_at_the_loaded_revision_are_recorded(pool: PgPool) {
    let place = Place::new(&pool).await;
    let read = place.conversation(1).await.revision;
    let other = place.conversation(11).await.revision;
    let latest = place.bump_after_removal(1).await.revision;
    let both = [place.record_of(1, read), place.record_of(11, other)];
    record(&pool, &both).await.unwrap();
    assert_eq!(recorded(&pool).await, [(other.get(), other.get())], "only one of the two lost a message");

    place.record(1, Revision::from(latest.get() + 1)).await;
    assert_eq!(recorded(&pool).await.len(), 1, "a future revision cannot have been loaded");
    place.record(1, latest).await;
    assert_eq!(recorded(&pool).await, [(other.get(), other.get()), (latest.get(), latest.get())]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_session_that_only_grew_is_recorded_without_a_hash(pool: PgPool) {
    let place = Place::new(&pool).await;
    let read = place.conversation(1).await.revision;
    let grown = place.bump_after_addition(1).await.revision;
    let grown_again = place.bump_after_addition(1).await.revision;
    let hash = async || place.load(1).await.indexed.unwrap().content_hash;

    place.record(1, grown).await;
    assert_eq!(recorded(&pool).await, [(grown.get(), grown.get())]);
    assert_eq!(hash().await, None);
    place.record(1, read).await;
    assert_eq!(recorded(&pool).await, [(grown.get(), grown.get())], "the record is newer");
    let kept = Record { point_revision: read, ..place.record_of(1, grown) };
    record(&pool, &[kept]).await.unwrap();
    assert_eq!(recorded(&pool).await, [(grown.get(), grown.get())], "no points were written");
    place.record(1, grown_again).await;
    assert_eq!(recorded(&pool).await, [(grown_again.get(), grown_again.get())]);
    assert_eq!(hash().await, Some(vec![7]));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn recording_waits_for_a_concurrent_change_and_yields_to_it(pool: PgPool) {
    let place = Place::new(&pool).await;
    let read = place.conversation(1).await.revision;
    let mut change = pool.begin().await.unwrap();
    sessions::bump_revisions(&mut change, place.guild, place.channel, &[(id(1), true)]).await.unwrap();
    let recording = tokio::spawn({
        let (pool, old) = (pool.clone(), place.record_of(1, read));
        async move { record(&pool, &[old]).await }
    });
    until_blocked(&pool, 1).await;
    change.commit().await.unwrap();
    timeout(TEST_TIMEOUT, recording).await.expect("the recording ends").unwrap().unwrap();
    assert_eq!(recorded(&pool).await, []);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn points_in_a_replaced_index_are_not_recorded(pool: PgPool) {
    let place = Place::new(&pool).await;
    let revision = place.conversation(1).await.revision;
    let listed = models::list(&pool).await.unwrap();
    let mut tx = pool.begin().await.unwrap();
    models::replace_index(&mut tx, &model(), uuid::Uuid::new_v4()).await.unwrap();
    tx.commit().await.unwrap();
    let records = [place.record_of(1, revision)];
    let outcome = sessions::record(&pool, &records, &model(), &listed).await.unwrap();
    assert_eq!(outcome, Recorded::IndexReplaced);
    assert_eq!(recorded(&pool).await, [], "its points are in the old index");
    assert_eq!(record(&pool, &records).await.unwrap(), Recorded::Yes);
    assert_eq!(recorded(&pool).await.len(), 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn tombstones_and_sessions_of_other_guilds_are_never_recorded(pool: PgPool) {
    let (one, two) = (Place::at(&pool, 1, 9).await, Place::at(&pool, 2, 8).await);
    let revision = one.conversation(1).await.revision;
    let stolen = Record { guild_id: two.guild, ..one.record_of(1, revision) };
    record(&pool, &[stolen]).await.unwrap();
    assert_eq!(recorded(&pool).await, []);

    one.delete(1).await;
    one.delete(2).await;
    let revision = one.bump_after_removal(1).await.revision;
    one.record(1, revision).await;
    assert_eq!(recorded(&pool).await, []);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_record_of_a_session_without_points_is_deleted(pool: PgPool) {
    let place = Place::new(&pool).await;
    let old = place.conversation(1).await.revision;
    place.record(1, old).await;
    let latest = place.bump_after_removal(1).await.revision;
    let none = |revision| Record { point_ids: Vec::new(), ..place.record_of(1, revision) };
    record(&pool, &[none(old)]).await.unwrap();
    assert_eq!(recorded(&pool).await.len(), 1, "an old revision changes nothing");
    record(&pool, &[none(latest)]).await.unwrap();
    assert_eq!(recorded(&pool).await, []);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_rewrite_clears_the_content_hash(pool: PgPool) {
    let (one, two) = (Place::at(&pool, 1, 9).await, Place::at(&pool, 2, 8).await);
    let mut revisions = vec![];
    for place in [&one, &two] {
        let revision = place.conversation(1).await.revision;
        place.record(1, revision).await;
        revisions.push(revision);
    }
    let changing = [(one.guild, one.session(1), revisions[0]), (one.guild, two.session(1), revisions[1])];
    let current = sessions::begin_rewrite(&pool, &changing, &model()).await.unwrap();
    assert_eq!(current, [one.session(1)]);
    assert_eq!(one.load(1).await.indexed.unwrap().content_hash, None);
    assert!(two.load(1).await.indexed.unwrap().content_hash.is_some(), "another guild's record changed");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_session_that_changed_since_it_was_loaded_is_not_rewritten(pool: PgPool) {
    let place = Place::new(&pool).await;
    let read = place.conversation(1).await.revision;
    let latest = place.bump_after_addition(1).await.revision;
    place.record(1, latest).await;
    let begin = async |revision| {
        let changing = [(place.guild, place.session(1), revision)];
        sessions::begin_rewrite(&pool, &changing, &model()).await.unwrap()
    };
    assert_eq!(begin(read).await, []);
    assert!(place.load(1).await.indexed.unwrap().content_hash.is_some());
    assert_eq!(begin(latest).await, [place.session(1)]);
}

// Search.

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_hit_is_shown_with_its_current_content(pool: PgPool) {
    let place = Place::new(&pool).await;
    let revision = place.conversation(1).await.revision;
    assert!(place.show(1, revision).await.is_none(), "it is not recorded yet");
    place.record(1, revision).await;
    let shown = place.show(1, revision).await.unwrap();
    assert_eq!(
        (shown.id, shown.channel_id, shown.channel_name.as_str()),
        (place.session(1), place.channel, "channel-9")
    );
    assert_eq!((shown.guild_id, shown.span), (place.guild, (minute(1), minute(2))));
    let said: Vec<_> = shown.messages.iter().map(|m| m.text.as_str()).collect();
    assert_eq!(said, ["hello there", "hello you"]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn only_points_of_exactly_the_recorded_revision_are_shown(pool: PgPool) {
    let place = Place::new(&pool).await;
    let old = place.conversation(1).await.revision;
    place.record(1, old).await;
    let latest = place.bump_after_addition(1).await.revision;
    place.record(1, latest).await;
    for revision in [Revision::NONE, old, Revision::from(latest.get() + 1)] {
        assert!(place.show(1, revision).await.is_none(), "a point of {revision} is shown");
    }
    assert!(place.show(1, latest).await.is_some());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn additions_do_not_hide_a_session(pool: PgPool) {
    let place = Place::new(&pool).await;
    let indexed = place.conversation(1).await.revision;
    place.record(1, indexed).await;
    place.insert_message(3, 1, "one more thing").await;
    place.bump_after_addition(1).await;
    assert_eq!(place.show(1, indexed).await.unwrap().messages.len(), 3);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn removals_hide_a_session_until_it_is_indexed_again(pool: PgPool) {
    let place = Place::new(&pool).await;
    let indexed = place.conversation(1).await.revision;
    place.record(1, indexed).await;
    place.delete(2).await;
    place.bump_after_removal(1).await;
    assert!(place.show(1, indexed).await.is_none());
    let added = place.bump_after_addition(1).await.revision;
    assert!(place.show(1, indexed).await.is_none(), "an addition does not undo a removal");

    // The content is the same after all: the points stay, and are up to date again.
    let same = Record { point_revision: indexed, ..place.record_of(1, added) };
    record(&pool, &[same]).await.unwrap();
    assert!(place.show(1, indexed).await.is_some());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_deleted_session_is_hidden_at_once(pool: PgPool) {
    let place = Place::new(&pool).await;
    let indexed = place.conversation(1).await.revision;
    place.record(1, indexed).await;
    place.delete(1).await;
    place.delete(2).await;
    place.bump_after_removal(1).await;
    assert!(place.show(1, indexed).await.is_none());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn sessions_of_other_guilds_and_channels_are_never_shown(pool: PgPool) {
    let (here, there) = (Place::at(&pool, 1, 9).await, Place::at(&pool, 1, 10).await);
    let foreign = Place::at(&pool, 2, 11).await;
    let mut hits = vec![];
    for place in [&here, &there, &foreign] {
        let revision = place.conversation(1).await.revision;
        place.record(1, revision).await;
        hits.push((place.session(1), revision));
    }
    let channels = |ids: &[ChannelId]| {
        let (pool, hits, ids) = (pool.clone(), hits.clone(), ids.to_vec());
        async move {
            let shown = search::show(&pool, here.guild, Some(&ids), &hits, &model()).await.unwrap();
            shown.iter().map(|shown| shown.id).collect::<Vec<_>>()
        }
    };
    let whole: Vec<_> = search::show(&pool, here.guild, None, &hits, &model()).await.unwrap();
    let whole: BTreeSet<_> = whole.iter().map(|shown| shown.id).collect();
    assert_eq!(whole, BTreeSet::from([here.session(1), there.session(1)]));
    assert_eq!(channels(&[there.channel]).await, [there.session(1)]);
    assert_eq!(channels(&[foreign.channel]).await, []);
    assert_eq!(channels(&[]).await, []);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn only_points_of_the_model_are_shown(pool: PgPool) {
    let place = Place::new(&pool).await;
    let revision = place.conversation(1).await.revision;
    place.record(1, revision).await;
    let hits = [(place.session(1), revision)];
    let other = "other-fp32".parse().unwrap();
    assert!(search::show(&pool, place.guild, None, &hits, &other).await.unwrap().is_empty());
}

// Missing sessions.

#[sqlx::test(migrator = "MIGRATOR")]
async fn missing_sessions_are_found_page_by_page(pool: PgPool) {
    let place = Place::new(&pool).await;
    let other = Place::at(&pool, 1, 10).await;
    other.conversation(1).await;
    let mut lacking = BTreeSet::new();
    for first in (100..800).step_by(100) {
        place.conversation(first).await;
        lacking.insert((id(first), place.session(first)));
    }
    // Up to date: not missing. Indexed, and changed since: missing.
    let indexed = place.conversation(1_000).await.revision;
    place.record(1_000, indexed).await;
    let older = place.conversation(1_100).await.revision;
    place.record(1_100, older).await;
    place.bump_after_addition(1_100).await;
    lacking.insert((id(1_100), place.session(1_100)));
    // Too small, or deleted: not missing.
    place.insert_message(2_000, 2_000, "ok").await;
    place.bump_after_addition(2_000).await;
    place.conversation(3_000).await;
    place.delete(3_000).await;
    place.delete(3_001).await;
    place.bump_after_removal(3_000).await;
    // A single long message: missing.
    place
        .insert_message(4_000, 4_000, "one two three four five six seven eight nine ten eleven twelve")
        .await;
    place.bump_after_addition(4_000).await;
    lacking.insert((id(4_000), place.session(4_000)));

    let (mut found, mut pages, mut after) = (vec![], 0, None);
    loop {
        let mut tx = pool.begin().await.unwrap();
        let rule = Eligibility::default();
        let page =
            sessions::missing(&mut tx, place.guild, place.channel, &model(), rule, after, 4).await.unwrap();
        tx.commit().await.unwrap();
        let Some((last, _)) = page.last() else { break };
        (after, pages) = (Some(*last), pages + 1);
        found.extend(page);
    }
    assert_eq!((found.len(), pages), (9, 3));
    assert_eq!(BTreeSet::from_iter(found), lacking);
}

/// Rows of the view `message_sessions`: message, model, first point and all points.
type ViewRow = (i64, Option<String>, Option<PointId>, Option<Vec<PointId>>);

async fn message_sessions(place: &Place) -> Vec<ViewRow> {
    sqlx::query_as(
        "SELECT message_id, model, qdrant_point_id, point_ids FROM message_sessions
         WHERE guild_id = $1 AND channel_id = $2 ORDER BY message_id",
    )
    .bind(place.guild.get())
    .bind(place.channel.get())
    .fetch_all(&place.pool)
    .await
    .unwrap()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn recorded_point_ids_follow_the_points_of_a_session(pool: PgPool) {
    let place = Place::new(&pool).await;
    let revision = place.conversation(1).await.revision;
    assert_eq!(message_sessions(&place).await, [(1, None, None, None), (2, None, None, None)]);

    let shows = |points: Vec<PointId>| {
        let row =
            move |message| (message, Some("model-fp32".to_owned()), Some(points[0]), Some(points.clone()));
        [row(1), row(2)]
    };
    let two = Record { point_ids: place.points(1, 2), ..place.record_of(1, revision) };
    record(&pool, &[two]).await.unwrap();
    assert_eq!(message_sessions(&place).await, shows(place.points(1, 2)));

    let rewritten = place.bump_after_removal(1).await.revision;
    let hidden = [(1, None, None, None), (2, None, None, None)];
    assert_eq!(message_sessions(&place).await, hidden, "points of before a removal are shown");
    place.record(1, rewritten).await;
    assert_eq!(message_sessions(&place).await, shows(place.points(1, 1)));
    let none = Record { point_ids: Vec::new(), ..place.record_of(1, rewritten) };
    record(&pool, &[none]).await.unwrap();
    assert_eq!(message_sessions(&place).await, hidden, "the session has no points");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_view_of_messages_shows_points_of_the_active_model(pool: PgPool) {
    let place = Place::new(&pool).await;
    let revision = place.conversation(1).await.revision;
    place.record(1, revision).await;
    run(&pool, "INSERT INTO models (slug, dimensions, state) VALUES ('next-fp32', 384, 'filling')").await;
    let next: ModelSlug = "next-fp32".parse().unwrap();
    let points = vec![PointId::new(place.guild, place.channel, id(1), &next, 0)];
    let filled = Record { point_ids: points.clone(), ..place.record_of(1, revision) };
    let models = models::list(&pool).await.unwrap();
    assert_eq!(sessions::record(&pool, &[filled], &next, &models).await.unwrap(), Recorded::Yes);

    let shown = async || message_sessions(&place).await.into_iter().map(|row| row.2).collect::<Vec<_>>();
    assert_eq!(shown().await, [Some(place.points(1, 1)[0]); 2]);
    run(&pool, "UPDATE models SET state = 'retired' WHERE state = 'active'").await;
    run(&pool, "UPDATE models SET state = 'active' WHERE slug = 'next-fp32'").await;
    assert_eq!(shown().await, [Some(points[0]); 2]);
}

async fn run(pool: &PgPool, statement: &'static str) {
    sqlx::query(statement).execute(pool).await.unwrap();
}
