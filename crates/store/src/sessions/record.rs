use guildex_types::{GuildId, ModelSlug, PointId, Revision, SessionId};
use sqlx::PgPool;

use crate::StoreError;
use crate::models::{self, IndexModel, ModelState};
use crate::sql::array_literal;

/// Clears the content hashes of sessions whose points are about to change, so that an interrupted rewrite is
/// not mistaken for an unchanged session. Returns the sessions that are still at the given revision; the
/// points of the others must not be changed.
pub async fn begin_rewrite(
    pool: &PgPool,
    sessions: &[(GuildId, SessionId, Revision)],
    model: &ModelSlug,
) -> Result<Vec<SessionId>, StoreError> {
    if sessions.is_empty() {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_scalar(
        "/* sessions.begin_rewrite */
         WITH current AS (
             SELECT s.id FROM UNNEST($1::bigint[], $2::uuid[], $3::bigint[]) AS u (guild_id, id, revision)
             JOIN sessions s ON s.id = u.id AND s.guild_id = u.guild_id AND s.revision = u.revision
             ORDER BY s.id FOR SHARE OF s),
         cleared AS (
             UPDATE indexed_sessions i SET content_hash = NULL
             FROM current WHERE i.session_id = current.id AND i.model = $4)
         SELECT id FROM current",
    )
    .bind(sessions.iter().map(|(guild, ..)| *guild).collect::<Vec<_>>())
    .bind(sessions.iter().map(|(_, id, _)| *id).collect::<Vec<_>>())
    .bind(sessions.iter().map(|(.., revision)| *revision).collect::<Vec<_>>())
    .bind(model)
    .fetch_all(pool)
    .await?)
}

/// Result of an index job for one session.
#[derive(Debug, Clone)]
pub struct Record {
    /// Tenant.
    pub guild_id: GuildId,
    /// Session.
    pub session_id: SessionId,
    /// Revision that was read.
    pub revision: Revision,
    /// Revision of the points; lower than `revision` if the content was unchanged.
    pub point_revision: Revision,
    /// Hash of what the points were made from.
    pub content_hash: Vec<u8>,
    /// Ids of the points, one per chunk, in order. Without points the session's record is deleted.
    pub point_ids: Vec<PointId>,
}

/// Result of [`record`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// Recorded.
    Yes,
    /// Recorded, but a model was added since the job read the list of models: the job must run again for all
    /// of them.
    ModelAdded,
    /// Not recorded: the collection's index was replaced since, and the job must run again for the new one.
    IndexReplaced,
}

/// Records what the model's collection holds of each session that is still at the revision that was read.
///
/// If a session changed since, but lost nothing, points that were written are recorded without a hash: what
/// they show is correct, so that a session that changes constantly is still found, and the following job
/// rewrites it in any case. Other sessions are skipped. `models` are those at the start of the job, from
/// [`models::list`].
pub async fn record(
    pool: &PgPool,
    records: &[Record],
    model: &ModelSlug,
    models: &[IndexModel],
) -> Result<Recorded, StoreError> {
    if records.is_empty() {
        return Ok(Recorded::Yes);
    }
    let mut tx = pool.begin().await?;
    // Locked until the end: a switch of models waits for this transaction, or this one for the switch.
    sqlx::query("SELECT FROM models ORDER BY slug FOR SHARE").execute(&mut *tx).await?;
    let now = models::list(&mut *tx).await?;
    let known = |new: &IndexModel| models.iter().any(|old| old.slug == new.slug && old.state.is_maintained());
    let added = now.iter().any(|new| new.state.is_maintained() && !known(new));
    let before = models.iter().find(|old| old.slug == *model);
    if before.is_some_and(|old| now.iter().any(|new| new.slug == *model && new.index_id != old.index_id)) {
        return Ok(Recorded::IndexReplaced);
    }
    let outcome = if added { Recorded::ModelAdded } else { Recorded::Yes };
    // The records of a collection that is being dropped are deleted already.
    if !now.iter().any(|new| new.slug == *model && new.state != ModelState::Dropping) {
        return Ok(outcome);
    }
    let (deleted, written): (Vec<&Record>, Vec<&Record>) =
        records.iter().partition(|r| r.point_ids.is_empty());
    if !written.is_empty() {
        sqlx::query(
            "/* sessions.record */
             INSERT INTO indexed_sessions AS i
                    (session_id, model, point_revision, indexed_revision, content_hash, point_ids)
             SELECT s.id, $7, u.point_revision, u.revision,
                    CASE WHEN s.revision = u.revision THEN u.content_hash END, u.point_ids::uuid[]
             FROM UNNEST($1::bigint[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bytea[], $6::text[])
                  AS u (guild_id, id, revision, point_revision, content_hash, point_ids)
             JOIN sessions s ON s.id = u.id AND s.guild_id = u.guild_id AND s.deleted_at IS NULL
                  AND (s.revision = u.revision OR u.point_revision = u.revision
                       AND u.revision BETWEEN s.last_removal_revision AND s.revision)
             ORDER BY s.id FOR SHARE OF s
             ON CONFLICT (session_id, model) DO UPDATE
             SET point_revision = excluded.point_revision, indexed_revision = excluded.indexed_revision,
                 content_hash = excluded.content_hash, point_ids = excluded.point_ids
             WHERE excluded.content_hash IS NOT NULL OR i.indexed_revision < excluded.indexed_revision",
        )
        .bind(written.iter().map(|r| r.guild_id).collect::<Vec<_>>())
        .bind(written.iter().map(|r| r.session_id).collect::<Vec<_>>())
        .bind(written.iter().map(|r| r.revision).collect::<Vec<_>>())
        .bind(written.iter().map(|r| r.point_revision).collect::<Vec<_>>())
        .bind(written.iter().map(|r| r.content_hash.as_slice()).collect::<Vec<_>>())
        .bind(written.iter().map(|r| array_literal(&r.point_ids)).collect::<Vec<_>>())
        .bind(model)
        .execute(&mut *tx)
        .await?;
    }
    if !deleted.is_empty() {
        sqlx::query(
            "/* sessions.record_deleted */
             DELETE FROM indexed_sessions i
             USING UNNEST($1::bigint[], $2::uuid[], $3::bigint[]) AS u (guild_id, id, revision)
             JOIN sessions s ON s.id = u.id AND s.guild_id = u.guild_id AND s.revision = u.revision
             WHERE i.session_id = s.id AND i.model = $4",
        )
        .bind(deleted.iter().map(|r| r.guild_id).collect::<Vec<_>>())
        .bind(deleted.iter().map(|r| r.session_id).collect::<Vec<_>>())
        .bind(deleted.iter().map(|r| r.revision).collect::<Vec<_>>())
        .bind(model)
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(outcome)
}

/// Returns the sessions that changed since they were read, each with the lowest revision whose points are
/// still of use: the recorded points' revision, or the session's own if nothing is recorded.
pub async fn superseded(
    pool: &PgPool,
    read: &[(GuildId, SessionId, Revision)],
    model: &ModelSlug,
) -> Result<Vec<(GuildId, SessionId, Revision)>, StoreError> {
    if read.is_empty() {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_as(
        "/* sessions.superseded */
         SELECT s.guild_id, s.id, coalesce(i.point_revision, s.revision)
         FROM UNNEST($1::bigint[], $2::uuid[], $3::bigint[]) AS u (guild_id, id, revision)
         JOIN sessions s ON s.id = u.id AND s.guild_id = u.guild_id AND s.revision > u.revision
         LEFT JOIN indexed_sessions i ON i.session_id = s.id AND i.model = $4",
    )
    .bind(read.iter().map(|(guild, ..)| *guild).collect::<Vec<_>>())
    .bind(read.iter().map(|(_, session, _)| *session).collect::<Vec<_>>())
    .bind(read.iter().map(|(.., revision)| *revision).collect::<Vec<_>>())
    .bind(model)
    .fetch_all(pool)
    .await?)
}
