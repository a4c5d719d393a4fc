//! Erasure with Postgres: what is erased, what remains, and that nothing restores it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use guildex_producer::scheduler::delete_expired;
use guildex_producer::{Ingest, IngestConfig, Ingested};
use guildex_store::channels::Channel;
use guildex_store::erasures::{self, Erased, Erasure, Target};
use guildex_store::suppressions::Subject;
use guildex_store::{MIGRATOR, lock_channel, models};
use guildex_test_support::TEST_TIMEOUT;
use guildex_test_support::locks::until_blocked;
use guildex_types::{
    Author, ChannelId, GuildId, JobQueue, Links, Message, MessageId, MessageKind, SearchText, UserId,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sqlx::PgPool;
use tokio::runtime::Handle;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const GUILD: i64 = 1;
const HELP: i64 = 9;

fn guild(number: i64) -> GuildId {
    number.try_into().unwrap()
}

fn member(number: i64) -> UserId {
    number.try_into().unwrap()
}

fn channel_id(number: i64) -> ChannelId {
    number.try_into().unwrap()
}

fn ids(numbers: &[i64]) -> Vec<MessageId> {
    numbers.iter().map(|number| (*number).try_into().unwrap()).collect()
}

fn minute(number: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::minutes(number)
}

fn channel(guild_number: i64, number: i64) -> Channel {
    Channel {
        guild_id: guild(guild_number),
        guild_name: "Makers".to_owned(),
        id: channel_id(number),
        name: format!("channel-{number}"),
        parent_id: None,
    }
}

fn thread(number: i64, parent: i64) -> Channel {
    Channel { parent_id: Some(channel_id(parent)), ..channel(GUILD, number) }
}

/// Returns a message sent in the minute of its id.
fn new_message(place: &Channel, number: i64, author: i64, text: &str) -> Message {
    Message {
        guild_id: place.guild_id,
        channel_id: place.id,
        id: number.try_into().unwrap(),
        author: Author::member(member(author), format!("author {author}")),
        kind: MessageKind::Conversation,
        sent_at: minute(number),
        edited_at: None,
        links: Links::default(),
        text: SearchText::from_parts([text]),
    }
}

fn reply(to: i64, message: Message) -> Message {
    Message { links: Links { reply_to: Some(to.try_into().unwrap()), ..message.links }, ..message }
}

/// Returns a conversation of three messages by members 1 and 2, starting with the id `first`.
fn conversation(place: &Channel, first: i64) -> Vec<Message> {
    vec![
        new_message(place, first, 1, "how do I level the bed"),
        reply(first, new_message(place, first + 1, 2, "with a sheet of paper")),
        reply(first + 1, new_message(place, first + 2, 1, "that worked, many thanks")),
    ]
}

fn ingest(pool: &PgPool) -> Ingest {
    Ingest::new(pool.clone(), IngestConfig::default())
}

async fn store(ingest: &Ingest, place: &Channel, messages: &[Message]) -> Ingested {
    ingest.messages(place, messages, JobQueue::Live).await.unwrap()
}

/// Stores messages as another program does: without sessions, word counts and exclusion reasons.
async fn store_unprocessed(pool: &PgPool, place: &Channel, messages: &[Message]) {
    let mut db = pool.acquire().await.unwrap();
    guildex_store::channels::upsert(&mut db, place).await.unwrap();
    for message in messages {
        sqlx::query(
            "INSERT INTO messages (guild_id, channel_id, id, author_id, sent_at, text)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(message.guild_id.get())
        .bind(message.channel_id.get())
        .bind(message.id.get())
        .bind(message.author.id.get())
        .bind(message.sent_at)
        .bind(message.text.as_str())
        .execute(&mut *db)
        .await
        .unwrap();
    }
}

/// Returns the ids of live messages.
async fn live(pool: &PgPool, of: i64) -> Vec<i64> {
    sqlx::query_scalar("SELECT id FROM messages WHERE guild_id = $1 AND deleted_at IS NULL ORDER BY id")
        .bind(of)
        .fetch_all(pool)
        .await
        .unwrap()
}

async fn number(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

/// Asserts that tombstones have no content and that every session counts its live messages.
async fn check(pool: &PgPool) {
    let talking = "SELECT count(*) FROM messages
                   WHERE deleted_at IS NOT NULL AND (text <> '' OR webhook_name IS NOT NULL OR words <> 0)";
    assert_eq!(number(pool, talking).await, 0, "a tombstone has content");
    let miscounted = "SELECT count(*) FROM sessions s WHERE message_count <> (
                          SELECT count(*) FROM messages m
                          WHERE m.guild_id = s.guild_id AND m.channel_id = s.channel_id
                            AND m.first_message_id = s.first_message_id AND m.deleted_at IS NULL AND m.text <> '')
                          OR (message_count = 0) <> (deleted_at IS NOT NULL)";
    assert_eq!(number(pool, miscounted).await, 0, "a session has a wrong count");
}

/// Counts unfinished jobs by kind.
async fn kinds(pool: &PgPool) -> BTreeMap<String, i64> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT kind, count(*) FROM jobs WHERE state = 'pending' GROUP BY 1")
            .fetch_all(pool)
            .await
            .unwrap();
    rows.into_iter().collect()
}

async fn finish_jobs(pool: &PgPool) {
    sqlx::query("UPDATE jobs SET state = 'completed', finished_at = now() WHERE state = 'pending'")
        .execute(pool)
        .await
        .unwrap();
}

/// Records every live session with two points.
async fn index(pool: &PgPool) {
    let model = "model-fp32".parse().unwrap();
    models::ensure_active(pool, &model, 384).await.unwrap();
    sqlx::query(
        "INSERT INTO indexed_sessions (session_id, model, point_revision, indexed_revision, content_hash, point_ids)
         SELECT id, 'model-fp32', revision, revision, '\\x00', ARRAY[gen_random_uuid(), gen_random_uuid()] FROM sessions WHERE deleted_at IS NULL",
    )
    .execute(pool)
    .await
    .unwrap();
    finish_jobs(pool).await;
}

fn counts(erasure: &Erasure) -> (u64, u64, u64) {
    (erasure.messages, erasure.sessions, erasure.points)
}

// Order of deletions and messages.

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_message_that_arrives_after_its_deletion_is_not_stored(pool: PgPool) {
    let (ingest, place) = (ingest(&pool), channel(GUILD, HELP));
    assert_eq!(ingest.delete(guild(GUILD), place.id, &ids(&[2])).await.unwrap(), 0);
    let done = store(&ingest, &place, &conversation(&place, 1)).await;
    assert_eq!((done.new, done.unchanged), (2, 1));
    assert_eq!(live(&pool, GUILD).await, [1, 3]);
    assert_eq!(number(&pool, "SELECT count(*) FROM messages WHERE id = 2").await, 0);

    // A later edit is not stored either; the same id in another guild is another message.
    let edited = Message { edited_at: Some(minute(50)), ..conversation(&place, 1)[1].clone() };
    assert_eq!(store(&ingest, &place, &[edited]).await.new, 0);
    let other_guild = channel(2, HELP);
    assert_eq!(store(&ingest, &other_guild, &conversation(&other_guild, 1)).await.new, 3);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_deletion_wins_a_race_with_its_message(pool: PgPool) {
    let ingest = ingest(&pool);
    for round in 1..=30 {
        // An unknown channel has no row to lock.
        let place = channel(GUILD, 100 + round);
        let first = round * 10;
        let barrier = Arc::new(Barrier::new(2));
        let deleting = tokio::spawn({
            let (ingest, barrier, channel) = (ingest.clone(), barrier.clone(), place.id);
            async move {
                barrier.wait().await;
                ingest.delete(guild(GUILD), channel, &ids(&[first + 1])).await.unwrap();
            }
        });
        barrier.wait().await;
        store(&ingest, &place, &conversation(&place, first)).await;
        deleting.await.unwrap();
        let left: Vec<i64> = live(&pool, GUILD).await.into_iter().filter(|id| id / 10 == round).collect();
        assert_eq!(left, [first, first + 2]);
    }
    check(&pool).await;
}

/// Storing waits for erasing and the other way round: the races above, with both orders enforced.
#[sqlx::test(migrator = "MIGRATOR")]
async fn storing_and_erasing_wait_for_each_other(pool: PgPool) {
    let ingest = ingest(&pool);
    for (of, erase_first) in [(1, false), (2, true)] {
        let place = channel(of, HELP);
        let mut gate = pool.begin().await.unwrap();
        lock_channel(&mut gate, guild(of), place.id).await.unwrap();
        let storing = {
            let (ingest, place) = (ingest.clone(), place.clone());
            async move {
                store(&ingest, &place, &conversation(&place, 1)).await;
            }
        };
        let erasing = {
            let ingest = ingest.clone();
            async move { drop(ingest.erase_member(guild(of), member(2)).await.unwrap()) }
        };
        // Postgres grants locks in the order of the requests.
        let mut tasks = JoinSet::new();
        if erase_first {
            tasks.spawn(erasing);
            until_blocked(&pool, 1).await;
            tasks.spawn(storing);
        } else {
            tasks.spawn(storing);
            until_blocked(&pool, 1).await;
            tasks.spawn(erasing);
        }
        until_blocked(&pool, 2).await;
        gate.commit().await.unwrap();
        timeout(TEST_TIMEOUT, tasks.join_all()).await.expect("an end");
        assert_eq!(live(&pool, of).await, [1, 3], "erase first: {erase_first}");
    }
    check(&pool).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_member_is_erased_in_channels_that_are_being_created(pool: PgPool) {
    let ingest = ingest(&pool);
    for round in 1..=20 {
        let barrier = Arc::new(Barrier::new(4));
        let mut tasks = JoinSet::new();
        for part in 0..3 {
            let (ingest, barrier) = (ingest.clone(), barrier.clone());
            let place = channel(round, 100 + part);
            tasks.spawn(async move {
                barrier.wait().await;
                store(&ingest, &place, &conversation(&place, 10 * (1 + part))).await;
            });
        }
        barrier.wait().await;
        ingest.erase_member(guild(round), member(2)).await.unwrap();
        timeout(TEST_TIMEOUT, tasks.join_all()).await.expect("an end");
        assert_eq!(live(&pool, round).await, [10, 12, 20, 22, 30, 32]);
    }
    check(&pool).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn concurrent_calls_do_not_deadlock(pool: PgPool) {
    let ingest = ingest(&pool);
    let mut tasks = JoinSet::new();
    let barrier = Arc::new(Barrier::new(6));
    for task in 0..6_i64 {
        let (ingest, barrier) = (ingest.clone(), barrier.clone());
        tasks.spawn(async move {
            barrier.wait().await;
            for round in 0..15 {
                let number = (task + round) % 4;
                let place = channel(GUILD, 100 + number);
                let first = 1 + 100 * number + 3 * round;
                match task {
                    0..=2 => {
                        store(&ingest, &place, &conversation(&place, first)).await;
                    }
                    3 => {
                        ingest.delete(guild(GUILD), place.id, &ids(&[first, first + 1])).await.unwrap();
                    }
                    4 => drop(ingest.erase_messages(guild(GUILD), &ids(&[first + 2])).await.unwrap()),
                    _ if round % 5 == 4 => drop(ingest.erase_channel(guild(GUILD), place.id).await.unwrap()),
                    _ => drop(ingest.opt_out(guild(GUILD), Subject::Member(member(7))).await.unwrap()),
                }
            }
        });
    }
    timeout(TEST_TIMEOUT, tasks.join_all()).await.expect("an end");
    check(&pool).await;
}

// Each kind of erasure.

#[sqlx::test(migrator = "MIGRATOR")]
async fn erasing_a_member_removes_texts_and_names_and_nothing_else(pool: PgPool) {
    let (ingest, help, shop) = (ingest(&pool), channel(GUILD, HELP), channel(GUILD, 8));
    let other_guild = channel(2, HELP);
    for place in [&help, &other_guild] {
        store(&ingest, place, &conversation(place, 1)).await;
    }
    store(&ingest, &shop, &conversation(&shop, 11)).await;
    index(&pool).await;

    let erasure = ingest.erase_member(guild(GUILD), member(2)).await.unwrap();
    assert_eq!(counts(&erasure), (2, 2, 4));
    assert_eq!(erasure.target, Target::Member { member: member(2) });
    assert_eq!(erasure.completed_at, None);
    assert_eq!(live(&pool, GUILD).await, [1, 3, 11, 13]);
    assert_eq!(live(&pool, 2).await, [1, 2, 3], "other guilds are not affected");
    let kept = number(&pool, "SELECT author_id FROM messages WHERE id = 12").await;
    assert_eq!(kept, 2, "the partition depends on the author id");
    check(&pool).await;
    // One job removes the points of both sessions at once; the rest is indexed again.
    assert_eq!(
        kinds(&pool).await,
        BTreeMap::from([("index_session".into(), 2), ("remove_points".into(), 1)])
    );
    let cleared = "SELECT count(*) FROM indexed_sessions WHERE content_hash IS NULL";
    assert_eq!(number(&pool, cleared).await, 2, "points being removed count as current");

    let again = ingest.erase_member(guild(GUILD), member(2)).await.unwrap();
    assert_eq!(counts(&again), (0, 0, 0));
    assert!(again.completed_at.is_some(), "no job remains");

    // No import restores it, in any channel; later messages are stored.
    let moved = channel(GUILD, 7);
    let old = [new_message(&moved, 40, 2, "an old message"), new_message(&moved, 41, 1, "of another author")];
    assert_eq!(store(&ingest, &help, &conversation(&help, 1)).await.new, 0);
    assert_eq!(store(&ingest, &moved, &old).await.new, 1);
    let later =
        Message { sent_at: Utc::now() + TimeDelta::hours(1), ..new_message(&help, 50, 2, "here I am again") };
    assert_eq!(store(&ingest, &help, &[later]).await.new, 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn messages_from_a_clock_ahead_of_ours_are_erased_permanently(pool: PgPool) {
    let (ingest, place) = (ingest(&pool), channel(GUILD, HELP));
    let ahead =
        Message { sent_at: Utc::now() + TimeDelta::minutes(5), ..new_message(&place, 1, 2, "from tomorrow") };
    store(&ingest, &place, std::slice::from_ref(&ahead)).await;
    ingest.erase_channel(guild(GUILD), place.id).await.unwrap();
    assert_eq!(store(&ingest, &place, &[ahead]).await.new, 0);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_message_of_the_far_future_is_erased_and_suppresses_no_other(pool: PgPool) {
    let (ingest, place) = (ingest(&pool), channel(GUILD, HELP));
    let (far, soon) = (Utc::now() + TimeDelta::days(60_000), Utc::now() + TimeDelta::hours(2));
    let targets = [
        Target::Member { member: member(2) },
        Target::Channel { channel: place.id },
        Target::Guild,
        Target::Messages { messages: ids(&[4]) },
    ];
    for (target, id) in targets.into_iter().zip(1..) {
        let future = Message { sent_at: far, ..new_message(&place, id, 2, "greetings from the year 2190") };
        store(&ingest, &place, std::slice::from_ref(&future)).await;
        ingest.erase(guild(GUILD), target.clone()).await.unwrap();
        assert_eq!(store(&ingest, &place, &[future]).await.new, 0, "stored again after {target:?}");
        let later = Message { sent_at: soon, ..new_message(&place, 10 + id, 2, "here I am again") };
        assert_eq!(store(&ingest, &place, &[later]).await.new, 1, "suppressed by {target:?}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn erasing_a_channel_includes_threads_whose_later_source_named_no_parent(pool: PgPool) {
    let (ingest, inside) = (ingest(&pool), thread(91, HELP));
    store(&ingest, &inside, &conversation(&inside, 21)).await;
    // A later export, without the parent; a rename makes the row change.
    for name in ["channel-91", "renamed"] {
        let orphan = Channel { parent_id: None, name: name.to_owned(), ..inside.clone() };
        store(&ingest, &orphan, &conversation(&orphan, 31)).await;
    }
    assert_eq!(
        number(&pool, "SELECT count(*) FROM channels WHERE parent_id = 9 AND name = 'renamed'").await,
        1
    );
    ingest.erase_channel(guild(GUILD), channel_id(HELP)).await.unwrap();
    assert!(live(&pool, GUILD).await.is_empty());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn erasing_a_channel_includes_its_threads_but_no_other_channel(pool: PgPool) {
    let ingest = ingest(&pool);
    let (help, shop, inside) = (channel(GUILD, HELP), channel(GUILD, 8), thread(91, HELP));
    for (place, first) in [(&help, 1), (&shop, 11), (&inside, 21)] {
        store(&ingest, place, &conversation(place, first)).await;
    }
    index(&pool).await;
    let before = number(&pool, "SELECT max(revision) FROM sessions").await;

    let erasure = ingest.erase_channel(guild(GUILD), help.id).await.unwrap();
    assert_eq!(counts(&erasure), (6, 2, 4));
    assert_eq!(live(&pool, GUILD).await, [11, 12, 13]);
    assert_eq!(number(&pool, "SELECT count(*) FROM messages").await, 3, "the rows are deleted");
    let tombstones: Vec<(i64, i64, i64)> = sqlx::query_as(
        "SELECT channel_id, revision, last_removal_revision FROM sessions WHERE deleted_at IS NOT NULL ORDER BY 1",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(tombstones.iter().map(|(channel, ..)| *channel).collect::<Vec<_>>(), [HELP, 91]);
    assert!(tombstones.iter().all(|(_, revision, removed)| *revision > before && removed == revision));
    assert_eq!(kinds(&pool).await, BTreeMap::from([("delete_session".into(), 2)]));
    let named = "SELECT count(*) FROM channels WHERE name <> ''";
    assert_eq!(number(&pool, named).await, 1);

    // Neither the channel, nor an unknown thread of it, nor a name is stored again.
    let unknown = thread(92, HELP);
    for (place, first) in [(&help, 1), (&inside, 21), (&unknown, 31)] {
        assert_eq!(store(&ingest, place, &conversation(place, first)).await.new, 0);
    }
    assert_eq!(number(&pool, named).await, 1);
    assert_eq!(store(&ingest, &shop, &conversation(&shop, 14)).await.new, 3);
    let again = ingest.erase_channel(guild(GUILD), help.id).await.unwrap();
    assert_eq!(counts(&again), (0, 0, 0));
    check(&pool).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn erasing_a_guild_leaves_tombstones_without_names(pool: PgPool) {
    let ingest = ingest(&pool);
    let (help, inside, other_guild) = (channel(GUILD, HELP), thread(91, HELP), channel(2, HELP));
    for place in [&help, &other_guild] {
        store(&ingest, place, &conversation(place, 1)).await;
    }
    store(&ingest, &inside, &conversation(&inside, 11)).await;
    index(&pool).await;
    let erasure = ingest.erase_guild(guild(GUILD)).await.unwrap();
    assert_eq!(counts(&erasure), (6, 2, 4));
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM guilds WHERE id = 1 UNION SELECT name FROM channels WHERE guild_id = 1",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(names, [""]);
    assert_eq!(live(&pool, 2).await, [1, 2, 3]);

    for place in [&help, &channel(GUILD, 55)] {
        assert_eq!(store(&ingest, place, &conversation(place, 1)).await.new, 0);
    }
    assert_eq!(number(&pool, "SELECT count(*) FROM guilds WHERE id = 1 AND name <> ''").await, 0);
    check(&pool).await;
    // An unknown guild: the receipt shows zeros, and a later import stores nothing.
    let unknown = ingest.erase_guild(guild(3)).await.unwrap();
    assert_eq!(counts(&unknown), (0, 0, 0));
    let place = channel(3, HELP);
    assert_eq!(store(&ingest, &place, &conversation(&place, 1)).await.new, 0);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn messages_are_erased_by_id_in_any_channel(pool: PgPool) {
    let (ingest, help, shop) = (ingest(&pool), channel(GUILD, HELP), channel(GUILD, 8));
    store(&ingest, &help, &conversation(&help, 1)).await;
    store(&ingest, &shop, &conversation(&shop, 11)).await;
    index(&pool).await;
    let erasure = ingest.erase_messages(guild(GUILD), &ids(&[2, 13, 22])).await.unwrap();
    assert_eq!(counts(&erasure), (2, 2, 4));
    assert_eq!(live(&pool, GUILD).await, [1, 3, 11, 12]);
    assert_eq!(
        store(&ingest, &shop, &conversation(&shop, 21)).await.new,
        2,
        "one was erased before it arrived"
    );
    assert_eq!(counts(&ingest.erase_messages(guild(2), &ids(&[1])).await.unwrap()), (0, 0, 0));
    assert!(live(&pool, GUILD).await.contains(&1), "the id belongs to another guild");
    check(&pool).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn many_sessions_share_removals_of_a_bounded_size(pool: PgPool) {
    let (ingest, place) = (ingest(&pool), channel(GUILD, HELP));
    let apart: Vec<Message> = (0..501)
        .flat_map(|n| {
            let first = 1_000 * (n + 1);
            [
                new_message(&place, first, 1, "is it dry"),
                reply(first, new_message(&place, first + 1, 2, "not yet")),
            ]
        })
        .collect();
    store(&ingest, &place, &apart).await;
    finish_jobs(&pool).await;
    let erasure = ingest.erase_member(guild(GUILD), member(2)).await.unwrap();
    assert_eq!(counts(&erasure), (501, 501, 0));
    let sizes: Vec<i32> = sqlx::query_scalar(
        "SELECT jsonb_array_length(payload->'sessions') FROM jobs WHERE kind = 'remove_points' ORDER BY 1",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(sizes, [1, 500]);
    let wrong = "SELECT count(*) FROM jobs j, jsonb_array_elements(payload->'sessions') AS lost (entry)
                 JOIN sessions s ON s.id::text = lost.entry->>'session_id'
                 WHERE kind = 'remove_points'
                   AND ((lost.entry->>'below')::bigint <> s.revision OR j.target_revision < s.revision)";
    assert_eq!(number(&pool, wrong).await, 0, "a removal is not below the revision of its session");
}

// Opt-outs.

#[sqlx::test(migrator = "MIGRATOR")]
async fn messages_are_not_stored_between_opt_out_and_opt_in(pool: PgPool) {
    let (ingest, help, inside) = (ingest(&pool), channel(GUILD, HELP), thread(91, HELP));
    let now = |message: Message| Message { sent_at: Utc::now() + TimeDelta::hours(1), ..message };
    for party in [Subject::Member(member(2)), Subject::Channel(help.id)] {
        store(&ingest, &help, &conversation(&help, 1)).await;
        let erasure = ingest.opt_out(guild(GUILD), party).await.unwrap();
        assert!(erasure.messages > 0);
        assert!(!live(&pool, GUILD).await.contains(&2));
        // At any later time, and in threads.
        assert_eq!(store(&ingest, &help, &[now(new_message(&help, 60, 2, "hello"))]).await.new, 0);
        assert_eq!(store(&ingest, &inside, &[now(new_message(&inside, 70, 2, "hello"))]).await.new, 0);
        assert!(ingest.opt_in(guild(GUILD), party).await.unwrap());
        assert!(!ingest.opt_in(guild(GUILD), party).await.unwrap());
        assert_eq!(
            store(&ingest, &help, &conversation(&help, 1)[1..2]).await.new,
            0,
            "sent before the opt-out"
        );
        let meanwhile =
            Message { sent_at: Utc::now() - TimeDelta::seconds(1), ..new_message(&help, 80, 2, "hello") };
        assert_eq!(store(&ingest, &help, &[meanwhile]).await.new, 0, "sent during the opt-out");
    }
    assert_eq!(store(&ingest, &help, &[now(new_message(&help, 90, 2, "hello"))]).await.new, 1);
    check(&pool).await;
}

// Messages stored by another program.

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_backfill_erases_suppressed_messages_stored_by_another_program(pool: PgPool) {
    let (ingest, place, inside) = (ingest(&pool), channel(GUILD, HELP), thread(91, 8));
    ingest.erase_messages(guild(GUILD), &ids(&[1])).await.unwrap();
    ingest.erase_member(guild(GUILD), member(2)).await.unwrap();
    ingest.opt_out(guild(GUILD), Subject::Channel(channel_id(8))).await.unwrap();
    store_unprocessed(&pool, &place, &conversation(&place, 1)).await;
    store_unprocessed(&pool, &inside, &conversation(&inside, 11)).await;
    for channel in [place.id, inside.id] {
        assert_eq!(ingest.assign_stored(guild(GUILD), channel, 100).await.unwrap(), 3);
        assert_eq!(ingest.assign_stored(guild(GUILD), channel, 100).await.unwrap(), 0);
    }
    assert_eq!(live(&pool, GUILD).await, [3]);
    check(&pool).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_edit_of_a_suppressed_message_erases_the_stored_one(pool: PgPool) {
    let (ingest, place) = (ingest(&pool), channel(GUILD, HELP));
    store(&ingest, &place, &conversation(&place, 1)).await;
    finish_jobs(&pool).await;
    let ingest_with_retention = with_retention(&pool, Duration::from_secs(3_600));
    let edited = Message { edited_at: Some(minute(50)), ..conversation(&place, 1)[1].clone() };
    let done = store(&ingest_with_retention, &place, &[edited]).await;
    assert_eq!(done, Ingested { unchanged: 1, sessions: 1, jobs: 2, ..Ingested::default() });
    assert_eq!(live(&pool, GUILD).await, [1, 3]);
    assert_eq!(
        kinds(&pool).await,
        BTreeMap::from([("index_session".into(), 1), ("remove_points".into(), 1)])
    );
    check(&pool).await;
}

// Retention.

fn with_retention(pool: &PgPool, retention: Duration) -> Ingest {
    Ingest::new(pool.clone(), IngestConfig { retention: Some(retention), ..IngestConfig::default() })
}

async fn expire(ingest: &Ingest) -> Erased {
    delete_expired(ingest, &CancellationToken::new()).await.unwrap()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn expired_messages_are_deleted_and_not_stored_again(pool: PgPool) {
    let (ingest, help) = (ingest(&pool), channel(GUILD, HELP));
    let (shop, other_guild) = (channel(GUILD, 8), channel(2, HELP));
    for place in [&help, &other_guild] {
        store(&ingest, place, &conversation(place, 1)).await;
    }
    store(&ingest, &shop, &conversation(&shop, 11)).await;
    let fresh = Message { sent_at: Utc::now(), ..new_message(&help, 50, 1, "just now") };
    store(&ingest, &help, std::slice::from_ref(&fresh)).await;
    index(&pool).await;

    assert_eq!(expire(&ingest).await, Erased::default(), "nothing expires without a retention");
    let ingest_with_retention = with_retention(&pool, Duration::from_secs(24 * 3_600));
    assert_eq!(expire(&ingest_with_retention).await, Erased { messages: 9, sessions: 3, points: 6 });
    assert_eq!((live(&pool, GUILD).await, live(&pool, 2).await), (vec![50], vec![]));
    check(&pool).await;
    assert_eq!(
        kinds(&pool).await,
        BTreeMap::from([("delete_session".into(), 3), ("remove_points".into(), 3)])
    );
    assert_eq!(expire(&ingest_with_retention).await, Erased::default());

    let another = channel(GUILD, 7);
    assert_eq!(store(&ingest_with_retention, &another, &conversation(&another, 21)).await.new, 0);
    store_unprocessed(&pool, &another, &conversation(&another, 31)).await;
    ingest_with_retention.assign_stored(guild(GUILD), another.id, 100).await.unwrap();
    assert_eq!(live(&pool, GUILD).await, [50]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn one_process_at_a_time_deletes_expired_messages(pool: PgPool) {
    let (ingest, place) = (with_retention(&pool, Duration::from_secs(3_600)), channel(GUILD, HELP));
    store_unprocessed(&pool, &place, &conversation(&place, 1)).await;
    let mut other = pool.begin().await.unwrap();
    assert!(guildex_store::try_lock_retention(&mut other).await.unwrap());
    assert_eq!(expire(&ingest).await, Erased::default());
    other.rollback().await.unwrap();
    assert_eq!(expire(&ingest).await.messages, 3);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn retention_deletes_more_than_one_page(pool: PgPool) {
    let (ingest, place) = (with_retention(&pool, Duration::from_secs(3_600)), channel(GUILD, HELP));
    let many: Vec<Message> =
        (1..=2_500).map(|n| new_message(&place, n, 1 + n % 3, "one of very many")).collect();
    store(&self::ingest(&pool), &place, &many).await;
    assert_eq!(expire(&ingest).await.messages, 2_500);
    assert_eq!(live(&pool, GUILD).await, [0; 0]);
    check(&pool).await;
}

// Receipts.

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_receipt_is_completed_when_the_last_of_its_jobs_is_finished(pool: PgPool) {
    let (ingest, place) = (ingest(&pool), channel(GUILD, HELP));
    store(&ingest, &place, &conversation(&place, 1)).await;
    let erasure = ingest.erase_member(guild(GUILD), member(2)).await.unwrap();
    // Unrelated jobs do not matter.
    let other = channel(GUILD, 8);
    store(&ingest, &other, &conversation(&other, 11)).await;

    let progress = async || erasures::progress(&pool, guild(GUILD), erasure.id).await.unwrap().unwrap();
    assert_eq!(erasures::settle(&pool).await.unwrap(), 0);
    let now = progress().await;
    assert_eq!((now.jobs, now.unfinished), (2, 2), "the removal and the existing index job");
    assert_eq!(now.erasure, erasure);

    let finish = async |kind: &str| {
        sqlx::query(
            "UPDATE jobs SET state = 'completed', finished_at = now() WHERE kind = $1
             AND id IN (SELECT job_id FROM erasure_jobs)",
        )
        .bind(kind)
        .execute(&pool)
        .await
        .unwrap();
    };
    finish("remove_points").await;
    assert_eq!(erasures::settle(&pool).await.unwrap(), 0);
    assert_eq!((progress().await.unfinished, progress().await.erasure.completed_at), (1, None));
    finish("index_session").await;
    assert_eq!(erasures::settle(&pool).await.unwrap(), 1);
    let finished: DateTime<Utc> =
        sqlx::query_scalar("SELECT max(finished_at) FROM jobs").fetch_one(&pool).await.unwrap();
    assert_eq!(progress().await.erasure.completed_at, Some(finished));
    assert_eq!(number(&pool, "SELECT count(*) FROM erasure_jobs").await, 0);
    assert_eq!(erasures::settle(&pool).await.unwrap(), 0);
    assert!(
        erasures::progress(&pool, guild(2), erasure.id).await.unwrap().is_none(),
        "other guilds are not affected"
    );
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_receipt_has_ids_and_counts_but_no_content(pool: PgPool) {
    let (ingest, place) = (ingest(&pool), channel(GUILD, HELP));
    store(&ingest, &place, &conversation(&place, 1)).await;
    let big = i64::MAX - 1;
    let erasure = ingest.erase_messages(guild(GUILD), &ids(&[2, big])).await.unwrap();
    let json = serde_json::to_value(&erasure).unwrap();
    assert_eq!(json["scope"], "messages");
    assert_eq!(json["message_ids"], serde_json::json!(["2", big.to_string()]));
    assert_eq!((&json["guild_id"], &json["messages"]), (&serde_json::json!("1"), &serde_json::json!(1)));
    assert!(!json.to_string().contains("paper") && !json.to_string().contains("author 2"));
    let stored = erasures::progress(&pool, guild(GUILD), erasure.id).await.unwrap().unwrap().erasure;
    assert_eq!(stored, erasure);
}

// Any order of changes.

const MEMBERS: i64 = 3;
const CHANNELS: i64 = 2;
const MESSAGES: i64 = 8;

/// A change of one of a few messages.
#[derive(Debug, Clone)]
enum Change {
    /// Stores the `n`th edit; 0 is the original message.
    Comes(i64, i64),
    Deleted(i64),
    Forgotten(i64),
    MemberForgotten(i64),
    ChannelDeleted(i64),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        12 => (1..=MESSAGES, 0..3_i64).prop_map(|(message, edit)| Change::Comes(message, edit)),
        3 => (1..=MESSAGES).prop_map(Change::Deleted),
        2 => (1..=MESSAGES).prop_map(Change::Forgotten),
        1 => (0..MEMBERS).prop_map(Change::MemberForgotten),
        1 => (0..CHANNELS).prop_map(Change::ChannelDeleted),
    ]
}

/// Returns the messages that remain after the changes, in any order: the newest edit of each stored message, without the
/// removed ones.
fn remaining_after(changes: &[Change]) -> BTreeMap<i64, i64> {
    let mut newest: BTreeMap<i64, i64> = BTreeMap::new();
    let mut deleted: BTreeSet<i64> = BTreeSet::new();
    for change in changes {
        match *change {
            Change::Comes(message, edit) => {
                let newest = newest.entry(message).or_insert(edit);
                *newest = edit.max(*newest);
            }
            Change::Deleted(message) | Change::Forgotten(message) => drop(deleted.insert(message)),
            Change::MemberForgotten(of) => deleted.extend((1..=MESSAGES).filter(|m| m % MEMBERS == of)),
            Change::ChannelDeleted(of) => deleted.extend((1..=MESSAGES).filter(|m| m % CHANNELS == of)),
        }
    }
    newest.retain(|message, _| !deleted.contains(message));
    newest
}

async fn apply(ingest: &Ingest, of: i64, change: &Change) {
    let place = |message: i64| channel(of, 100 + message % CHANNELS);
    match *change {
        Change::Comes(message, edit) => {
            let place = place(message);
            let mut said = new_message(&place, message, 1 + message % MEMBERS, &format!("edit {edit}"));
            said.edited_at = (edit > 0).then(|| minute(1_000 + edit));
            store(ingest, &place, &[said]).await;
        }
        Change::Deleted(message) => {
            ingest.delete(guild(of), place(message).id, &ids(&[message])).await.unwrap();
        }
        Change::Forgotten(message) => drop(ingest.erase_messages(guild(of), &ids(&[message])).await.unwrap()),
        Change::MemberForgotten(number) => {
            ingest.erase_member(guild(of), member(1 + number)).await.unwrap();
        }
        Change::ChannelDeleted(number) => {
            ingest.erase_channel(guild(of), channel_id(100 + number)).await.unwrap();
        }
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_result_does_not_depend_on_the_order_of_changes(pool: PgPool) {
    let runtime = Handle::current();
    let guilds = AtomicI64::new(1);
    let ingest = ingest(&pool);
    let cases = prop::collection::vec(change(), 1..40)
        .prop_flat_map(|changes| (Just(changes.clone()), Just(changes).prop_shuffle()));
    let config = Config { cases: 40, failure_persistence: None, ..Config::default() };
    tokio::task::spawn_blocking(move || {
        TestRunner::new(config).run(&cases, |(changes, shuffled)| {
            let expected = remaining_after(&changes);
            for order in [changes, shuffled] {
                let of = guilds.fetch_add(1, Ordering::Relaxed);
                runtime.block_on(async {
                    for change in &order {
                        apply(&ingest, of, change).await;
                    }
                    let left: Vec<(i64, String)> = sqlx::query_as(
                        "SELECT id, text FROM messages WHERE guild_id = $1 AND deleted_at IS NULL ORDER BY id",
                    )
                    .bind(of)
                    .fetch_all(&pool)
                    .await
                    .unwrap();
                    let wanted: Vec<_> =
                        expected.iter().map(|(message, edit)| (*message, format!("edit {edit}"))).collect();
                    prop_assert_eq!(left, wanted);
                    check(&pool).await;
                    Ok(())
                })?;
            }
            Ok(())
        })
    })
    .await
    .unwrap()
    .unwrap();
}
