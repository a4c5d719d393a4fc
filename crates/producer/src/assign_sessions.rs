//! Assigns stored and new messages of a channel to sessions.

use std::collections::HashMap;

use chrono::SubsecRound;
use guildex_store::StoreError;
use guildex_store::messages::{self, AssignedMessage, Position};
use guildex_types::{ChannelId, GuildId, Message, MessageId};
use sqlx::PgConnection;

use crate::enqueue::ChangedSessions;
use crate::sessionizer::{IncrementalSessionizer, Rules, Turn};

/// Stored messages read at a time after a new one.
const PAGE: i64 = 1_000;

/// Assigns sessions to new messages, and reassigns the messages around them. Returns the first message of the new session
/// of each message that changed its session, and adds these sessions to `changed`.
pub(crate) async fn assign_sessions(
    tx: &mut PgConnection,
    rules: Rules,
    guild: GuildId,
    channel: ChannelId,
    mut new: Vec<AssignedMessage>,
    changed: &mut ChangedSessions,
) -> Result<HashMap<MessageId, MessageId>, StoreError> {
    new.sort_unstable_by_key(position);
    let Some(start) = new.first().map(position) else { return Ok(HashMap::new()) };
    let since = start.0 - rules.lookback;
    let before = messages::assigned_before(tx, guild, channel, since, start).await?;
    let mut sessionizer = IncrementalSessionizer::new(rules);
    for placed in before {
        if let Some(first) = placed.first_message_id {
            sessionizer.replay(&turn(&placed), first);
        }
    }

    let mut assigned = HashMap::with_capacity(new.len());
    let mut unassigned = new.len();
    let mut new = new.into_iter().peekable();
    let mut cursor = start;
    loop {
        let stored = messages::assigned_after(tx, guild, channel, cursor, PAGE).await?;
        let last_page = stored.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
        let end = if last_page { None } else { stored.last().map(position) };
        for placed in merge(stored, &mut new, end) {
            if unassigned == 0 && sessionizer.is_stable(placed.sent_at) {
                return Ok(assigned);
            }
            cursor = position(&placed);
            unassigned -= usize::from(placed.first_message_id.is_none());
            let first = sessionizer.push(&turn(&placed), placed.first_message_id);
            if placed.first_message_id != Some(first) {
                assigned.insert(placed.id, first);
                changed.message_moved(placed.first_message_id, first);
            }
        }
        if last_page {
            return Ok(assigned);
        }
    }
}

/// Returns a message that is not assigned yet.
pub(crate) fn unassigned(message: &Message) -> AssignedMessage {
    AssignedMessage {
        id: message.id,
        author: message.author.id,
        // Postgres stores microseconds; the order must agree with it.
        sent_at: message.sent_at.trunc_subsecs(6),
        links: message.links.clone(),
        first_message_id: None,
    }
}

fn position(placed: &AssignedMessage) -> Position {
    (placed.sent_at, placed.id)
}

fn turn(placed: &AssignedMessage) -> Turn<'_> {
    Turn {
        id: placed.id,
        author: placed.author,
        sent_at: placed.sent_at,
        reply_to: placed.links.reply_to,
        mentions: &placed.links.mentions,
    }
}

/// Merges a page of stored messages with the new ones up to `end`, or with all new ones without it.
fn merge(
    stored: Vec<AssignedMessage>,
    new: &mut std::iter::Peekable<std::vec::IntoIter<AssignedMessage>>,
    end: Option<Position>,
) -> Vec<AssignedMessage> {
    let mut merged = stored;
    while let Some(next) = new.next_if(|a| end.is_none_or(|end| position(a) <= end)) {
        merged.push(next);
    }
    // The standard sort merges sorted runs in linear time.
    merged.sort_by_key(position);
    merged
}
