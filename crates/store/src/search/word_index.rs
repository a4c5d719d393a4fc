use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use crate::StoreError;

/// Index definition. The configuration 'simple' has neither stemming nor stop words, since chats mix
/// languages. Each entry contains the guild as a lexeme, so that a search reads its tenant's part of the
/// index only; the lexeme contains a space, so no message or query can produce it. Messages outside of
/// sessions have no entry.
const WORDS: &str =
    "USING gin ((to_tsvector('simple', text) || array_to_tsvector(ARRAY['guild ' || guild_id::text])))
    WHERE first_message_id IS NOT NULL AND deleted_at IS NULL";

/// Creates the full-text index of messages if it is missing; full-text search is slow without it. Partitions
/// are indexed concurrently, one after the other, without blocking writers; after an interruption the next
/// call continues. Returns at once while another process creates it.
pub async fn ensure_word_index(pool: &PgPool) -> Result<(), StoreError> {
    let complete: Option<bool> = sqlx::query_scalar(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('messages_words')",
    )
    .fetch_optional(pool)
    .await?;
    if complete == Some(true) {
        return Ok(());
    }
    // CREATE INDEX CONCURRENTLY cannot run in a transaction, so the lock belongs to the connection.
    let mut db = pool.acquire().await?;
    let locked: bool =
        sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended('guildex/words', 0))")
            .fetch_one(&mut *db)
            .await?;
    if !locked {
        return Ok(());
    }
    let created = create(&mut db).await;
    sqlx::query("SELECT pg_advisory_unlock(hashtextextended('guildex/words', 0))").execute(&mut *db).await?;
    created
}

async fn create(db: &mut PgConnection) -> Result<(), StoreError> {
    run(db, format!("CREATE INDEX IF NOT EXISTS messages_words ON ONLY messages {WORDS}")).await?;
    let partitions: Vec<String> = sqlx::query_scalar(
        "SELECT part.inhrelid::regclass::text FROM pg_inherits part
         WHERE part.inhparent = 'messages'::regclass AND NOT EXISTS (
             SELECT FROM pg_inherits done JOIN pg_index i ON i.indexrelid = done.inhrelid
             WHERE done.inhparent = 'messages_words'::regclass AND i.indrelid = part.inhrelid)
         ORDER BY 1",
    )
    .fetch_all(&mut *db)
    .await?;
    for partition in partitions {
        // An interrupted run leaves an invalid index.
        run(db, format!("DROP INDEX IF EXISTS {partition}_words")).await?;
        run(db, format!("CREATE INDEX CONCURRENTLY {partition}_words ON {partition} {WORDS}")).await?;
        run(db, format!("ALTER INDEX messages_words ATTACH PARTITION {partition}_words")).await?;
    }
    Ok(())
}

/// The statements contain names from our own migrations only.
async fn run(db: &mut PgConnection, statement: String) -> Result<(), StoreError> {
    sqlx::query(AssertSqlSafe(statement)).execute(db).await?;
    Ok(())
}
