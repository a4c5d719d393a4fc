//! The index that search by words reads.

use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use crate::StoreError;

/// 'simple' stems nothing and stops at no word: the languages of a chat are many. The guild stands among the words of
/// each message, so that a search stays in its tenant's part of the index; with a blank in it, it is a word that nobody
/// can say or ask for. What is in no session has no entry.
const WORDS: &str =
    "USING gin ((to_tsvector('simple', text) || array_to_tsvector(ARRAY['guild ' || guild_id::text])))
    WHERE first_message_id IS NOT NULL AND deleted_at IS NULL";

/// Sees to it that there is an index of the words of all messages, [`by_words`](super::by_words) being slow without.
/// Nobody waits while it is made, partition by partition; one that was broken off goes on where it was. While another
/// process is at it, this returns at once.
///
/// # Errors
/// If Postgres fails.
pub async fn ensure_word_index(pool: &PgPool) -> Result<(), StoreError> {
    let complete: Option<bool> = sqlx::query_scalar(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('messages_words')",
    )
    .fetch_optional(pool)
    .await?;
    if complete == Some(true) {
        return Ok(());
    }
    // No transaction: an index that is made beside the work of others waits until theirs are over.
    let mut db = pool.acquire().await?;
    let alone: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended('guildex/words', 0))")
        .fetch_one(&mut *db)
        .await?;
    if !alone {
        return Ok(());
    }
    let made = make(&mut db).await;
    sqlx::query("SELECT pg_advisory_unlock(hashtextextended('guildex/words', 0))").execute(&mut *db).await?;
    made
}

async fn make(db: &mut PgConnection) -> Result<(), StoreError> {
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
        // What an interruption leaves is of no use.
        run(db, format!("DROP INDEX IF EXISTS {partition}_words")).await?;
        run(db, format!("CREATE INDEX CONCURRENTLY {partition}_words ON {partition} {WORDS}")).await?;
        run(db, format!("ALTER INDEX messages_words ATTACH PARTITION {partition}_words")).await?;
    }
    Ok(())
}

/// The statements hold names of our own migrations and nothing else.
async fn run(db: &mut PgConnection, statement: String) -> Result<(), StoreError> {
    sqlx::query(AssertSqlSafe(statement)).execute(db).await?;
    Ok(())
}
