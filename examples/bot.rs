//! Stores, edits and deletes messages in Guildex, as a Discord bot does on gateway events.
//!
//! After `scripts/demo`:
//!
//! ```sh
//! source target/demo.env
//! DATABASE_URL=$GUILDEX_DATABASE_URL cargo run -p guildex --example bot
//! guildex up --until-idle
//! guildex search --guild 1100000000000000003 "which glue holds on a wet hull"
//! ```
//!
//! A bot only needs Postgres. Each call is one transaction that stores the change together with its job; workers index it.
//! Calls are idempotent: a bot repeats one that failed, and handles redelivered events like new ones.

#![allow(clippy::print_stdout)]

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use guildex_producer::{Ingest, IngestConfig, IngestError};
use guildex_store::channels::Channel;
use guildex_types::{Author, JobQueue, Links, Message, MessageId, MessageKind, SearchText, UserId};

const ADA: (i64, &str) = (300_000_000_000_000_021, "Ada");
const BEN: (i64, &str) = (300_000_000_000_000_022, "Ben");

/// A bot that feeds one channel to Guildex.
struct Bot {
    ingest: Ingest,
    channel: Channel,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("DATABASE_URL").context("set DATABASE_URL")?;
    let pool = guildex_store::connect(&url, 4).await?;
    let channel = Channel {
        guild_id: 1_100_000_000_000_000_003.try_into()?,
        guild_name: "Example Guild".to_owned(),
        id: 1_100_000_000_000_000_301.try_into()?,
        name: "boats".to_owned(),
        parent_id: None,
    };
    // All processes need the same settings for opt-outs, retention and sessions.
    let bot = Bot { ingest: Ingest::new(pool, IngestConfig::default()), channel };

    // A conversation that takes place now, so every run adds another one.
    let start = Utc::now() - TimeDelta::minutes(5);
    let sent_at = |minute| start + TimeDelta::minutes(minute);
    let question = bot.message(ADA, sent_at(0), "Which glue holds on a wet hull? Epoxy failed.", None)?;
    let answer =
        bot.message(BEN, sent_at(1), "Marine polyurethane, it cures under water.", Some(question.id))?;
    let slip = bot.message(ADA, sent_at(2), "my phone number is ... oops, wrong window", None)?;
    for message in [&question, &answer, &slip] {
        bot.message_created_or_updated(message).await?;
    }

    let edited = Message {
        text: SearchText::from_parts(["Which glue holds on a wet wooden hull? Epoxy failed in a week."]),
        edited_at: Some(sent_at(3)),
        ..question
    };
    bot.message_created_or_updated(&edited).await?;

    bot.messages_deleted(&[slip.id]).await?;
    Ok(())
}

impl Bot {
    /// Handles `MESSAGE_CREATE` and `MESSAGE_UPDATE`. An edit is a message with a later `edited_at`.
    async fn message_created_or_updated(&self, message: &Message) -> Result<(), IngestError> {
        let done = self.ingest.messages(&self.channel, std::slice::from_ref(message), JobQueue::Live).await?;
        println!("message {}: {} new, {} edited, {} jobs", message.id, done.new, done.edited, done.jobs);
        Ok(())
    }

    /// Handles `MESSAGE_DELETE` and `MESSAGE_DELETE_BULK`, which carry ids only.
    async fn messages_deleted(&self, ids: &[MessageId]) -> Result<(), IngestError> {
        let sessions = self.ingest.delete(self.channel.guild_id, self.channel.id, ids).await?;
        println!("{} messages deleted from {sessions} sessions; searches no longer find them", ids.len());
        Ok(())
    }

    /// Converts a gateway message.
    fn message(
        &self,
        (author, name): (i64, &str),
        sent_at: DateTime<Utc>,
        text: &str,
        reply_to: Option<MessageId>,
    ) -> anyhow::Result<Message> {
        Ok(Message {
            guild_id: self.channel.guild_id,
            channel_id: self.channel.id,
            id: snowflake(sent_at)?,
            author: Author::member(UserId::try_from(author)?, name),
            kind: MessageKind::Conversation,
            sent_at,
            edited_at: None,
            links: Links { reply_to, mentions: Vec::new() },
            // Add attachment names and embed titles as further parts.
            text: SearchText::from_parts([text]),
        })
    }
}

/// Returns a message id for a time: Discord's epoch is 2015, and ids count milliseconds in their upper 42 bits.
fn snowflake(time: DateTime<Utc>) -> anyhow::Result<MessageId> {
    const DISCORD_EPOCH: i64 = 1_420_070_400_000;
    Ok(MessageId::try_from((time.timestamp_millis() - DISCORD_EPOCH) << 22)?)
}
