//! Partitions of `messages`: constraints, plans, the full-text index and statistics.

use guildex_store::search::ensure_word_index;
use guildex_store::{MIGRATOR, statistics};
use sqlx::PgPool;

async fn count(pool: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM messages").fetch_one(pool).await.unwrap()
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

/// Inserts 50 messages into each of 40 guilds: assigned, unassigned, edited and deleted ones.
async fn fill(pool: &PgPool) {
    run(pool, "INSERT INTO guilds SELECT g, 'guild' FROM generate_series(1, 40) g").await.unwrap();
    run(pool, "INSERT INTO channels SELECT g, 7, 'channel' FROM generate_series(1, 40) g").await.unwrap();
    run(
        pool,
        "INSERT INTO messages (guild_id, channel_id, id, author_id, is_bot, sent_at, edited_at, reply_to,
                               mentions, text, words, excluded_reason, first_message_id, deleted_at)
         SELECT g, 7, n, n % 5 + 1, n % 10 = 0, '2024-01-01Z'::timestamptz + n * interval '1 minute',
                CASE WHEN n % 7 = 0 THEN '2024-02-01Z'::timestamptz END, CASE WHEN n % 3 = 0 THEN n - 1 END,
                CASE WHEN n % 4 = 0 THEN ARRAY[3, 4]::bigint[] ELSE '{}' END,
                CASE WHEN n % 11 = 0 THEN '' ELSE 'said ' || n END, 2, CASE WHEN n % 10 = 0 THEN 'bot' END,
                CASE WHEN n % 10 <> 0 THEN n - n % 10 + 1 END, CASE WHEN n % 11 = 0 THEN now() END
         FROM generate_series(1, 40) g, generate_series(1, 50) n",
    )
    .await
    .unwrap();
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn messages_are_partitioned_by_guild(pool: PgPool) {
    fill(&pool).await;
    let (partitions, used): (i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM pg_inherits WHERE inhparent = 'messages'::regclass),
                (SELECT count(DISTINCT tableoid) FROM messages)",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(partitions, 16);
    assert!(used > 8, "messages of 40 guilds are in {used} partitions");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_message_is_unique_and_needs_a_known_channel(pool: PgPool) {
    fill(&pool).await;
    let again = "INSERT INTO messages (guild_id, channel_id, id, author_id, sent_at, text)
                 VALUES (3, 7, 50, 1, now(), 'again')";
    assert_eq!(run(&pool, again).await, Err("23505".to_owned()), "a duplicate id");
    let unknown = "INSERT INTO messages (guild_id, channel_id, id, author_id, sent_at, text)
                  VALUES (3, 7, 51, 1, now(), 'here'), (3, 8, 52, 1, now(), 'unknown')";
    assert_eq!(run(&pool, unknown).await, Err("23503".to_owned()), "an unknown channel");
    assert_eq!(count(&pool).await, 2_000, "the failed statement stored a message");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_query_of_a_guild_reads_one_partition(pool: PgPool) {
    fill(&pool).await;
    // A prepared statement with a generic plan, as the program runs it.
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
async fn the_full_text_index_is_created_on_all_partitions_and_resumes_after_an_interruption(pool: PgPool) {
    fill(&pool).await;
    let valid = "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                 WHERE c.relname ~ '^messages(_[0-9]+)?_words$' AND i.indisvalid";
    ensure_word_index(&pool).await.unwrap();
    ensure_word_index(&pool).await.unwrap();
    assert_eq!(sqlx::query_scalar::<_, i64>(valid).fetch_one(&pool).await.unwrap(), 17);

    // Interrupted: the index of the parent is missing, and one partition has a wrong index.
    run(&pool, "DROP INDEX messages_words").await.unwrap();
    run(&pool, "CREATE INDEX messages_3_words ON messages_3 (id)").await.unwrap();
    ensure_word_index(&pool).await.unwrap();
    assert_eq!(sqlx::query_scalar::<_, i64>(valid).fetch_one(&pool).await.unwrap(), 17);
    let method = "SELECT amname::text FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE relname = 'messages_3_words'";
    assert_eq!(sqlx::query_scalar::<_, String>(method).fetch_one(&pool).await.unwrap(), "gin");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn statistics_of_all_partitions_are_refreshed_after_many_changes(pool: PgPool) {
    assert!(!statistics::refresh(&pool).await.unwrap(), "nothing has changed");
    fill(&pool).await;
    // Postgres reports changed rows after a few seconds.
    while !statistics::refresh(&pool).await.unwrap() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let known: f32 = sqlx::query_scalar("SELECT reltuples FROM pg_class WHERE oid = 'messages'::regclass")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(known, 2_000.0);
    assert!(!statistics::refresh(&pool).await.unwrap(), "nothing has changed since the refresh");
}
