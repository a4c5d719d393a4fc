//! The books: what each model's collection holds of a guild's sessions.

use guildex_types::{GuildId, ModelSlug, PointId, Revision, SessionId};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use crate::StoreError;

/// What a collection holds of one session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexedSession {
    /// The session.
    pub session_id: SessionId,
    /// The revision that its points carry.
    pub point_revision: Revision,
    /// The latest revision whose content they show.
    pub indexed_revision: Revision,
    /// Of what they were made from; `None` while they are being rewritten.
    pub content_hash: Option<Vec<u8>>,
    /// Their ids, one per chunk, in order.
    pub point_ids: Vec<PointId>,
}

impl IndexedSession {
    /// Number of points.
    pub fn points(&self) -> u32 {
        u32::try_from(self.point_ids.len()).unwrap_or(u32::MAX)
    }
}

/// Formats ids as a `uuid[]` literal: UNNEST flattens an array of arrays, so each is sent as text.
pub(crate) fn array_literal(ids: &[PointId]) -> String {
    let ids: Vec<String> = ids.iter().map(|id| id.get().to_string()).collect();
    format!("{{{}}}", ids.join(","))
}

/// The guild's books, by session, from after `after` on; at most `limit`.
///
/// # Errors
/// If Postgres fails.
pub async fn list(
    db: impl PgExecutor<'_>,
    guild: GuildId,
    model: &ModelSlug,
    after: Option<SessionId>,
    limit: i64,
) -> Result<Vec<IndexedSession>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT i.session_id, i.point_revision, i.indexed_revision, i.content_hash, i.point_ids
         FROM indexed_sessions i JOIN sessions s ON s.id = i.session_id
         WHERE s.guild_id = $1 AND i.model = $2 AND ($3::uuid IS NULL OR i.session_id > $3)
         ORDER BY i.session_id LIMIT $4",
    )
    .bind(guild.get())
    .bind(model.as_str())
    .bind(after.map(SessionId::get))
    .bind(limit)
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(Row::read).collect())
}

#[derive(FromRow)]
struct Row {
    session_id: Uuid,
    point_revision: i64,
    indexed_revision: i64,
    content_hash: Option<Vec<u8>>,
    point_ids: Vec<PointId>,
}

impl Row {
    fn read(self) -> IndexedSession {
        IndexedSession {
            session_id: self.session_id.into(),
            point_revision: self.point_revision.into(),
            indexed_revision: self.indexed_revision.into(),
            content_hash: self.content_hash,
            point_ids: self.point_ids,
        }
    }
}

/// Writes books of an earlier time for those of the guild's sessions that live, have none, and lost nothing since.
///
/// # Errors
/// If Postgres fails.
pub async fn restore(
    pool: &PgPool,
    guild: GuildId,
    model: &ModelSlug,
    books: &[IndexedSession],
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
    .bind(guild.get())
    .bind(model.as_str())
    .bind(books.iter().map(|book| book.session_id.get()).collect::<Vec<_>>())
    .bind(books.iter().map(|book| book.point_revision.get()).collect::<Vec<_>>())
    .bind(books.iter().map(|book| book.indexed_revision.get()).collect::<Vec<_>>())
    .bind(books.iter().map(|book| book.content_hash.as_deref()).collect::<Vec<_>>())
    .bind(books.iter().map(|book| array_literal(&book.point_ids)).collect::<Vec<_>>())
    .execute(pool)
    .await?;
    Ok(())
}

/// A session that was taken out of the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invalidated {
    /// The session.
    pub session_id: SessionId,
    /// The revision that it was given.
    pub revision: Revision,
    /// Whether it is more than a tombstone.
    pub is_live: bool,
}

/// Takes sessions of the guild out of the model's books: nothing of them is found until they are indexed again. Each
/// gets a fresh revision, so that whatever the collection holds of it is older than what the next job writes, and goes.
/// Returns those that the guild has, tombstones too; their rows stay locked until the transaction ends.
///
/// # Errors
/// If Postgres fails.
pub async fn invalidate(
    tx: &mut PgConnection,
    guild: GuildId,
    model: &ModelSlug,
    sessions: &[SessionId],
) -> Result<Vec<Invalidated>, StoreError> {
    let ids: Vec<Uuid> = sessions.iter().map(|session| session.get()).collect();
    let struck: Vec<(Uuid, i64, bool)> = sqlx::query_as(
        "WITH ours AS (
             SELECT id FROM sessions WHERE guild_id = $1 AND id = ANY($2) ORDER BY id FOR UPDATE)
         UPDATE sessions s SET revision = nextval('session_revisions') FROM ours WHERE s.id = ours.id
         RETURNING s.id, s.revision, s.deleted_at IS NULL",
    )
    .bind(guild.get())
    .bind(&ids)
    .fetch_all(&mut *tx)
    .await?;
    sqlx::query(
        "DELETE FROM indexed_sessions i USING sessions s
         WHERE s.id = i.session_id AND s.guild_id = $1 AND i.session_id = ANY($2) AND i.model = $3",
    )
    .bind(guild.get())
    .bind(&ids)
    .bind(model.as_str())
    .execute(tx)
    .await?;
    let read = |(id, revision, is_live): (Uuid, i64, bool)| Invalidated {
        session_id: id.into(),
        revision: revision.into(),
        is_live,
    };
    Ok(struck.into_iter().map(read).collect())
}

/// Notes that the sessions' points are no longer good: they are made anew even if the content should turn out to be
/// the same, since a removal may have taken them. Returns how many there are, in all models' collections. The caller
/// holds the sessions' rows.
///
/// # Errors
/// If Postgres fails.
pub async fn clear_content_hashes(
    tx: &mut PgConnection,
    guild: GuildId,
    sessions: &[SessionId],
) -> Result<u64, StoreError> {
    let points: i64 = sqlx::query_scalar(
        "WITH voided AS (
             UPDATE indexed_sessions i SET content_hash = NULL FROM sessions s
             WHERE s.guild_id = $1 AND s.id = ANY($2) AND i.session_id = s.id
             RETURNING i.points)
         SELECT coalesce(sum(points), 0)::bigint FROM voided",
    )
    .bind(guild.get())
    .bind(sessions.iter().map(|session| session.get()).collect::<Vec<_>>())
    .fetch_one(tx)
    .await?;
    Ok(u64::try_from(points).unwrap_or(0))
}
