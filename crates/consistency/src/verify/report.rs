//! What a comparison found.

use std::collections::BTreeMap;

use guildex_store::models::ModelState;
use guildex_types::{GuildId, ModelSlug, PointId, Revision, SessionId};
use serde::{Deserialize, Serialize};

/// In which way truth and index differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A session that is worth a place in the collection is not in it, or not all of it.
    Missing,
    /// A session's points show an older or another state than the books and the truth have; or a point does that is none
    /// of its session's.
    Stale,
    /// Points that nobody needs: of a session that is no more, that is not worth a place, or that has fewer.
    Orphaned,
    /// A point with one guild's id, of another guild's session.
    WrongGuild,
    /// A point that names another channel than its session's, or lies where another point ought to.
    Misplaced,
    /// A session's points were made from another text than it has now, or nobody knows from which.
    WrongHash,
}

impl Kind {
    /// The name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Stale => "stale",
            Self::Orphaned => "orphaned",
            Self::WrongGuild => "wrong_guild",
            Self::Misplaced => "misplaced",
            Self::WrongHash => "wrong_hash",
        }
    }
}

/// One difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Finding {
    pub kind: Kind,
    pub session_id: SessionId,
    /// The point, where it is about a single one.
    pub point_id: Option<PointId>,
    /// The highest revision that was seen on a point.
    pub seen: Revision,
}

/// Where a difference is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// The session, as the point or the truth names it.
    pub session_id: SessionId,
    /// The point, where it is about a single one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point_id: Option<PointId>,
}

/// The differences of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// How many: sessions, or points that are no session's.
    pub count: u64,
    /// Some of them.
    pub examples: Vec<Example>,
}

/// How a guild's points in one collection compare with its sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuildReport {
    /// The tenant, as the points or the truth name it.
    pub guild_id: GuildId,
    /// Points that were looked at.
    pub points: u64,
    /// Sessions that have all their points, at their latest revision.
    pub in_step: u64,
    /// Sessions and points that differ, and for which a job is on its way or came by meanwhile; with a repair its own
    /// jobs are among them.
    pub in_progress: u64,
    /// What differs, by kind.
    pub differences: BTreeMap<Kind, Found>,
    /// Sessions that a repair asked to be indexed again.
    pub to_index: u64,
    /// Sessions whose points a repair asked to be removed.
    pub to_remove: u64,
}

impl GuildReport {
    pub(super) fn new(guild_id: GuildId) -> Self {
        Self {
            guild_id,
            points: 0,
            in_step: 0,
            in_progress: 0,
            differences: BTreeMap::new(),
            to_index: 0,
            to_remove: 0,
        }
    }

    pub(super) fn add(&mut self, finding: &Finding, examples: usize) {
        let found = self.differences.entry(finding.kind).or_default();
        found.count += 1;
        if found.examples.len() < examples {
            found.examples.push(Example { session_id: finding.session_id, point_id: finding.point_id });
        }
    }

    /// How many differences there are, of all kinds.
    pub fn count(&self) -> u64 {
        self.differences.values().map(|found| found.count).sum()
    }
}

/// How a model's collection compares with the truth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelReport {
    /// The model.
    pub model: ModelSlug,
    /// What becomes of its collection. Where it is not kept in step, nothing is missing from it.
    pub state: ModelState,
    /// Each guild, by id.
    pub guilds: Vec<GuildReport>,
}

/// How index and truth compare.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Differences that no job is about to mend.
    pub differences: u64,
    /// What jobs are about to mend, or did meanwhile.
    pub in_progress: u64,
    /// Sessions that a repair asked jobs for.
    pub repairs: u64,
    /// Each model, by name.
    pub models: Vec<ModelReport>,
}

impl Report {
    pub(super) fn push(&mut self, model: ModelReport) {
        for guild in &model.guilds {
            self.differences += guild.count();
            self.in_progress += guild.in_progress;
            self.repairs += guild.to_index + guild.to_remove;
        }
        self.models.push(model);
    }
}
