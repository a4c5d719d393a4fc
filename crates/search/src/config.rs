//! What the configuration says about searches.

use std::time::Duration;

use guildex_index::{Fusion, Mode};
use serde::{Deserialize, Serialize};

/// How searches are answered.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchConfig {
    /// What ranks where a request does not say.
    pub mode: Mode,
    /// How the ranks of vectors and words are fused.
    pub fusion: Fusion,
    /// How long a search may take, all of it: then there is an answer or an error.
    pub timeout: Duration,
    /// Who answers while index or model is away.
    pub fallback: Fallback,
}

/// Who answers while index or model is away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fallback {
    /// Nobody: the search fails.
    #[default]
    None,
    /// Postgres, by words alone.
    Postgres,
}

impl Default for SearchConfig {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            fusion: Fusion::default(),
            timeout: Duration::from_secs(5),
            fallback: Fallback::default(),
        }
    }
}
