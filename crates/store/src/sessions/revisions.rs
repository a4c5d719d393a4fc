use guildex_types::{ChannelId, GuildId, MessageId, Revision, SessionId};
use sqlx::{FromRow, PgConnection};

use crate::StoreError;

/// Locks sessions of several channels until the transaction ends, in the order that all statements use. Call
/// it before [`bump_revisions`] for one channel after the other.
pub async fn lock(tx: &mut PgConnection, guild: GuildId, sessions: &[SessionId]) -> Result<(), StoreError> {
    sqlx::query("SELECT FROM sessions WHERE guild_id = $1 AND id = ANY($2) ORDER BY id FOR UPDATE")
        .bind(guild)
        .bind(sessions)
        .execute(tx)
        .await?;
    Ok(())
}

/// A change of a session: its size before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed {
    /// Session id.
    pub id: SessionId,
    /// Revision of this change.
    pub revision: Revision,
    /// Live messages and words before the change; `(0, 0)` for a new session.
    pub before: (u32, u32),
    /// Live messages and words after the change; `(0, 0)` if it is a tombstone now.
    pub now: (u32, u32),
}

/// Maximum number of sessions whose messages are looked up by name.
const MAX_LOOKUPS: usize = 16;

/// The statement of [`bump_revisions`], with a further condition for the messages that it reads.
///
/// Sessions are read as one range of their channel, since those of an import's page are adjacent. If they
/// were looked up by name, Postgres would scan a whole channel that it has no statistics of, once or for each
/// name.
macro_rules! bump_revisions {
    ($condition:literal) => {
        // CTEs do not see each other's changes, but lose rows that another one changed before they lock them:
        // that
        // `written` reads `counted`, and `counted` reads `old`, orders them.
        concat!(
            "/* sessions.bump_revisions */
             WITH old AS (
                 SELECT id, message_count, word_count FROM sessions
                 WHERE guild_id = $1 AND id = ANY($3) ORDER BY id FOR UPDATE),
             live AS MATERIALIZED (
                 SELECT first_message_id AS first, count(*)::int AS messages, sum(words)::int AS words,
                        min(sent_at) AS started_at, max(sent_at) AS ended_at
                 FROM messages
                 WHERE guild_id = $1 AND channel_id = $2 AND first_message_id BETWEEN $6 AND $7
                       AND deleted_at IS NULL AND text <> '' ",
            $condition,
            "
                 GROUP BY first_message_id),
             counted AS (
                 SELECT u.id, u.first, u.removed, coalesce(live.messages, 0) AS messages,
                        coalesce(live.words, 0) AS words, live.started_at, live.ended_at,
                        coalesce(old.message_count, 0) AS old_messages, coalesce(old.word_count, 0) AS old_words,
                        nextval('session_revisions') AS revision
                 FROM UNNEST($3::uuid[], $4::bigint[], $5::bool[]) AS u (id, first, removed)
                 LEFT JOIN old ON old.id = u.id
                 LEFT JOIN live ON live.first = u.first),
             written AS (
                 INSERT INTO sessions AS s (id, guild_id, channel_id, first_message_id, revision, last_removal_revision,
                                            message_count, word_count, started_at, ended_at, deleted_at)
                 SELECT id, $1, $2, first, revision, CASE WHEN removed THEN revision ELSE 0 END,
                        messages, words, started_at, ended_at, CASE WHEN messages = 0 THEN now() END
                 FROM counted
                 ON CONFLICT (id) DO UPDATE
                 SET revision = excluded.revision,
                     last_removal_revision = greatest(s.last_removal_revision, excluded.last_removal_revision),
                     message_count = excluded.message_count, word_count = excluded.word_count,
                     started_at = excluded.started_at, ended_at = excluded.ended_at,
                     deleted_at = excluded.deleted_at
                 RETURNING id, revision, message_count, word_count)
             SELECT w.id, w.revision, w.message_count, w.word_count, c.old_messages, c.old_words
             FROM written w JOIN counted c ON c.id = w.id"
        )
    };
}

/// Gives sessions of one channel a new revision and recounts their messages. A session without live messages
/// becomes a tombstone. The rows stay locked until the transaction ends.
///
/// `sessions` pairs the first message of each session with whether a message was removed from it or edited. No session may
/// occur twice.
pub async fn bump_revisions(
    tx: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
    sessions: &[(MessageId, bool)],
) -> Result<Vec<Changed>, StoreError> {
    let ids: Vec<SessionId> =
        sessions.iter().map(|(first, _)| SessionId::new(guild, channel, *first)).collect();
    let (firsts, removed): (Vec<MessageId>, Vec<bool>) = sessions.iter().copied().unzip();
    let (lowest, highest) = (firsts.iter().min().copied(), firsts.iter().max().copied());
    let statement = match sessions.len() {
        // Few sessions may lie far apart in the channel.
        ..=MAX_LOOKUPS => bump_revisions!("AND first_message_id = ANY($4)"),
        _ => bump_revisions!(""),
    };
    let rows: Vec<ChangedRow> = sqlx::query_as(statement)
        .bind(guild)
        .bind(channel)
        .bind(ids)
        .bind(firsts)
        .bind(removed)
        .bind(lowest)
        .bind(highest)
        .fetch_all(tx)
        .await?;
    Ok(rows.into_iter().map(Changed::from).collect())
}

#[derive(FromRow)]
struct ChangedRow {
    id: SessionId,
    revision: Revision,
    #[sqlx(try_from = "i32")]
    message_count: u32,
    #[sqlx(try_from = "i32")]
    word_count: u32,
    #[sqlx(try_from = "i32")]
    old_messages: u32,
    #[sqlx(try_from = "i32")]
    old_words: u32,
}

impl From<ChangedRow> for Changed {
    fn from(row: ChangedRow) -> Self {
        Self {
            id: row.id,
            revision: row.revision,
            before: (row.old_messages, row.old_words),
            now: (row.message_count, row.word_count),
        }
    }
}

/// Draws the next revision, higher than all before.
pub async fn next_revision(db: &mut PgConnection) -> Result<Revision, StoreError> {
    Ok(sqlx::query_scalar("SELECT nextval('session_revisions')").fetch_one(db).await?)
}

/// Highest revision that [`raise_sequence_above`] accepts. Beyond it the sequence would run out.
pub const MAX_REVISION: i64 = 1 << 62;

/// Distance that the sequence is raised by: more than concurrent transactions draw meanwhile.
const RAISE_BY: i64 = 1_000_000;

/// Raises the revision sequence above a revision that a collection holds, of at most [`MAX_REVISION`], and
/// returns the next revision. A database that was restored from an older backup would otherwise repeat
/// revisions.
pub async fn raise_sequence_above(db: &mut PgConnection, found: Revision) -> Result<Revision, StoreError> {
    let next = next_revision(db).await?;
    if next > found {
        return Ok(next);
    }
    Ok(sqlx::query_scalar("SELECT setval('session_revisions', $1)")
        .bind(found.get().min(MAX_REVISION).saturating_add(RAISE_BY))
        .fetch_one(db)
        .await?)
}
