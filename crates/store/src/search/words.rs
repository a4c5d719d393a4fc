use std::time::Duration;

use chrono::{DateTime, Utc};
use guildex_types::{ChannelId, GuildId, MessageId, SessionId, UserId};
use sqlx::{FromRow, PgConnection, PgPool};

use crate::StoreError;

/// Maximum number of messages to rank, latest first. When any word may match, words with more matches are
/// ignored.
const MAX_RANKED: i64 = 5_000;

/// A full-text query.
#[derive(Clone, Copy)]
pub struct Words<'a> {
    /// Tenant.
    pub guild: GuildId,
    /// Channels and threads to search; `None` for all of the guild's.
    pub channels: Option<&'a [ChannelId]>,
    /// Restricts to sessions with messages of any of these members.
    pub authors: Option<&'a [UserId]>,
    /// Restricts to sessions whose last message was sent at or after this time.
    pub since: Option<DateTime<Utc>>,
    /// Restricts to sessions whose first message was sent before this time.
    pub until: Option<DateTime<Utc>>,
    /// Query in web search syntax: `"a phrase"`, `or`, `-without`. Private: must not be logged.
    pub text: &'a str,
}

/// A matching session.
#[derive(Debug, Clone, Copy, PartialEq, FromRow)]
pub struct Match {
    /// Session.
    pub session_id: SessionId,
    /// Best matching message.
    pub message_id: MessageId,
    /// Postgres' cover density rank of that message: the number of matching words, and their proximity.
    pub score: f32,
}

/// Returns the `limit` best live sessions with a message that contains all words or, if there is none, any of
/// them. Ordered by rank, then latest first. If more than 5,000 messages match, the latest are ranked. The
/// statements time out after
/// `timeout`, whether or not the caller still waits.
pub async fn by_words(
    pool: &PgPool,
    words: Words<'_>,
    limit: u32,
    timeout: Duration,
) -> Result<Vec<Match>, StoreError> {
    let mut tx = pool.begin().await?;
    sqlx::query("SELECT set_config('statement_timeout', $1, true)")
        .bind(timeout.as_millis().max(1).to_string())
        .execute(&mut *tx)
        .await?;
    let mut found = match all_of(&mut tx, words.text).await? {
        Some(query) => matches(&mut tx, words, &query, limit).await?,
        // Without words the query would match the guild's lexeme alone, and so all of the guild.
        None => return Ok(Vec::new()),
    };
    if found.is_empty()
        && let Some(query) = any_of(&mut tx, words.guild, words.text).await?
    {
        found = matches(&mut tx, words, &query, limit).await?;
    }
    tx.commit().await?;
    Ok(found)
}

/// Returns a query for all words in Postgres' syntax, or `None` if there are none.
async fn all_of(db: &mut PgConnection, text: &str) -> Result<Option<String>, StoreError> {
    let query: Option<String> = sqlx::query_scalar(
        "SELECT query::text FROM websearch_to_tsquery('simple', $1) query WHERE numnode(query) > 0",
    )
    .bind(text)
    .fetch_optional(db)
    .await?;
    Ok(query)
}

/// Returns a query for any of the words except frequent ones, which would read many messages and find little.
/// Frequencies are Postgres' statistics of the guild's partition. The rarest word is always included.
async fn any_of(db: &mut PgConnection, guild: GuildId, text: &str) -> Result<Option<String>, StoreError> {
    let query: Option<String> = sqlx::query_scalar(
        "WITH frequent AS (
             SELECT common.lexeme, common.share * words.reltuples AS messages
             FROM pg_inherits part
             JOIN pg_index ON pg_index.indexrelid = part.inhrelid
             JOIN pg_class words ON words.oid = part.inhrelid
             JOIN pg_stats ON tablename = words.relname AND schemaname = words.relnamespace::regnamespace::text
             CROSS JOIN ROWS FROM (unnest(most_common_elems::text::text[]), unnest(most_common_elem_freqs))
                  AS common (lexeme, share)
             WHERE part.inhparent = to_regclass('messages_words')
               AND pg_index.indrelid = (SELECT tableoid FROM messages WHERE guild_id = $3 LIMIT 1)),
         query AS (
             SELECT lexeme, coalesce(messages, 0) AS messages, min(coalesce(messages, 0)) OVER () AS rarest
             FROM unnest(to_tsvector('simple', $1)) LEFT JOIN frequent USING (lexeme))
         SELECT replace(plainto_tsquery('simple', string_agg(lexeme, ' '))::text, ' & ', ' | ')
         FROM query WHERE messages <= greatest(rarest, $2)",
    )
    .bind(text)
    .bind(MAX_RANKED)
    .bind(guild)
    .fetch_one(db)
    .await?;
    Ok(query.filter(|query| !query.is_empty()))
}

async fn matches(
    db: &mut PgConnection,
    words: Words<'_>,
    query: &str,
    limit: u32,
) -> Result<Vec<Match>, StoreError> {
    Ok(sqlx::query_as(
        "/* search.by_words */
         SELECT id AS session_id, message_id, score FROM (
             SELECT DISTINCT ON (id) id, ended_at, message_id,
                    ts_rank_cd(to_tsvector('simple', text), $2::text::tsquery) AS score
             FROM (
                 SELECT s.id, s.ended_at, m.id AS message_id, m.sent_at, m.text
                 FROM messages m
                 JOIN sessions s ON s.guild_id = m.guild_id AND s.channel_id = m.channel_id
                      AND s.first_message_id = m.first_message_id AND s.deleted_at IS NULL
                 WHERE m.guild_id = $1 AND m.first_message_id IS NOT NULL AND m.deleted_at IS NULL AND m.excluded_reason IS NULL
                   AND to_tsvector('simple', m.text) || array_to_tsvector(ARRAY['guild ' || m.guild_id::text])
                       @@ (quote_literal('guild ' || $1::text)::tsquery && $2::text::tsquery)
                   AND ($3::bigint[] IS NULL OR m.channel_id = ANY($3))
                   AND ($4::bigint[] IS NULL OR EXISTS (
                       SELECT FROM messages a
                       WHERE a.guild_id = s.guild_id AND a.channel_id = s.channel_id
                         AND a.first_message_id = s.first_message_id AND a.deleted_at IS NULL AND a.text <> ''
                         AND a.author_id = ANY($4)))
                   AND ($5::timestamptz IS NULL OR s.ended_at >= $5)
                   AND ($6::timestamptz IS NULL OR s.started_at < $6)
                 ORDER BY m.sent_at DESC, m.id DESC, s.id LIMIT $8) latest
             ORDER BY id, score DESC, sent_at, message_id) best
         ORDER BY score DESC, ended_at DESC, id LIMIT $7",
    )
    .bind(words.guild)
    .bind(query)
    .bind(words.channels)
    .bind(words.authors)
    .bind(words.since)
    .bind(words.until)
    .bind(i64::from(limit))
    .bind(MAX_RANKED)
    .fetch_all(db)
    .await?)
}
