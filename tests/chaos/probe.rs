//! Measures how soon a new message is indexed after a fault.

use std::time::Duration;

use anyhow::ensure;
use chrono::Utc;
use guildex_producer::Ingest;
use guildex_store::channels::Channel;
use guildex_types::{
    Author, GuildId, JobQueue, Links, Message, MessageId, MessageKind, SearchText, SessionId,
};
use sqlx::PgPool;
use tokio::time::{Instant, sleep, timeout};

/// A guild that only the probe writes to.
const GUILD: i64 = 1_500_000_000_000_000_000;
/// Interval between polls.
const PAUSE: Duration = Duration::from_millis(50);
/// Timeout of one query, since a frozen server never responds.
const SILENCE: Duration = Duration::from_secs(5);

/// Writes a message, and returns once its session is indexed.
pub async fn probe(ingest: &Ingest, limit: Duration) -> anyhow::Result<Instant> {
    let deadline = Instant::now() + limit;
    let message = message()?;
    let channel = Channel {
        guild_id: message.guild_id,
        guild_name: "Probe".to_owned(),
        id: message.channel_id,
        name: "probe".to_owned(),
        parent_id: None,
    };
    let session = SessionId::new(message.guild_id, message.channel_id, message.id);
    let write = || ingest.messages(&channel, std::slice::from_ref(&message), JobQueue::Live);
    while !matches!(timeout(SILENCE, write()).await, Ok(Ok(_))) {
        ensure!(Instant::now() < deadline, "no message was written within {limit:?}");
        sleep(PAUSE).await;
    }
    while !matches!(timeout(SILENCE, is_indexed(ingest.pool(), session)).await, Ok(Ok(true))) {
        ensure!(Instant::now() < deadline, "the message was not indexed within {limit:?}");
        sleep(PAUSE).await;
    }
    Ok(Instant::now())
}

async fn is_indexed(pool: &PgPool, session: SessionId) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM indexed_sessions i JOIN sessions s ON s.id = i.session_id
                        WHERE s.id = $1 AND i.indexed_revision = s.revision)",
    )
    .bind(session.get())
    .fetch_one(pool)
    .await
}

/// A message long enough to be a session alone, in a separate channel.
fn message() -> anyhow::Result<Message> {
    let sent_at = Utc::now();
    let guild_id: GuildId = GUILD.try_into()?;
    let id: MessageId = sent_at.timestamp_micros().try_into()?;
    let text = format!("Is anybody there who reads what is written here at {} in the evening?", id.get());
    Ok(Message {
        guild_id,
        channel_id: id.get().try_into()?,
        id,
        author: Author::member(900.try_into()?, "prober".to_owned()),
        kind: MessageKind::Conversation,
        sent_at,
        edited_at: None,
        links: Links::default(),
        text: SearchText::from_parts([text.as_str()]),
    })
}
