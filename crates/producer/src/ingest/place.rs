//! Which session each message belongs in, and who moves when one comes late.

use std::collections::HashMap;

use chrono::SubsecRound;
use guildex_store::StoreError;
use guildex_store::messages::{self, AssignedMessage, Position};
use guildex_types::{ChannelId, GuildId, Message, MessageId};
use sqlx::PgConnection;

use super::Ingest;
use super::follow::Touched;
use crate::sessionizer::{Repartition, Turn};

/// How many stored messages are read at a time while a late one moves its neighbours.
const PAGE: i64 = 1_000;

impl Ingest {
    /// Finds the sessions of arrivals, and of the neighbours that they move: for each of these messages the first
    /// message of its new session.
    pub(super) async fn settle(
        &self,
        tx: &mut PgConnection,
        guild: GuildId,
        channel: ChannelId,
        mut arrivals: Vec<AssignedMessage>,
        touched: &mut Touched,
    ) -> Result<HashMap<MessageId, MessageId>, StoreError> {
        arrivals.sort_unstable_by_key(position);
        let Some(start) = arrivals.first().map(position) else { return Ok(HashMap::new()) };
        let since = start.0 - self.config.rules.horizon();
        let before = messages::assigned_before(tx, guild, channel, since, start).await?;
        let mut partition = Repartition::new(self.config.rules.clone());
        for placed in before {
            if let Some(first) = placed.first_message_id {
                partition.replay(&turn(&placed), first);
            }
        }

        let mut moves = HashMap::with_capacity(arrivals.len());
        let mut unsettled = arrivals.len();
        let mut arrivals = arrivals.into_iter().peekable();
        let mut cursor = start;
        loop {
            let stored = messages::assigned_after(tx, guild, channel, cursor, PAGE).await?;
            let last_page = stored.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
            let end = if last_page { None } else { stored.last().map(position) };
            for placed in merge(stored, &mut arrivals, end) {
                if unsettled == 0 && partition.converged(placed.sent_at) {
                    return Ok(moves);
                }
                cursor = position(&placed);
                unsettled -= usize::from(placed.first_message_id.is_none());
                let first = partition.push(&turn(&placed), placed.first_message_id);
                if placed.first_message_id != Some(first) {
                    moves.insert(placed.id, first);
                    touched.moved(placed.first_message_id, first);
                }
            }
            if last_page {
                return Ok(moves);
            }
        }
    }
}

/// A message that takes its place now.
pub(super) fn arrival(message: &Message) -> AssignedMessage {
    AssignedMessage {
        id: message.id,
        author: message.author.id,
        // As Postgres will have it: what is stored is in this order.
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

/// Merges a page of stored messages with the arrivals that stand up to `end` (all of them without one), in order.
fn merge(
    stored: Vec<AssignedMessage>,
    arrivals: &mut std::iter::Peekable<std::vec::IntoIter<AssignedMessage>>,
    end: Option<Position>,
) -> Vec<AssignedMessage> {
    let mut merged = stored;
    while let Some(next) = arrivals.next_if(|a| end.is_none_or(|end| position(a) <= end)) {
        merged.push(next);
    }
    // Two sorted runs: the standard sort finds and merges them.
    merged.sort_by_key(position);
    merged
}
