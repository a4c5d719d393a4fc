//! Search by words in Postgres, for when there is no index to ask.

use std::time::Duration;

use chrono::{DateTime, Utc};
use guildex_types::{ChannelId, GuildId, MessageId, SessionId, UserId};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::numbers;
use crate::StoreError;

/// So many messages are ranked at most, the latest; a word that more hold is passed over where any word will do.
const MANY: i64 = 5_000;

/// What to look for, and where.
#[derive(Clone, Copy)]
pub struct Words<'a> {
    /// The tenant.
    pub guild: GuildId,
    /// The channels and threads to look in; `None` for all of the guild's.
    pub channels: Option<&'a [ChannelId]>,
    /// Sessions in which any of these members speaks; `None` for whoever speaks.
    pub authors: Option<&'a [UserId]>,
    /// Sessions whose last message was sent then or later.
    pub since: Option<DateTime<Utc>>,
    /// Sessions whose first message was sent before.
    pub until: Option<DateTime<Utc>>,
    /// The words, as in a web search: `"a phrase"`, `or`, `-without`. Private.
    pub text: &'a str,
}

/// A session in which somebody said the words.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match {
    /// The session.
    pub session_id: SessionId,
    /// Its message that fits best.
    pub message_id: MessageId,
    /// Postgres' cover density rank of that message: how many of the words it has, and how close together.
    pub score: f32,
}

/// The `limit` best live sessions of which a message holds all of the words; if none does, any of them. Best first,
/// then the latest; of more than 5,000 such messages the latest are looked at. Postgres gives up after `patience`, whether or not somebody still waits for the answer.
///
/// # Errors
/// If Postgres fails or gives up.
pub async fn by_words(
    pool: &PgPool,
    words: Words<'_>,
    limit: u32,
    patience: Duration,
) -> Result<Vec<Match>, StoreError> {
    let mut tx = pool.begin().await?;
    sqlx::query("SELECT set_config('statement_timeout', $1, true)")
        .bind(patience.as_millis().max(1).to_string())
        .execute(&mut *tx)
        .await?;
    let mut found = match all_of(&mut tx, words.text).await? {
        Some(asked) => matches(&mut tx, words, &asked, limit).await?,
        // Without a word nothing is found: joined with the guild's word, it would find all of the guild.
        None => return Ok(Vec::new()),
    };
    if found.is_empty()
        && let Some(asked) = any_of(&mut tx, words.guild, words.text).await?
    {
        found = matches(&mut tx, words, &asked, limit).await?;
    }
    tx.commit().await?;
    Ok(found)
}

/// The question for all of the words, as Postgres writes it; `None` if there are no words.
async fn all_of(db: &mut PgConnection, text: &str) -> Result<Option<String>, StoreError> {
    let asked: Option<String> = sqlx::query_scalar(
        "SELECT asked::text FROM websearch_to_tsquery('simple', $1) asked WHERE numnode(asked) > 0",
    )
    .bind(text)
    .fetch_optional(db)
    .await?;
    Ok(asked)
}

/// The question for any of the words but those that very many messages hold, by Postgres' statistics: to read all of
/// these would take too long and find too little. The rarest word counts in any case. The statistics are those of the
/// guild's partition.
async fn any_of(db: &mut PgConnection, guild: GuildId, text: &str) -> Result<Option<String>, StoreError> {
    let asked: Option<String> = sqlx::query_scalar(
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
         asked AS (
             SELECT lexeme, coalesce(messages, 0) AS messages, min(coalesce(messages, 0)) OVER () AS rarest
             FROM unnest(to_tsvector('simple', $1)) LEFT JOIN frequent USING (lexeme))
         SELECT replace(plainto_tsquery('simple', string_agg(lexeme, ' '))::text, ' & ', ' | ')
         FROM asked WHERE messages <= greatest(rarest, $2)",
    )
    .bind(text)
    .bind(MANY)
    .bind(guild.get())
    .fetch_one(db)
    .await?;
    Ok(asked.filter(|asked| !asked.is_empty()))
}

async fn matches(
    db: &mut PgConnection,
    words: Words<'_>,
    asked: &str,
    limit: u32,
) -> Result<Vec<Match>, StoreError> {
    let rows: Vec<(Uuid, i64, f32)> = sqlx::query_as(
        "SELECT id, message_id, score FROM (
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
    .bind(words.guild.get())
    .bind(asked)
    .bind(numbers(words.channels))
    .bind(words.authors.map(|ids| ids.iter().map(|id| id.get()).collect::<Vec<_>>()))
    .bind(words.since)
    .bind(words.until)
    .bind(i64::from(limit))
    .bind(MANY)
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|(session, message, score)| {
            Ok(Match { session_id: session.into(), message_id: message.try_into()?, score })
        })
        .collect()
}
