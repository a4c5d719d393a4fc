//! Records of what each model's collection holds: the `indexed_sessions` table.

use guildex_types::{GuildId, ModelSlug, PointId, Revision, SessionId};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgConnection, PgExecutor, PgPool};

use crate::StoreError;
use crate::sql::{array_literal, unsigned};

/// Record of one session in one collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, FromRow)]
pub struct IndexedSession {
    /// Session.
    pub session_id: SessionId,
    /// Revision of the points.
    pub point_revision: Revision,
    /// Latest revision whose content the points show.
    pub indexed_revision: Revision,
    /// Hash of what the points were made from; `None` while they are being rewritten.
    pub content_hash: Option<Vec<u8>>,
    /// Ids of the points, one per chunk, in order.
    pub point_ids: Vec<PointId>,
}

impl IndexedSession {
    /// Number of points.
    pub fn points(&self) -> u32 {
        u32::try_from(self.point_ids.len()).unwrap_or(u32::MAX)
    }
}

/// Returns up to `limit` of the guild's records, ordered by session, after `after`.
pub async fn list(
    db: impl PgExecutor<'_>,
    guild: GuildId,
    model: &ModelSlug,
    after: Option<SessionId>,
    limit: i64,
) -> Result<Vec<IndexedSession>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT i.session_id, i.point_revision, i.indexed_revision, i.content_hash, i.point_ids
         FROM indexed_sessions i JOIN sessions s ON s.id = i.session_id
         WHERE s.guild_id = $1 AND i.model = $2 AND ($3::uuid IS NULL OR i.session_id > $3)
         ORDER BY i.session_id LIMIT $4",
    )
    .bind(guild)
    .bind(model)
    .bind(after)
    .bind(limit)
    .fetch_all(db)
    .await?)
}

/// Restores records from a backup, for those of the guild's sessions that are live, have none, and lost
/// nothing since.
pub async fn restore(
    pool: &PgPool,
    guild: GuildId,
    model: &ModelSlug,
    records: &[IndexedSession],
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO indexed_sessions (session_id, model, point_revision, indexed_revision, content_hash, point_ids)
         SELECT s.id, $2, u.point_revision, u.indexed_revision, u.content_hash, u.point_ids::uuid[]
         FROM UNNEST($3::uuid[], $4::bigint[], $5::bigint[], $6::bytea[], $7::text[])
              AS u (id, point_revision, indexed_revision, content_hash, point_ids)
         JOIN sessions s ON s.id = u.id AND s.guild_id = $1 AND s.deleted_at IS NULL
              AND u.indexed_revision BETWEEN s.last_removal_revision AND s.revision
         ORDER BY s.id FOR SHARE OF s
         ON CONFLICT DO NOTHING",
    )
    .bind(guild)
    .bind(model)
    .bind(records.iter().map(|record| record.session_id).collect::<Vec<_>>())
    .bind(records.iter().map(|record| record.point_revision).collect::<Vec<_>>())
    .bind(records.iter().map(|record| record.indexed_revision).collect::<Vec<_>>())
    .bind(records.iter().map(|record| record.content_hash.as_deref()).collect::<Vec<_>>())
    .bind(records.iter().map(|record| array_literal(&record.point_ids)).collect::<Vec<_>>())
    .execute(pool)
    .await?;
    Ok(())
}

/// A session whose record was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct Invalidated {
    /// Session.
    #[sqlx(rename = "id")]
    pub session_id: SessionId,
    /// New revision.
    pub revision: Revision,
    /// Whether the session is live, and not a tombstone.
    pub is_live: bool,
}

/// Deletes the model's records of sessions of the guild: searches do not find them until they are indexed
/// again. Each session gets a new revision, so that all of its points in the collection are older than those
/// of the next job, which deletes them. Returns the sessions that the guild has, tombstones included; their
/// rows stay locked until the transaction ends.
pub async fn invalidate(
    tx: &mut PgConnection,
    guild: GuildId,
    model: &ModelSlug,
    sessions: &[SessionId],
) -> Result<Vec<Invalidated>, StoreError> {
    let invalidated = sqlx::query_as(
        "WITH owned AS (
             SELECT id FROM sessions WHERE guild_id = $1 AND id = ANY($2) ORDER BY id FOR UPDATE)
         UPDATE sessions s SET revision = nextval('session_revisions') FROM owned WHERE s.id = owned.id
         RETURNING s.id, s.revision, s.deleted_at IS NULL AS is_live",
    )
    .bind(guild)
    .bind(sessions)
    .fetch_all(&mut *tx)
    .await?;
    sqlx::query(
        "DELETE FROM indexed_sessions i USING sessions s
         WHERE s.id = i.session_id AND s.guild_id = $1 AND i.session_id = ANY($2) AND i.model = $3",
    )
    .bind(guild)
    .bind(sessions)
    .bind(model)
    .execute(tx)
    .await?;
    Ok(invalidated)
}

/// Clears the content hashes of sessions in all collections, so that their points are rewritten even if the
/// content turns out to be the same: a removal may have deleted them. Returns the number of their points. The
/// caller holds the sessions' locks.
pub async fn clear_content_hashes(
    tx: &mut PgConnection,
    guild: GuildId,
    sessions: &[SessionId],
) -> Result<u64, StoreError> {
    let points = sqlx::query_scalar(
        "WITH cleared AS (
             UPDATE indexed_sessions i SET content_hash = NULL FROM sessions s
             WHERE s.guild_id = $1 AND s.id = ANY($2) AND i.session_id = s.id
             RETURNING i.points)
         SELECT coalesce(sum(points), 0)::bigint FROM cleared",
    )
    .bind(guild)
    .bind(sessions)
    .fetch_one(tx)
    .await?;
    Ok(unsigned(points))
}
