//! Sessions: their revisions, and what the indexer reads and records.

use chrono::{DateTime, Utc};
use guildex_types::{
    ChannelId, Eligibility, GuildId, MessageId, ModelSlug, PointId, Revision, SearchText, SessionId, UserId,
};
use sqlx::{FromRow, PgConnection, PgPool};
use uuid::Uuid;

use crate::StoreError;
use crate::indexed_sessions::array_literal;
use crate::models::{IndexModel, ModelState, list};

/// Locks sessions of several channels until the transaction ends, in the order in which everybody does: for those
/// who are going to [`bump_revisions`] them channel by channel.
///
/// # Errors
/// If Postgres fails.
pub async fn lock(tx: &mut PgConnection, guild: GuildId, sessions: &[SessionId]) -> Result<(), StoreError> {
    sqlx::query("SELECT FROM sessions WHERE guild_id = $1 AND id = ANY($2) ORDER BY id FOR UPDATE")
        .bind(guild.get())
        .bind(sessions.iter().map(|session| session.get()).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

/// A change to a session: what was there before and what is there now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed {
    /// The session.
    pub id: SessionId,
    /// The revision that this change gave it.
    pub revision: Revision,
    /// Live messages and words before the change; `(0, 0)` for a new session.
    pub before: (u32, u32),
    /// Live messages and words now; `(0, 0)` makes it a tombstone.
    pub now: (u32, u32),
}

/// Up to so many sessions are looked up by name.
const FEW: usize = 16;

/// What [`bump_revisions`] does, with a further condition for the messages that it reads.
///
/// Sessions are read as one stretch of their channel: those of a page of an import stand side by side. Looked up by
/// their names, all of a channel that Postgres' statistics do not know yet would be read, once or for each name.
macro_rules! touching {
    ($condition:literal) => {
        // Parts of one statement do not see each other's changes, but they do lose rows that another part has
        // changed before they lock them: that `written` reads `counted`, and this `old`, puts them in order.
        concat!(
            "WITH old AS (
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

/// Gives sessions of one channel a new revision and counts them anew from their messages. A session without
/// live messages becomes a tombstone. The rows stay locked until the transaction ends.
///
/// `touched` pairs a session's first message with whether anything was taken from it or rewritten in it; each
/// session stands in it once.
///
/// # Errors
/// If Postgres fails.
pub async fn bump_revisions(
    tx: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
    touched: &[(MessageId, bool)],
) -> Result<Vec<Changed>, StoreError> {
    let ids: Vec<Uuid> =
        touched.iter().map(|(first, _)| SessionId::new(guild, channel, *first).get()).collect();
    let (firsts, removed): (Vec<i64>, Vec<bool>) = touched.iter().map(|(m, r)| (m.get(), *r)).unzip();
    let (lowest, highest) = (firsts.iter().min().copied(), firsts.iter().max().copied());
    let statement = match touched.len() {
        // They may lie far apart.
        ..=FEW => touching!("AND first_message_id = ANY($4)"),
        _ => touching!(""),
    };
    let rows: Vec<ChangedRow> = sqlx::query_as(statement)
        .bind(guild.get())
        .bind(channel.get())
        .bind(ids)
        .bind(firsts)
        .bind(removed)
        .bind(lowest)
        .bind(highest)
        .fetch_all(tx)
        .await?;
    Ok(rows.into_iter().map(ChangedRow::read).collect())
}

#[derive(FromRow)]
struct ChangedRow {
    id: Uuid,
    revision: i64,
    message_count: i32,
    word_count: i32,
    old_messages: i32,
    old_words: i32,
}

impl ChangedRow {
    fn read(self) -> Changed {
        Changed {
            id: self.id.into(),
            revision: self.revision.into(),
            before: (count(self.old_messages), count(self.old_words)),
            now: (count(self.message_count), count(self.word_count)),
        }
    }
}

fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

/// A session as it is now, with all that an index job needs.
#[derive(Debug, Clone)]
pub struct Session {
    /// The session.
    pub id: SessionId,
    /// Its tenant.
    pub guild_id: GuildId,
    /// Its channel or thread.
    pub channel_id: ChannelId,
    /// The channel's name.
    pub channel_name: String,
    /// The language of the guild's words, if it has one.
    pub language: Option<String>,
    /// The message that names it.
    pub first_message_id: MessageId,
    /// The state that was read.
    pub revision: Revision,
    /// The live messages with text, in order. None: the session is a tombstone.
    pub messages: Vec<SessionMessage>,
    /// What the model's collection holds of it, if anything.
    pub indexed: Option<Indexed>,
}

/// A message as it stands in a session.
#[derive(Debug, Clone)]
pub struct SessionMessage {
    /// The message.
    pub id: MessageId,
    /// Who wrote it.
    pub author_id: UserId,
    /// By which name.
    pub author_name: String,
    /// When it was sent.
    pub sent_at: DateTime<Utc>,
    /// Its text.
    pub text: SearchText,
    /// Its words, by Unicode segmentation.
    pub words: u32,
}

/// What a model's collection holds of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Indexed {
    /// The revision that the points carry.
    pub point_revision: Revision,
    /// Of what the points were made from; `None` while points are being rewritten.
    pub content_hash: Option<Vec<u8>>,
    /// Ids of the points, one per chunk, in order.
    pub point_ids: Vec<PointId>,
}

/// Reads sessions as they are now, in one statement, so that revision and messages belong together. Sessions
/// that do not exist in the guild named are left out.
///
/// # Errors
/// If Postgres fails.
pub async fn load(
    pool: &PgPool,
    wanted: &[(GuildId, SessionId)],
    model: &ModelSlug,
) -> Result<Vec<Session>, StoreError> {
    let (guilds, ids): (Vec<i64>, Vec<Uuid>) = wanted.iter().map(|(g, s)| (g.get(), s.get())).unzip();
    let rows: Vec<LoadedRow> = sqlx::query_as(
        "SELECT s.id, s.guild_id, s.channel_id, c.name AS channel_name, g.language, s.first_message_id, s.revision,
                i.point_revision, i.content_hash, i.point_ids,
                m.id AS message_id, m.author_id, coalesce(m.webhook_name, n.name, m.author_id::text) AS author_name,
                m.sent_at, m.text, m.words
         FROM UNNEST($1::bigint[], $2::uuid[]) AS u (guild_id, id)
         JOIN sessions s ON s.id = u.id AND s.guild_id = u.guild_id
         JOIN channels c ON c.guild_id = s.guild_id AND c.id = s.channel_id
         JOIN guilds g ON g.id = s.guild_id
         LEFT JOIN indexed_sessions i ON i.session_id = s.id AND i.model = $3
         LEFT JOIN messages m ON m.guild_id = s.guild_id AND m.channel_id = s.channel_id
              AND m.first_message_id = s.first_message_id AND m.deleted_at IS NULL AND m.text <> ''
         LEFT JOIN users n ON n.guild_id = m.guild_id AND n.user_id = m.author_id
         ORDER BY s.id, m.sent_at, m.id",
    )
    .bind(guilds)
    .bind(ids)
    .bind(model.as_str())
    .fetch_all(pool)
    .await?;
    let mut sessions: Vec<Session> = Vec::with_capacity(wanted.len());
    for row in rows {
        if sessions.last().is_none_or(|last| last.id.get() != row.id) {
            sessions.push(row.session()?);
        }
        if let (Some(last), Some(message)) = (sessions.last_mut(), row.message()?) {
            last.messages.push(message);
        }
    }
    Ok(sessions)
}

#[derive(FromRow)]
struct LoadedRow {
    id: Uuid,
    guild_id: i64,
    channel_id: i64,
    channel_name: String,
    language: Option<String>,
    first_message_id: i64,
    revision: i64,
    point_revision: Option<i64>,
    content_hash: Option<Vec<u8>>,
    point_ids: Option<Vec<PointId>>,
    message_id: Option<i64>,
    author_id: Option<i64>,
    author_name: Option<String>,
    sent_at: Option<DateTime<Utc>>,
    text: Option<String>,
    words: Option<i32>,
}

impl LoadedRow {
    fn session(&self) -> Result<Session, StoreError> {
        Ok(Session {
            id: self.id.into(),
            guild_id: self.guild_id.try_into()?,
            channel_id: self.channel_id.try_into()?,
            channel_name: self.channel_name.clone(),
            language: self.language.clone(),
            first_message_id: self.first_message_id.try_into()?,
            revision: self.revision.into(),
            messages: Vec::new(),
            indexed: self.point_revision.map(|revision| Indexed {
                point_revision: revision.into(),
                content_hash: self.content_hash.clone(),
                point_ids: self.point_ids.clone().unwrap_or_default(),
            }),
        })
    }

    fn message(self) -> Result<Option<SessionMessage>, StoreError> {
        let (Some(id), Some(author_id), Some(author_name), Some(sent_at), Some(text)) =
            (self.message_id, self.author_id, self.author_name, self.sent_at, self.text)
        else {
            return Ok(None);
        };
        Ok(Some(SessionMessage {
            id: id.try_into()?,
            author_id: author_id.try_into()?,
            author_name,
            sent_at,
            text: SearchText::from_parts([text.as_str()]),
            words: count(self.words.unwrap_or(0)),
        }))
    }
}

/// Says that the points of sessions are about to change: until [`record`] is called, nothing is taken for
/// unchanged. Returns those that still are at the revision that was read; the others moved on, and their points
/// are not to be touched.
///
/// # Errors
/// If Postgres fails.
pub async fn begin_rewrite(
    pool: &PgPool,
    sessions: &[(GuildId, SessionId, Revision)],
    model: &ModelSlug,
) -> Result<Vec<SessionId>, StoreError> {
    if sessions.is_empty() {
        return Ok(Vec::new());
    }
    let current: Vec<Uuid> = sqlx::query_scalar(
        "WITH current AS (
             SELECT s.id FROM UNNEST($1::bigint[], $2::uuid[], $3::bigint[]) AS u (guild_id, id, revision)
             JOIN sessions s ON s.id = u.id AND s.guild_id = u.guild_id AND s.revision = u.revision
             ORDER BY s.id FOR SHARE OF s),
         cleared AS (
             UPDATE indexed_sessions i SET content_hash = NULL
             FROM current WHERE i.session_id = current.id AND i.model = $4)
         SELECT id FROM current",
    )
    .bind(sessions.iter().map(|(guild, ..)| guild.get()).collect::<Vec<_>>())
    .bind(sessions.iter().map(|(_, id, _)| id.get()).collect::<Vec<_>>())
    .bind(sessions.iter().map(|(.., revision)| revision.get()).collect::<Vec<_>>())
    .bind(model.as_str())
    .fetch_all(pool)
    .await?;
    Ok(current.into_iter().map(SessionId::from).collect())
}

/// What an index job did to a session, to be recorded.
#[derive(Debug, Clone)]
pub struct Record {
    /// The tenant.
    pub guild_id: GuildId,
    /// The session.
    pub session_id: SessionId,
    /// The revision that was read.
    pub revision: Revision,
    /// The revision that the points carry; lower than `revision` where the content had not changed.
    pub point_revision: Revision,
    /// Of what the points were made from.
    pub content_hash: Vec<u8>,
    /// Ids of the points, one per chunk, in order. Without points the session's record is deleted.
    pub point_ids: Vec<PointId>,
}

/// What [`record`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// The books know.
    Yes,
    /// The books know, but there is a model now that the work did not reckon with: it is to be done again, for all
    /// that there are.
    ModelAdded,
    /// The books know nothing of it: another index took the place of the one that was written, and it is to be done
    /// again for that.
    IndexReplaced,
}

/// Records what the model's collection holds, for each session that still is at the revision that was read. For one
/// that moved on but lost nothing, points that were written are recorded, too, without a hash: what they show is
/// right as far as it goes, so a session that never rests is found all the same, and the job that follows writes it
/// anew in any case. The others are left as they are. `models` are those that there were when the work began, as
/// [`models::list`](crate::models::list) gives them.
///
/// # Errors
/// If Postgres fails.
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
    // Held until the end: a switch of models waits for this, or this for it.
    sqlx::query("SELECT FROM models ORDER BY slug FOR SHARE").execute(&mut *tx).await?;
    let now = list(&mut *tx).await?;
    let known = |new: &IndexModel| models.iter().any(|old| old.slug == new.slug && old.state.is_maintained());
    let added = now.iter().any(|new| new.state.is_maintained() && !known(new));
    let before = models.iter().find(|kept| kept.slug == *model);
    if before.is_some_and(|old| now.iter().any(|new| new.slug == *model && new.index_id != old.index_id)) {
        return Ok(Recorded::IndexReplaced);
    }
    let outcome = if added { Recorded::ModelAdded } else { Recorded::Yes };
    // One that is being dropped has no books any more.
    if !now.iter().any(|kept| kept.slug == *model && kept.state != ModelState::Dropping) {
        return Ok(outcome);
    }
    let (gone, kept): (Vec<&Record>, Vec<&Record>) = records.iter().partition(|r| r.point_ids.is_empty());
    if !kept.is_empty() {
        sqlx::query(
            "INSERT INTO indexed_sessions AS i
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
        .bind(kept.iter().map(|r| r.guild_id.get()).collect::<Vec<_>>())
        .bind(kept.iter().map(|r| r.session_id.get()).collect::<Vec<_>>())
        .bind(kept.iter().map(|r| r.revision.get()).collect::<Vec<_>>())
        .bind(kept.iter().map(|r| r.point_revision.get()).collect::<Vec<_>>())
        .bind(kept.iter().map(|r| r.content_hash.as_slice()).collect::<Vec<_>>())
        .bind(kept.iter().map(|r| array_literal(&r.point_ids)).collect::<Vec<_>>())
        .bind(model.as_str())
        .execute(&mut *tx)
        .await?;
    }
    if !gone.is_empty() {
        sqlx::query(
            "DELETE FROM indexed_sessions i
             USING UNNEST($1::bigint[], $2::uuid[], $3::bigint[]) AS u (guild_id, id, revision)
             JOIN sessions s ON s.id = u.id AND s.guild_id = u.guild_id AND s.revision = u.revision
             WHERE i.session_id = s.id AND i.model = $4",
        )
        .bind(gone.iter().map(|r| r.guild_id.get()).collect::<Vec<_>>())
        .bind(gone.iter().map(|r| r.session_id.get()).collect::<Vec<_>>())
        .bind(gone.iter().map(|r| r.revision.get()).collect::<Vec<_>>())
        .bind(model.as_str())
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(outcome)
}

/// Those of the sessions that have moved on since they were read, each with the revision that points must have to be
/// worth anything: that of the points in the model's books, or the session's own where the books have none.
///
/// # Errors
/// If Postgres fails.
pub async fn superseded(
    pool: &PgPool,
    read: &[(GuildId, SessionId, Revision)],
    model: &ModelSlug,
) -> Result<Vec<(GuildId, SessionId, Revision)>, StoreError> {
    if read.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(i64, Uuid, i64)> = sqlx::query_as(
        "SELECT s.guild_id, s.id, coalesce(i.point_revision, s.revision)
         FROM UNNEST($1::bigint[], $2::uuid[], $3::bigint[]) AS u (guild_id, id, revision)
         JOIN sessions s ON s.id = u.id AND s.guild_id = u.guild_id AND s.revision > u.revision
         LEFT JOIN indexed_sessions i ON i.session_id = s.id AND i.model = $4",
    )
    .bind(read.iter().map(|(guild, ..)| guild.get()).collect::<Vec<_>>())
    .bind(read.iter().map(|(_, session, _)| session.get()).collect::<Vec<_>>())
    .bind(read.iter().map(|(.., revision)| revision.get()).collect::<Vec<_>>())
    .bind(model.as_str())
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|(guild, id, revision)| Ok((guild.try_into()?, id.into(), revision.into())))
        .collect()
}

/// Locks sessions that ought to be in the model's collection and are not, at their latest revision: up to `limit` of a
/// channel's, in the order of their first messages, from after `after` on. Returns each with its first message.
///
/// # Errors
/// If Postgres fails.
pub async fn missing(
    tx: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
    model: &ModelSlug,
    eligible: Eligibility,
    after: Option<MessageId>,
    limit: i64,
) -> Result<Vec<(MessageId, SessionId)>, StoreError> {
    let mut rows: Vec<(i64, Uuid)> = sqlx::query_as(
        // In the order of an index, so that a page costs what it holds; then locked in the order in which everybody
        // does, and looked at again.
        "WITH page AS (
             SELECT s.id FROM sessions s
             LEFT JOIN indexed_sessions i ON i.session_id = s.id AND i.model = $3
             WHERE s.guild_id = $1 AND s.channel_id = $2 AND s.first_message_id > $6 AND s.deleted_at IS NULL
               AND is_eligible(s.message_count, s.word_count, $4, $5)
               AND i.indexed_revision IS DISTINCT FROM s.revision
             ORDER BY s.first_message_id LIMIT $7)
         SELECT s.first_message_id, s.id FROM page JOIN sessions s USING (id)
         WHERE s.deleted_at IS NULL AND is_eligible(s.message_count, s.word_count, $4, $5)
         ORDER BY s.id FOR UPDATE OF s",
    )
    .bind(guild.get())
    .bind(channel.get())
    .bind(model.as_str())
    .bind(i64::from(eligible.min_messages))
    .bind(i64::from(eligible.lone_message_min_words))
    .bind(after.map_or(0, MessageId::get))
    .bind(limit)
    .fetch_all(tx)
    .await?;
    rows.sort_unstable();
    rows.into_iter().map(|(first, id)| Ok((first.try_into()?, id.into()))).collect()
}

/// The next number of the revisions' sequence, higher than all that were given.
///
/// # Errors
/// If Postgres fails.
pub async fn next_revision(db: &mut PgConnection) -> Result<Revision, StoreError> {
    let number: i64 = sqlx::query_scalar("SELECT nextval('session_revisions')").fetch_one(db).await?;
    Ok(number.into())
}

/// The highest revision that [`revision_above`] takes: beyond it there would be no numbers left.
pub const HIGHEST: i64 = 1 << 62;

/// Makes all revisions from now on higher than one that a collection holds, of at most [`HIGHEST`], and returns the
/// first of them: a database that was restored from an older copy would give numbers a second time.
///
/// # Errors
/// If Postgres fails.
pub async fn revision_above(db: &mut PgConnection, seen: Revision) -> Result<Revision, StoreError> {
    let next = next_revision(db).await?;
    if next > seen {
        return Ok(next);
    }
    // Others draw numbers at this moment; a leap is further than they get, so none of theirs is given again.
    let moved: i64 = sqlx::query_scalar("SELECT setval('session_revisions', $1)")
        .bind(seen.get().min(HIGHEST).saturating_add(1_000_000))
        .fetch_one(db)
        .await?;
    Ok(moved.into())
}
