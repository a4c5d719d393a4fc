//! Page sizes and concurrent writers.

use chrono::{DateTime, TimeDelta};
use guildex_producer::{Ingest, IngestConfig, Ingested};
use guildex_store::MIGRATOR;
use guildex_store::channels::{self, Channel};
use guildex_test_support::locks::until_blocked;
use guildex_types::{Author, JobQueue, Links, Message, MessageKind, SearchText};
use sqlx::PgPool;

fn channel(guild: i64) -> Channel {
    Channel {
        guild_id: guild.try_into().unwrap(),
        guild_name: "guild".to_owned(),
        id: 9.try_into().unwrap(),
        name: "channel".to_owned(),
        parent_id: None,
    }
}

/// Returns messages of every kind: replies, mentions, bots, system messages, edits, empty texts, several scripts.
fn conversation(guild: i64, count: i64) -> Vec<Message> {
    let message = |number: i64| Message {
        guild_id: guild.try_into().unwrap(),
        channel_id: 9.try_into().unwrap(),
        id: number.try_into().unwrap(),
        author: Author {
            is_bot: number % 13 == 0,
            ..Author::member((1 + number % 7).try_into().unwrap(), format!("änn {}", number % 7))
        },
        kind: if number % 17 == 0 { MessageKind::System } else { MessageKind::Conversation },
        sent_at: DateTime::UNIX_EPOCH + TimeDelta::seconds(40 * number) + TimeDelta::nanoseconds(123_456_789),
        edited_at: (number % 5 == 0).then(|| DateTime::UNIX_EPOCH + TimeDelta::days(20_000 + number)),
        links: Links {
            reply_to: (number % 4 == 0).then(|| (number - 1).try_into().unwrap()),
            mentions: (0..number % 3).map(|member| (1 + member).try_into().unwrap()).collect(),
        },
        text: SearchText::from_parts([if number % 11 == 0 { "" } else { "gehört – 你好 \u{1f389}" }]),
    };
    (1..=count).map(message).collect()
}

/// Returns all columns of a guild's messages except the guild.
async fn stored(pool: &PgPool, guild: i64) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT (to_jsonb(m) - 'guild_id')::text FROM messages m WHERE guild_id = $1 ORDER BY id",
    )
    .bind(guild)
    .fetch_all(pool)
    .await
    .unwrap()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_large_page_is_stored_like_many_small_ones(pool: PgPool) {
    let ingest = Ingest::new(pool.clone(), IngestConfig::default());
    let large = ingest.messages(&channel(1), &conversation(1, 2_500), JobQueue::Backfill).await.unwrap();
    let mut small = Ingested::default();
    for page in conversation(2, 2_500).chunks(100) {
        small += ingest.messages(&channel(2), page, JobQueue::Backfill).await.unwrap();
    }
    assert_eq!((large.new, small.new), (2_500, 2_500));
    let rows = stored(&pool, 1).await;
    assert_eq!(rows.len(), 2_500);
    assert_eq!(rows, stored(&pool, 2).await);
    assert!(rows.iter().any(|row| row.contains("gehört – 你好 \u{1f389}")));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_concurrent_writer_without_the_channel_lock_does_not_fail_the_ingest(pool: PgPool) {
    let ingest = Ingest::new(pool.clone(), IngestConfig::default());
    channels::upsert(&mut pool.acquire().await.unwrap(), &channel(1)).await.unwrap();
    let mut other = pool.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO messages (guild_id, channel_id, id, author_id, sent_at, text)
         VALUES (1, 9, 3, 5, now(), 'from another program')",
    )
    .execute(&mut *other)
    .await
    .unwrap();
    let ours = tokio::spawn(async move {
        ingest
            .messages(&channel(1), &conversation(1, 4), JobQueue::Live)
            .await
            .map_err(|error| error.to_string())
    });
    until_blocked(&pool, 1).await;
    other.commit().await.unwrap();
    let done = ours.await.unwrap().unwrap();
    assert_eq!((done.new, done.edited, done.unchanged), (3, 0, 1));
    assert_eq!(stored(&pool, 1).await.len(), 4);
}
