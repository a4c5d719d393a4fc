//! Backfilling messages that another program inserted with SQL.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use sqlx::PgPool;

use crate::points::{assert_consistent, points};
use crate::world::World;

const MAKERS: i64 = 1_100_000_000_000_000_001;

fn samples() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/rustwood-makers"))
}

/// Copies every `nth` message as a program that knows nothing of sessions would insert it.
async fn copy_raw(from: &PgPool, to: &PgPool, nth: i64) {
    for (read, write) in [
        (
            "SELECT jsonb_agg(t) FROM guilds t WHERE $1 > 0",
            "INSERT INTO guilds SELECT * FROM jsonb_populate_recordset(NULL::guilds, $1)",
        ),
        (
            "SELECT jsonb_agg(t) FROM channels t WHERE $1 > 0",
            "INSERT INTO channels SELECT * FROM jsonb_populate_recordset(NULL::channels, $1)",
        ),
        (
            "SELECT jsonb_agg(t) FROM (SELECT *, row_number() OVER (ORDER BY id) AS n FROM messages) t
             WHERE n % $1 = 0",
            "INSERT INTO messages (guild_id, channel_id, id, author_id, webhook_name, is_bot, is_system, sent_at,
                                   edited_at, reply_to, mentions, text)
             SELECT guild_id, channel_id, id, author_id, webhook_name, is_bot, is_system, sent_at,
                    edited_at, reply_to, mentions, text
             FROM jsonb_populate_recordset(NULL::messages, $1)",
        ),
    ] {
        let rows: Value = sqlx::query_scalar(read).bind(nth).fetch_one(from).await.unwrap();
        sqlx::query(write).bind(rows).execute(to).await.unwrap();
    }
}

/// Session, word count and reason for exclusion of each message.
async fn assignments(world: &World) -> BTreeMap<i64, (Option<i64>, i32, Option<String>)> {
    let rows: Vec<(i64, Option<i64>, i32, Option<String>)> =
        sqlx::query_as("SELECT id, first_message_id, words, excluded_reason FROM messages")
            .fetch_all(&world.pool)
            .await
            .unwrap();
    rows.into_iter().map(|(id, first, words, skip)| (id, (first, words, skip))).collect()
}

#[tokio::test]
async fn a_backfill_beside_live_traffic_indexes_inserted_messages() {
    let imported = World::new().await;
    imported.import(samples());

    let world = World::new().await;
    copy_raw(&imported.pool, &world.pool, 2).await;
    assert_eq!(world.value::<i64>("SELECT count(*) FROM messages").await, 135);
    let up = world.up().await;
    let guild = MAKERS.to_string();
    world.ok(&["backfill", "--guild", &guild, "--detach"]);
    // The other half is imported while the backfill runs.
    world.import(samples());
    let watched = world.ok(&["backfill", "--guild", &guild]);
    assert!(watched.stderr.contains("(100%) done"), "{watched}");

    assert_eq!(assignments(&world).await, assignments(&imported).await);
    let jobs: i64 = world.value("SELECT count(*) FROM jobs WHERE kind <> 'backfill_channel'").await;
    let revisions = "SELECT array_agg(point_revision ORDER BY session_id) FROM indexed_sessions";
    let before: Vec<i64> = world.value(revisions).await;
    world.ok(&["backfill", "--guild", &guild]);
    assert_eq!(world.value::<Vec<i64>>(revisions).await, before);
    assert_eq!(world.value::<i64>("SELECT count(*) FROM jobs WHERE kind <> 'backfill_channel'").await, jobs);

    assert!(up.stop().await.success());
    assert_consistent(&world, &points(&world, MAKERS).await).await;
}

#[tokio::test]
async fn a_backfill_of_an_unknown_guild_or_channel_is_an_error() {
    let world = World::new().await;
    let rejected = world.fails(&["backfill", "--guild", "4711"]);
    assert!(rejected.stderr.contains("unknown guild 4711"), "{rejected}");
    world.import(samples());
    let rejected = world.fails(&["backfill", "--guild", &MAKERS.to_string(), "--channel", "4711"]);
    assert!(rejected.stderr.contains("has no channel 4711"), "{rejected}");
    assert_eq!(world.value::<i64>("SELECT count(*) FROM jobs WHERE kind = 'backfill_channel'").await, 0);
}

#[tokio::test]
async fn a_backfill_does_not_index_members_and_channels_that_opted_out() {
    let imported = World::new().await;
    imported.import(samples());
    let (author, channel): (i64, i64) = sqlx::query_as(
        "SELECT (SELECT author_id FROM messages WHERE excluded_reason IS NULL GROUP BY 1 ORDER BY count(*) DESC LIMIT 1),
                (SELECT min(id) FROM channels)",
    )
    .fetch_one(&imported.pool)
    .await
    .unwrap();

    let world =
        World::with(&format!("optout.users = [\"{author}\"]\noptout.channels = [\"{channel}\"]")).await;
    copy_raw(&imported.pool, &world.pool, 1).await;
    let ingest = world.ingest();
    guildex_producer::backfill::plan(ingest.pool(), ingest.enqueuer(), MAKERS.try_into().unwrap(), None)
        .await
        .unwrap();
    world.settle();
    assert!(world.value::<i64>("SELECT count(*) FROM indexed_sessions").await > 0);
    for point in points(&world, MAKERS).await.values() {
        assert_ne!(point.payload.channel_id.get(), channel, "the channel opted out");
        assert!(point.payload.author_ids.iter().all(|id| id.get() != author), "the member opted out");
    }
}
