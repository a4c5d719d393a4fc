use chrono::{DateTime, Utc};
use guildex_types::{ChannelId, GuildId, MessageId, PointId, Revision, SessionId, UserId};
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};

use crate::{Fusion, Point, SparseVector};

/// The most hits of a search and the most points of a page: it bounds what one call may hold in memory.
pub const MAX_LIMIT: usize = 1_000;

/// Where to search: one guild, and of it what the asker may see. There is no other way to ask an index, so no
/// search leaves its guild, and whoever has a scope cannot widen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    guild: GuildId,
    channels: Option<Vec<ChannelId>>,
}

impl Scope {
    /// A whole guild.
    pub fn guild(guild: GuildId) -> Self {
        Self { guild, channels: None }
    }

    /// Those of the channels that were in the scope already; an empty list leaves nothing.
    #[must_use]
    pub fn only(self, mut channels: Vec<ChannelId>) -> Self {
        channels.sort_unstable();
        channels.dedup();
        if let Some(before) = &self.channels {
            channels.retain(|channel| before.contains(channel));
        }
        Self { guild: self.guild, channels: Some(channels) }
    }

    /// The tenant.
    pub fn tenant(&self) -> GuildId {
        self.guild
    }

    /// The channels and threads in it, each once; `None` for all of the guild's.
    pub fn channels(&self) -> Option<&[ChannelId]> {
        self.channels.as_deref()
    }

    /// Whether something in this place is within the scope.
    pub fn admits(&self, guild: GuildId, channel: ChannelId) -> bool {
        guild == self.guild && self.channels.as_ref().is_none_or(|channels| channels.contains(&channel))
    }
}

/// What to look at within a scope. The default leaves nothing out. Times are compared in whole microseconds, what
/// is finer being cut off; Discord's are in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Points in which any of these members speaks; `None` for whoever speaks, an empty list for nothing.
    pub authors: Option<Vec<UserId>>,
    /// Points whose last message was sent then or later.
    pub since: Option<DateTime<Utc>>,
    /// Points whose first message was sent before.
    pub until: Option<DateTime<Utc>>,
}

/// What to search for.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// The embedding of the question; not looked at in [`Mode::Sparse`].
    pub dense: Vec<f32>,
    /// Its words, from [`bm25::query`](crate::bm25::query); not looked at in [`Mode::Dense`].
    pub bm25: SparseVector,
    /// What ranks.
    pub mode: Mode,
    /// How the ranks are fused in [`Mode::Hybrid`].
    pub fusion: Fusion,
    /// What is looked at.
    pub filter: Filter,
    /// Leaves out what scores less, as the mode scores.
    pub min_score: Option<f32>,
    /// How many hits are wanted; more than [`MAX_LIMIT`] are not given.
    pub limit: usize,
    /// Compare with every dense vector of the scope, whatever graph there is: slower, and misses nothing.
    pub exact: bool,
}

/// What ranks the points.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Display, EnumString, Serialize, Deserialize)]
#[strum(serialize_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The dense vector alone. Scores are cosines.
    Dense,
    /// The words alone. Scores are BM25's, and points without any of the words are not found.
    Sparse,
    /// Both ranks, fused. Scores are sums of reciprocal ranks.
    #[default]
    Hybrid,
}

/// A point that was found. Whether it still shows the truth is for the truth to say: compare the revision.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The point.
    pub id: PointId,
    /// How well it fits; the higher the better, comparable within one search only.
    pub score: f32,
    /// The tenant.
    pub guild_id: GuildId,
    /// The channel or thread.
    pub channel_id: ChannelId,
    /// The session.
    pub session_id: SessionId,
    /// The chunk of the session, from 0.
    pub chunk: u32,
    /// The messages of the chunk, in order.
    pub message_ids: Vec<MessageId>,
    /// The state of the session that was found.
    pub revision: Revision,
}

/// Some points of a guild, in the order of their ids.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The points.
    pub points: Vec<Point>,
    /// Behind which point the next page begins; `None` on the last page.
    pub next: Option<PointId>,
}

/// Some of a guild's points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointSelector<'a> {
    /// In the order of their ids from the one behind a point on: at most so many, and at most [`MAX_LIMIT`].
    After(Option<PointId>, usize),
    /// These, of which at most [`MAX_LIMIT`] are looked at.
    Ids(&'a [PointId]),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn channels(ids: &[i64]) -> Vec<ChannelId> {
        ids.iter().map(|&id| id.try_into().unwrap()).collect()
    }

    proptest! {
        #[test]
        fn a_narrowed_scope_never_widens(
            lists in prop::collection::vec(prop::collection::vec(1..8i64, 0..5), 1..4),
            place in (1..3i64, 1..8i64),
        ) {
            let (guild, channel): (GuildId, ChannelId) = (place.0.try_into().unwrap(), place.1.try_into().unwrap());
            let mut scope = Scope::guild(1.try_into().unwrap());
            prop_assert_eq!(scope.admits(guild, channel), place.0 == 1);
            for list in &lists {
                let before = scope.clone();
                scope = scope.only(channels(list));
                prop_assert_eq!(scope.tenant(), before.tenant());
                let admitted = before.admits(guild, channel) && list.contains(&place.1);
                prop_assert_eq!(scope.admits(guild, channel), admitted);
            }
            // What it lists, sorted and each once, is what it admits.
            let listed = scope.channels().unwrap();
            prop_assert!(listed.is_sorted_by(|a, b| a < b));
            prop_assert_eq!(scope.admits(guild, channel), place.0 == 1 && listed.contains(&channel));
        }
    }
}
