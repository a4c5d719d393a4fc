//! Search by words in Postgres, for when there is no index to ask.

use std::time::Duration;

use chrono::{DateTime, Utc};
use guildex_types::{ChannelId, GuildId, MessageId, SessionId, UserId};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::numbers;
use crate::StoreError;

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
/// then the latest. Postgres gives up after `patience`, whether or not somebody still waits for the answer.
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
    let mut found = matches(&mut tx, words, Wanted::All, limit).await?;
    if found.is_empty() {
        found = matches(&mut tx, words, Wanted::Any, limit).await?;
    }
    tx.commit().await?;
    Ok(found)
}

/// How much of what was asked a message has to hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    All,
    Any,
}

async fn matches(
    db: &mut PgConnection,
    words: Words<'_>,
    wanted: Wanted,
    limit: u32,
) -> Result<Vec<Match>, StoreError> {
    let rows: Vec<(Uuid, i64, f32)> = sqlx::query_as(
        // Without a word in the question nothing is found: an empty question, joined with the guild's word, would
        // find all of the guild.
        "SELECT id, message_id, score FROM (
             SELECT DISTINCT ON (s.id) s.id, s.ended_at, m.id AS message_id,
                    ts_rank_cd(to_tsvector('simple', m.text), asked.words) AS score
             FROM (SELECT CASE WHEN $3 THEN websearch_to_tsquery('simple', $2)
                          ELSE replace(plainto_tsquery('simple', $2)::text, ' & ', ' | ')::tsquery
                          END AS words) asked
             JOIN messages m ON m.guild_id = $1 AND m.session_first IS NOT NULL AND m.deleted_at IS NULL
                  AND m.skip IS NULL
                  AND to_tsvector('simple', m.text) || array_to_tsvector(ARRAY['guild ' || m.guild_id::text])
                      @@ (quote_literal('guild ' || $1::text)::tsquery && asked.words)
                  AND ($4::bigint[] IS NULL OR m.channel_id = ANY($4))
             JOIN sessions s ON s.guild_id = m.guild_id AND s.channel_id = m.channel_id
                  AND s.first_message_id = m.session_first AND s.deleted_at IS NULL
                  AND ($6::timestamptz IS NULL OR s.ended_at >= $6)
                  AND ($7::timestamptz IS NULL OR s.started_at < $7)
             WHERE numnode(asked.words) > 0
               AND ($5::bigint[] IS NULL OR EXISTS (
                   SELECT FROM messages a
                   WHERE a.guild_id = s.guild_id AND a.channel_id = s.channel_id
                     AND a.session_first = s.first_message_id AND a.deleted_at IS NULL AND a.text <> ''
                     AND a.author_id = ANY($5)))
             ORDER BY s.id, score DESC, m.sent_at, m.id) best
         ORDER BY score DESC, ended_at DESC, id LIMIT $8",
    )
    .bind(words.guild.get())
    .bind(words.text)
    .bind(wanted == Wanted::All)
    .bind(numbers(words.channels))
    .bind(words.authors.map(|ids| ids.iter().map(|id| id.get()).collect::<Vec<_>>()))
    .bind(words.since)
    .bind(words.until)
    .bind(i64::from(limit))
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|(session, message, score)| {
            Ok(Match { session_id: session.into(), message_id: message.try_into()?, score })
        })
        .collect()
}
