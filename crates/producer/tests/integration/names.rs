//! Names of authors: stored once per guild, kept current by ingest, erased with their member.

use chrono::{DateTime, TimeDelta, Utc};
use guildex_producer::{Ingest, IngestConfig, OptOutConfig, SessionsConfig};
use guildex_store::MIGRATOR;
use guildex_store::channels::Channel;
use guildex_types::{Author, JobQueue, Links, Message, MessageKind, SearchText, UserId};
use sqlx::PgPool;

fn minute(number: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::minutes(number)
}

fn user(number: i64) -> UserId {
    number.try_into().unwrap()
}

fn channel(guild: i64) -> Channel {
    Channel {
        guild_id: guild.try_into().unwrap(),
        guild_name: "Makers".to_owned(),
        id: 9.try_into().unwrap(),
        name: "help".to_owned(),
        parent_id: None,
    }
}

/// A message of the minute of its id.
fn new_message(guild: i64, number: i64, author: Author) -> Message {
    Message {
        guild_id: guild.try_into().unwrap(),
        channel_id: 9.try_into().unwrap(),
        id: number.try_into().unwrap(),
        author,
        kind: MessageKind::Conversation,
        sent_at: minute(number),
        edited_at: None,
        links: Links::default(),
        text: SearchText::from_parts(["some words about the glue"]),
    }
}

fn ann(guild: i64, number: i64, name: &str) -> Message {
    new_message(guild, number, Author::member(user(7), name))
}

async fn store(ingest: &Ingest, messages: &[Message]) {
    let guild = messages[0].guild_id.get();
    ingest.messages(&channel(guild), messages, JobQueue::Live).await.unwrap();
}

async fn names(pool: &PgPool) -> Vec<(i64, i64, String)> {
    sqlx::query_as("SELECT guild_id, user_id, name FROM users ORDER BY 1, 2").fetch_all(pool).await.unwrap()
}

/// Columns that can hold a name, of all messages.
async fn webhook_names(pool: &PgPool) -> Vec<Option<String>> {
    sqlx::query_scalar("SELECT webhook_name FROM messages ORDER BY id").fetch_all(pool).await.unwrap()
}

async fn count(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

fn row(guild: i64, user: i64, name: &str) -> (i64, i64, String) {
    (guild, user, name.to_owned())
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_rename_costs_one_row_and_no_job(pool: PgPool) {
    let ingest = Ingest::new(pool.clone(), IngestConfig::default());
    store(&ingest, &[ann(1, 1, "ann"), ann(1, 2, "ann")]).await;
    store(&ingest, &[ann(2, 1, "ann"), ann(2, 2, "ann")]).await;
    let unchanged = "SELECT coalesce(sum(revision), 0)::bigint FROM sessions";
    let (jobs, before) = ("SELECT count(*) FROM jobs", count(&pool, unchanged).await);
    let enqueued = count(&pool, jobs).await;

    // A message that takes no part in sessions.
    let renamed =
        Message { kind: MessageKind::System, text: SearchText::default(), ..ann(1, 90_000, "anna") };
    store(&ingest, &[renamed]).await;
    assert_eq!(names(&pool).await, [row(1, 7, "anna"), row(2, 7, "ann")]);
    assert_eq!((count(&pool, jobs).await, count(&pool, unchanged).await), (enqueued, before));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_older_export_does_not_restore_an_older_name(pool: PgPool) {
    let ingest = Ingest::new(pool.clone(), IngestConfig::default());
    store(&ingest, &[ann(1, 5, "new")]).await;
    store(&ingest, &[ann(1, 1, "old"), ann(1, 2, "old")]).await;
    assert_eq!(names(&pool).await, [row(1, 7, "new")]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn messages_of_a_webhook_keep_their_own_names_until_they_are_deleted(pool: PgPool) {
    let ingest = Ingest::new(
        pool.clone(),
        IngestConfig {
            sessions: SessionsConfig { include_bots: true, ..SessionsConfig::default() },
            ..IngestConfig::default()
        },
    );
    let webhook = |number, name| new_message(1, number, Author::webhook(user(50), name));
    store(&ingest, &[webhook(1, "bridge of ann"), webhook(2, "bridge of bo"), ann(1, 3, "ann")]).await;
    let own = |name: &str| Some(name.to_owned());
    assert_eq!(webhook_names(&pool).await, [own("bridge of ann"), own("bridge of bo"), None]);
    assert_eq!(names(&pool).await, [row(1, 7, "ann")]);

    ingest.delete(channel(1).guild_id, channel(1).id, &[1.try_into().unwrap()]).await.unwrap();
    assert_eq!(webhook_names(&pool).await, [None, own("bridge of bo"), None]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn forgetting_a_member_erases_the_name_and_old_messages_do_not_restore_it(pool: PgPool) {
    let ingest = Ingest::new(pool.clone(), IngestConfig::default());
    let messages = [ann(1, 1, "ann"), new_message(1, 2, Author::member(user(8), "bo"))];
    store(&ingest, &messages).await;
    store(&ingest, &[ann(2, 1, "ann")]).await;
    ingest.erase_member(channel(1).guild_id, user(7)).await.unwrap();
    assert_eq!(names(&pool).await, [row(1, 8, "bo"), row(2, 7, "ann")]);
    let with_content = "SELECT count(*) FROM messages m WHERE guild_id = 1 AND author_id = 7
                AND (text <> '' OR to_jsonb(m)::text LIKE '%\"ann\"%')";
    assert_eq!(count(&pool, with_content).await, 0, "a tombstone holds more than ids");

    store(&ingest, &messages).await;
    assert_eq!(names(&pool).await, [row(1, 8, "bo"), row(2, 7, "ann")]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn forgetting_a_guild_erases_all_names_in_it(pool: PgPool) {
    let ingest = Ingest::new(pool.clone(), IngestConfig::default());
    store(&ingest, &[ann(1, 1, "ann"), new_message(1, 2, Author::member(user(8), "bo"))]).await;
    store(&ingest, &[ann(2, 1, "ann")]).await;
    ingest.erase_guild(channel(1).guild_id).await.unwrap();
    assert_eq!(names(&pool).await, [row(2, 7, "ann")]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_name_of_an_opted_out_member_is_not_stored(pool: PgPool) {
    let config = IngestConfig {
        optout: OptOutConfig { users: [user(7)].into(), ..OptOutConfig::default() },
        ..IngestConfig::default()
    };
    let ingest = Ingest::new(pool.clone(), config);
    store(&ingest, &[ann(1, 1, "ann"), new_message(1, 2, Author::member(user(8), "bo"))]).await;
    assert_eq!(names(&pool).await, [row(1, 8, "bo")]);
}
