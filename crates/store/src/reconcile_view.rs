//! How sessions stand: what a comparison of a collection with the truth goes by.

use guildex_types::{
    ChannelId, Eligibility, GuildId, Job, MessageId, ModelSlug, PointId, Revision, SessionId, Task,
};
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use crate::StoreError;
use crate::indexed_sessions::IndexedSession;

/// A session id, and what the guild knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionState {
    /// The session.
    pub session_id: SessionId,
    /// Where it is.
    pub lookup: Lookup,
    /// Whether a job for it is not finished: what is not in step may be on its way.
    pub is_busy: bool,
}

/// Where a session is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// In the guild, live or as a tombstone.
    Found(FoundSession),
    /// In another guild.
    OtherGuild,
    /// Nowhere.
    NotFound,
}

/// A session of the guild.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundSession {
    /// Its channel or thread.
    pub channel_id: ChannelId,
    /// The message that names it.
    pub first_message_id: MessageId,
    /// Its latest state.
    pub revision: Revision,
    /// Whether it is more than a tombstone.
    pub is_live: bool,
    /// Whether it is live and worth a place in the index.
    pub is_eligible: bool,
    /// What the model's collection holds of it, as far as the books know.
    pub indexed: Option<IndexedSession>,
}

/// How sessions stand with a guild and a model's collection, in the order in which they are named, each at one moment.
///
/// # Errors
/// If Postgres fails.
pub async fn lookup(
    pool: &PgPool,
    guild: GuildId,
    model: &ModelSlug,
    eligible: Eligibility,
    sessions: &[SessionId],
) -> Result<Vec<SessionState>, StoreError> {
    let key = |session: &SessionId| {
        Job { guild_id: guild, task: Task::IndexSession { session_id: *session } }
            .dedup_key()
            .unwrap_or_default()
    };
    let rows: Vec<Row> = sqlx::query_as(
        // A backfill asks for what the books lack, once it gets there.
        "SELECT u.id, s.channel_id, s.first_message_id, s.revision, s.deleted_at IS NULL AS is_live,
                s.deleted_at IS NULL AND is_eligible(s.message_count, s.word_count, $5, $6) AS is_eligible,
                i.point_revision, i.indexed_revision, i.content_hash, i.point_ids,
                s.id IS NULL AND EXISTS (SELECT FROM sessions o WHERE o.id = u.id) AS is_elsewhere,
                EXISTS (SELECT FROM jobs j WHERE j.dedup_key = u.key AND j.state IN ('pending', 'queued', 'running'))
                OR (i.indexed_revision IS DISTINCT FROM s.revision AND EXISTS (
                    SELECT FROM jobs j WHERE j.dedup_key = 'backfill/' || s.guild_id || '/' || s.channel_id
                    AND j.state IN ('pending', 'queued', 'running'))) AS is_busy
         FROM UNNEST($3::uuid[], $4::text[]) WITH ORDINALITY AS u (id, key, number)
         LEFT JOIN sessions s ON s.id = u.id AND s.guild_id = $1
         LEFT JOIN indexed_sessions i ON i.session_id = s.id AND i.model = $2
         ORDER BY u.number",
    )
    .bind(guild.get())
    .bind(model.as_str())
    .bind(sessions.iter().map(|session| session.get()).collect::<Vec<_>>())
    .bind(sessions.iter().map(key).collect::<Vec<_>>())
    .bind(i64::from(eligible.min_messages))
    .bind(i64::from(eligible.lone_message_min_words))
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(Row::read).collect()
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    channel_id: Option<i64>,
    first_message_id: Option<i64>,
    revision: Option<i64>,
    is_live: bool,
    is_eligible: Option<bool>,
    point_revision: Option<i64>,
    indexed_revision: Option<i64>,
    content_hash: Option<Vec<u8>>,
    point_ids: Option<Vec<PointId>>,
    is_elsewhere: bool,
    is_busy: bool,
}

impl Row {
    fn read(self) -> Result<SessionState, StoreError> {
        let session_id = self.id.into();
        let lookup = match (self.channel_id, self.first_message_id, self.revision) {
            (Some(channel), Some(first), Some(revision)) => Lookup::Found(FoundSession {
                channel_id: channel.try_into()?,
                first_message_id: first.try_into()?,
                revision: revision.into(),
                is_live: self.is_live,
                is_eligible: self.is_eligible.unwrap_or(false),
                indexed: self.book(session_id),
            }),
            _ if self.is_elsewhere => Lookup::OtherGuild,
            _ => Lookup::NotFound,
        };
        Ok(SessionState { session_id, lookup, is_busy: self.is_busy })
    }

    fn book(&self, session_id: SessionId) -> Option<IndexedSession> {
        Some(IndexedSession {
            session_id,
            point_revision: self.point_revision?.into(),
            indexed_revision: self.indexed_revision?.into(),
            content_hash: self.content_hash.clone(),
            point_ids: self.point_ids.clone()?,
        })
    }
}

/// Where a session stands in the order of a guild's: by channel, then by the message that names it.
pub type Position = (ChannelId, MessageId);

/// The guild's live sessions in their order, from the one behind `after` on; at most `limit`.
///
/// # Errors
/// If Postgres fails.
pub async fn live(
    pool: &PgPool,
    guild: GuildId,
    after: Option<Position>,
    limit: i64,
) -> Result<Vec<(Position, SessionId)>, StoreError> {
    let (channel, first) = after.map_or((0, 0), |(channel, first)| (channel.get(), first.get()));
    let rows: Vec<(i64, i64, Uuid)> = sqlx::query_as(
        "SELECT channel_id, first_message_id, id FROM sessions
         WHERE guild_id = $1 AND (channel_id, first_message_id) > ($2, $3) AND deleted_at IS NULL
         ORDER BY channel_id, first_message_id LIMIT $4",
    )
    .bind(guild.get())
    .bind(channel)
    .bind(first)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|(channel, first, id)| Ok(((channel.try_into()?, first.try_into()?), id.into())))
        .collect()
}

/// How many live sessions the guild has.
///
/// # Errors
/// If Postgres fails.
pub async fn count_live(pool: &PgPool, guild: GuildId) -> Result<u64, StoreError> {
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sessions WHERE guild_id = $1 AND deleted_at IS NULL")
            .bind(guild.get())
            .fetch_one(pool)
            .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// How many jobs about sessions are not finished of those that were asked for before a revision was drawn, of one guild
/// or of all.
///
/// # Errors
/// If Postgres fails.
pub async fn unfinished_before(
    pool: &PgPool,
    guild: Option<GuildId>,
    revision: Revision,
) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM jobs WHERE state IN ('pending', 'queued', 'running')
         AND kind IN ('index_session', 'delete_session') AND target_revision < $2
         AND ($1::bigint IS NULL OR guild_id = $1)",
    )
    .bind(guild.map(GuildId::get))
    .bind(revision.get())
    .fetch_one(pool)
    .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}
