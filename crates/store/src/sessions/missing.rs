use guildex_types::{ChannelId, Eligibility, GuildId, MessageId, ModelSlug, SessionId};
use sqlx::PgConnection;

use crate::StoreError;

/// Locks eligible sessions that the model's collection does not hold at their latest revision, and returns
/// each with its first message: up to `limit` of a channel, in the order of their first messages, after
/// `after`.
pub async fn missing(
    tx: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
    model: &ModelSlug,
    eligible: Eligibility,
    after: Option<MessageId>,
    limit: i64,
) -> Result<Vec<(MessageId, SessionId)>, StoreError> {
    let mut sessions: Vec<(MessageId, SessionId)> = sqlx::query_as(
        // The page is read in index order, so that its cost depends on its size. It is then locked in the
        // order that all statements use, and checked again.
        "/* sessions.missing */
         WITH page AS (
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
    .bind(guild)
    .bind(channel)
    .bind(model)
    .bind(i64::from(eligible.min_messages))
    .bind(i64::from(eligible.lone_message_min_words))
    .bind(after.map_or(0, MessageId::get))
    .bind(limit)
    .fetch_all(tx)
    .await?;
    sessions.sort_unstable();
    Ok(sessions)
}
