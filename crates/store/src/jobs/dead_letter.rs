use guildex_types::{JobId, JobQueue};
use sqlx::PgPool;

use crate::StoreError;

/// Maximum number of characters that are stored of a message from Redis.
const MAX_RAW: usize = 4_000;

/// Stores a message from Redis that is not a job id as a dead job, for an operator to inspect. Equal messages
/// are stored once.
pub async fn dead_letter(pool: &PgPool, queue: JobQueue, raw: &str) -> Result<(), StoreError> {
    let raw: String = raw.chars().filter(|c| *c != '\0').take(MAX_RAW).collect();
    sqlx::query(
        "INSERT INTO jobs (id, kind, queue, payload, state, finished_at, error)
         SELECT $1, 'undecodable', $2, jsonb_build_object('raw', $3::text), 'dead', now(),
                'not a job id: came out of Redis'
         WHERE NOT EXISTS (SELECT FROM jobs WHERE state = 'dead' AND guild_id IS NULL
                           AND payload = jsonb_build_object('raw', $3::text))",
    )
    .bind(JobId::new())
    .bind(queue)
    .bind(raw)
    .execute(pool)
    .await?;
    Ok(())
}
