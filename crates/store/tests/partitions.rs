//! Messages in partitions: what a database that was there before becomes, and what still holds.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use guildex_store::search::ensure_word_index;
use guildex_store::{MIGRATOR, migrate, statistics};
use sqlx::PgPool;

/// All that is stored of the messages, in their order.
async fn dump(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar("SELECT to_jsonb(m)::text FROM messages m ORDER BY guild_id, channel_id, id")
        .fetch_all(pool)
        .await
        .unwrap()
}

async fn run(pool: &PgPool, statement: &'static str) -> Result<u64, String> {
    let done = sqlx::query(statement).execute(pool).await;
    done.map(|done| done.rows_affected()).map_err(|error| {
        error
            .as_database_error()
            .and_then(|error| error.code().map(|code| code.to_string()))
            .unwrap_or_default()
    })
}

/// 40 guilds, each with 50 messages: placed, not placed, edited, deleted.
async fn fill(pool: &PgPool) {
    run(pool, "INSERT INTO guilds SELECT g, 'guild' FROM generate_series(1, 40) g").await.unwrap();
    run(pool, "INSERT INTO channels SELECT g, 7, 'channel' FROM generate_series(1, 40) g").await.unwrap();
    run(
        pool,
        "INSERT INTO messages (guild_id, channel_id, id, author_id, author_name, is_bot, sent_at, edited_at, reply_to,
                               mentions, text, words, excluded_reason, first_message_id, deleted_at)
         SELECT g, 7, n, n % 5 + 1, 'ann', n % 10 = 0, '2024-01-01Z'::timestamptz + n * interval '1 minute',
                CASE WHEN n % 7 = 0 THEN '2024-02-01Z'::timestamptz END, CASE WHEN n % 3 = 0 THEN n - 1 END,
                CASE WHEN n % 4 = 0 THEN ARRAY[3, 4]::bigint[] ELSE '{}' END,
                CASE WHEN n % 11 = 0 THEN '' ELSE 'said ' || n END, 2, CASE WHEN n % 10 = 0 THEN 'bot' END,
                CASE WHEN n % 10 <> 0 THEN n - n % 10 + 1 END, CASE WHEN n % 11 = 0 THEN now() END
         FROM generate_series(1, 40) g, generate_series(1, 50) n",
    )
    .await
    .unwrap();
}

#[sqlx::test(migrations = false)]
async fn a_database_with_messages_keeps_them_all_when_it_is_partitioned(pool: PgPool) {
    MIGRATOR.run_to(6, &pool).await.unwrap();
    fill(&pool).await;
    let before = dump(&pool).await;
    migrate(&pool).await.unwrap();
    assert_eq!(before.len(), 2_000);
    assert_eq!(dump(&pool).await, before);
    let (partitions, used): (i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM pg_inherits WHERE inhparent = 'messages'::regclass),
                (SELECT count(DISTINCT tableoid) FROM messages)",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(partitions, 16);
    assert!(used > 8, "40 guilds lie in {used} partitions");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_message_is_stored_once_and_only_in_a_channel_that_is_known(pool: PgPool) {
    fill(&pool).await;
    let again = "INSERT INTO messages (guild_id, channel_id, id, author_id, author_name, sent_at, text)
                 VALUES (3, 7, 50, 1, 'ann', now(), 'again')";
    assert_eq!(run(&pool, again).await, Err("23505".to_owned()), "stored twice");
    let astray = "INSERT INTO messages (guild_id, channel_id, id, author_id, author_name, sent_at, text)
                  VALUES (3, 7, 51, 1, 'ann', now(), 'here'), (3, 8, 52, 1, 'ann', now(), 'nowhere')";
    assert_eq!(run(&pool, astray).await, Err("23503".to_owned()), "stored nowhere");
    assert_eq!(dump(&pool).await.len(), 2_000, "something of it stayed");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn every_query_of_a_guild_reads_one_partition(pool: PgPool) {
    fill(&pool).await;
    // As a prepared statement with a plan for all guilds, which is what the program comes to run.
    let mut db = pool.acquire().await.unwrap();
    for statement in [
        "SET plan_cache_mode = force_generic_plan",
        "PREPARE of_channel (bigint, bigint) AS SELECT id FROM messages WHERE guild_id = $1 AND channel_id = $2",
    ] {
        sqlx::query(statement).execute(&mut *db).await.unwrap();
    }
    let plan: Vec<String> = sqlx::query_scalar("EXPLAIN (ANALYZE, COSTS off) EXECUTE of_channel (3, 7)")
        .fetch_all(&mut *db)
        .await
        .unwrap();
    assert!(plan.iter().any(|line| line.contains("Subplans Removed: 15")), "{plan:#?}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_index_of_words_is_made_for_all_partitions_and_goes_on_where_it_was_broken_off(pool: PgPool) {
    fill(&pool).await;
    let valid = "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                 WHERE c.relname ~ '^messages(_[0-9]+)?_words$' AND i.indisvalid";
    ensure_word_index(&pool).await.unwrap();
    ensure_word_index(&pool).await.unwrap();
    assert_eq!(sqlx::query_scalar::<_, i64>(valid).fetch_one(&pool).await.unwrap(), 17);

    // Broken off after the first half: the whole is not there, some parts are, and one is half made.
    run(&pool, "DROP INDEX messages_words").await.unwrap();
    run(&pool, "CREATE INDEX messages_3_words ON messages_3 (id)").await.unwrap();
    ensure_word_index(&pool).await.unwrap();
    assert_eq!(sqlx::query_scalar::<_, i64>(valid).fetch_one(&pool).await.unwrap(), 17);
    let method = "SELECT amname::text FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE relname = 'messages_3_words'";
    assert_eq!(sqlx::query_scalar::<_, String>(method).fetch_one(&pool).await.unwrap(), "gin");
}

#[sqlx::test(migrations = "../../migrations")]
async fn the_planner_is_told_of_all_partitions_once_there_is_much_more(pool: PgPool) {
    assert!(!statistics::refresh(&pool).await.unwrap(), "there is nothing to tell");
    fill(&pool).await;
    // Postgres counts what has changed, and shows it within some seconds.
    while !statistics::refresh(&pool).await.unwrap() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let known: f32 = sqlx::query_scalar("SELECT reltuples FROM pg_class WHERE oid = 'messages'::regclass")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(known, 2_000.0);
    assert!(!statistics::refresh(&pool).await.unwrap(), "nothing has changed since");
}
