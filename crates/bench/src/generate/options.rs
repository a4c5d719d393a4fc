//! Options of the generator.

use std::path::PathBuf;

/// Options of the generator.
#[derive(Debug, Clone)]
pub struct Generate {
    /// Total number of messages.
    pub messages: u64,
    /// Number of guilds: a few large and many small ones.
    pub guilds: u32,
    /// Exports to learn from, or directories of exports.
    pub exports: Vec<PathBuf>,
    /// Output directory; created if it does not exist.
    pub out: PathBuf,
    /// Seed. Another seed gives other messages.
    pub seed: u64,
}
