//! Result of a comparison.

use std::collections::BTreeMap;

use guildex_store::models::ModelState;
use guildex_types::{GuildId, ModelSlug, PointId, Revision, SessionId};
use serde::{Deserialize, Serialize};

/// Kind of difference between Postgres and the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceKind {
    /// An eligible session is not in the collection, or not completely.
    Missing,
    /// Points of a session have another revision than recorded, or the recorded revision is not the latest.
    Stale,
    /// A point without use: its session does not exist, is not eligible, or has fewer points.
    Orphaned,
    /// A point has the id of one guild and belongs to a session of another.
    WrongGuild,
    /// A point has another channel than its session, or the id of another point.
    Misplaced,
    /// Points of a session were made from another text than its current one, or their content hash is unknown.
    WrongHash,
}

impl DifferenceKind {
    /// Name as in JSON.
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
    pub kind: DifferenceKind,
    pub session_id: SessionId,
    /// Point, if the difference concerns a single one.
    pub point_id: Option<PointId>,
    /// Highest revision of the points that were read.
    pub highest_revision: Revision,
}

/// Example of a difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// Session as named by the point or by Postgres.
    pub session_id: SessionId,
    /// Point, if the difference concerns a single one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point_id: Option<PointId>,
}

/// Differences of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differences {
    /// Number of sessions, or of points without session.
    pub count: u64,
    /// Some examples.
    pub examples: Vec<Example>,
}

/// Comparison of a guild's points in one collection with its sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuildReport {
    /// Guild as named by the points or by Postgres.
    pub guild_id: GuildId,
    /// Number of points compared.
    pub points: u64,
    /// Sessions with all their points at the latest revision.
    pub consistent: u64,
    /// Sessions and points that differ but have an unfinished job or have just changed. After a repair this includes its
    /// own jobs.
    pub in_progress: u64,
    /// Differences by kind.
    pub differences: BTreeMap<DifferenceKind, Differences>,
    /// Sessions that a repair enqueued for indexing.
    pub to_index: u64,
    /// Sessions whose points a repair enqueued for removal.
    pub to_remove: u64,
}

impl GuildReport {
    pub(super) fn new(guild_id: GuildId) -> Self {
        Self {
            guild_id,
            points: 0,
            consistent: 0,
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

    /// Number of differences of all kinds.
    pub fn count(&self) -> u64 {
        self.differences.values().map(|found| found.count).sum()
    }
}

/// Comparison of a model's collection with Postgres.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelReport {
    /// Model.
    pub model: ModelSlug,
    /// State of the model. Nothing can be missing from a collection that is not maintained.
    pub state: ModelState,
    /// Guilds by id.
    pub guilds: Vec<GuildReport>,
}

/// Comparison of the index with Postgres.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Differences that no unfinished job will resolve.
    pub differences: u64,
    /// Differences that an unfinished job will resolve or a finished one has just resolved.
    pub in_progress: u64,
    /// Sessions with a job enqueued by a repair.
    pub repairs: u64,
    /// Models by name.
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
