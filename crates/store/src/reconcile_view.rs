//! Sessions beside their records, as verification compares them with a collection.

use guildex_types::{
    ChannelId, Eligibility, GuildId, Job, MessageId, ModelSlug, PointId, Revision, SessionId, Task,
};
use sqlx::{FromRow, PgPool};

use crate::StoreError;
use crate::indexed_sessions::IndexedSession;
use crate::sql::unsigned;

/// State of a session id in a guild.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionState {
    /// Session id.
    pub session_id: SessionId,
    /// Result of the lookup.
    pub lookup: Lookup,
    /// Whether an unfinished job may change the session's points.
    pub is_busy: bool,
}

/// Result of looking up a session id in a guild.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// A session or tombstone of the guild.
    Found(FoundSession),
    /// A session of another guild.
    OtherGuild,
    /// No session.
    NotFound,
}

/// A session of the guild.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundSession {
    /// Channel or thread.
    pub channel_id: ChannelId,
    /// First message, which names the session.
    pub first_message_id: MessageId,
    /// Latest revision.
    pub revision: Revision,
    /// Whether the session is live, and not a tombstone.
    pub is_live: bool,
    /// Whether the session is live and to be indexed.
    pub is_eligible: bool,
    /// Record of the model's collection, if the session is in it.
    pub indexed: Option<IndexedSession>,
}

/// Looks up sessions, and returns their states in the given order. All are read by one statement.
pub async fn lookup(
    pool: &PgPool,
    guild: GuildId,
    model: &ModelSlug,
    eligible: Eligibility,
    sessions: &[SessionId],
) -> Result<Vec<SessionState>, StoreError> {
    let key = |session: &SessionId| {
        Job { guild_id: guild, task: Task::IndexSession { session_id: *session } }.dedup_key()
    };
    let rows: Vec<Row> = sqlx::query_as(
        // A running backfill of the channel enqueues the sessions whose records are missing or outdated.
        "SELECT u.id AS session_id, s.channel_id, s.first_message_id, s.revision, s.deleted_at IS NULL AS is_live,
                s.deleted_at IS NULL AND is_eligible(s.message_count, s.word_count, $5, $6) AS is_eligible,
                i.point_revision, i.indexed_revision, i.content_hash, i.point_ids,
                s.id IS NULL AND EXISTS (SELECT FROM sessions o WHERE o.id = u.id) AS is_in_other_guild,
                EXISTS (SELECT FROM jobs j WHERE j.dedup_key = u.key AND is_unfinished(j.state))
                OR (i.indexed_revision IS DISTINCT FROM s.revision AND EXISTS (
                    SELECT FROM jobs j WHERE j.dedup_key = 'backfill/' || s.guild_id || '/' || s.channel_id
                    AND is_unfinished(j.state))) AS is_busy
         FROM UNNEST($3::uuid[], $4::text[]) WITH ORDINALITY AS u (id, key, number)
         LEFT JOIN sessions s ON s.id = u.id AND s.guild_id = $1
         LEFT JOIN indexed_sessions i ON i.session_id = s.id AND i.model = $2
         ORDER BY u.number",
    )
    .bind(guild)
    .bind(model)
    .bind(sessions)
    .bind(sessions.iter().map(key).collect::<Vec<_>>())
    .bind(i64::from(eligible.min_messages))
    .bind(i64::from(eligible.lone_message_min_words))
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(SessionState::from).collect())
}

#[derive(FromRow)]
struct Row {
    session_id: SessionId,
    channel_id: Option<ChannelId>,
    first_message_id: Option<MessageId>,
    revision: Option<Revision>,
    is_live: bool,
    is_eligible: Option<bool>,
    point_revision: Option<Revision>,
    indexed_revision: Option<Revision>,
    content_hash: Option<Vec<u8>>,
    point_ids: Option<Vec<PointId>>,
    is_in_other_guild: bool,
    is_busy: bool,
}

impl From<Row> for SessionState {
    fn from(row: Row) -> Self {
        let lookup = match (row.channel_id, row.first_message_id, row.revision) {
            (Some(channel_id), Some(first_message_id), Some(revision)) => Lookup::Found(FoundSession {
                channel_id,
                first_message_id,
                revision,
                is_live: row.is_live,
                is_eligible: row.is_eligible.unwrap_or(false),
                indexed: row.indexed(),
            }),
            _ if row.is_in_other_guild => Lookup::OtherGuild,
            _ => Lookup::NotFound,
        };
        Self { session_id: row.session_id, lookup, is_busy: row.is_busy }
    }
}

impl Row {
    fn indexed(&self) -> Option<IndexedSession> {
        Some(IndexedSession {
            session_id: self.session_id,
            point_revision: self.point_revision?,
            indexed_revision: self.indexed_revision?,
            content_hash: self.content_hash.clone(),
            point_ids: self.point_ids.clone()?,
        })
    }
}

/// Position of a session in a guild: its channel and first message.
pub type Position = (ChannelId, MessageId);

/// Returns up to `limit` of the guild's live sessions in order, after `after`.
pub async fn live(
    pool: &PgPool,
    guild: GuildId,
    after: Option<Position>,
    limit: i64,
) -> Result<Vec<(Position, SessionId)>, StoreError> {
    let (channel, first) = after.map_or((0, 0), |(channel, first)| (channel.get(), first.get()));
    let rows: Vec<(ChannelId, MessageId, SessionId)> = sqlx::query_as(
        "SELECT channel_id, first_message_id, id FROM sessions
         WHERE guild_id = $1 AND (channel_id, first_message_id) > ($2, $3) AND deleted_at IS NULL
         ORDER BY channel_id, first_message_id LIMIT $4",
    )
    .bind(guild)
    .bind(channel)
    .bind(first)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|(channel, first, id)| ((channel, first), id)).collect())
}

/// Counts the guild's live sessions.
pub async fn count_live(pool: &PgPool, guild: GuildId) -> Result<u64, StoreError> {
    let count =
        sqlx::query_scalar("SELECT count(*) FROM sessions WHERE guild_id = $1 AND deleted_at IS NULL")
            .bind(guild)
            .fetch_one(pool)
            .await?;
    Ok(unsigned(count))
}
