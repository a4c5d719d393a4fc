use guildex_types::{ChannelId, GuildId, PointId, Revision, SessionId};

use crate::{Point, SparseVector};

/// The most hits of a search and the most points of a page: it bounds what one call may hold in memory.
pub const MAX_LIMIT: usize = 1_000;

/// Where to search: always within one guild.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The tenant.
    pub guild: GuildId,
    /// These channels of it alone; `None` for all, an empty list for none.
    pub channels: Option<Vec<ChannelId>>,
}

impl Scope {
    /// A whole guild.
    pub fn guild(guild: GuildId) -> Self {
        Self { guild, channels: None }
    }

    /// Some channels of a guild.
    pub fn channels(guild: GuildId, channels: Vec<ChannelId>) -> Self {
        Self { guild, channels: Some(channels) }
    }

    /// Whether something in this place is within the scope.
    pub fn admits(&self, guild: GuildId, channel: ChannelId) -> bool {
        guild == self.guild && self.channels.as_ref().is_none_or(|channels| channels.contains(&channel))
    }
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
    /// How many hits are wanted; more than [`MAX_LIMIT`] are not given.
    pub limit: usize,
    /// Compare with every dense vector of the scope, whatever graph there is: slower, and misses nothing.
    pub exact: bool,
}

/// What ranks the points.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
