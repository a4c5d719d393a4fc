use std::time::Duration;

use guildex_index::{Fusion, Mode};
use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};

/// Configuration of searches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SearchConfig {
    /// Ranking mode of requests that do not set one. Default: hybrid.
    pub mode: Mode,
    /// Fusion of the dense and sparse rankings.
    pub fusion: Fusion,
    /// Timeout of a whole search. Default: 5 s.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Search to use while the index or the model is unavailable. Default: none.
    pub fallback: Fallback,
}

/// Search to use while the index or the model is unavailable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Display, EnumString, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Fallback {
    /// None: the search fails.
    #[default]
    None,
    /// Full-text search in Postgres.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_keys_get_defaults_and_unknown_keys_are_rejected() {
        let text = r#"{"timeout": "300ms", "fallback": "postgres", "fusion": {"k": 60.0}}"#;
        let config: SearchConfig = serde_json::from_str(text).unwrap();
        assert_eq!((config.timeout, config.fallback), (Duration::from_millis(300), Fallback::Postgres));
        assert_eq!(config.fusion, Fusion { k: 60.0, ..Fusion::default() });
        assert!(serde_json::from_str::<SearchConfig>(r#"{"deadline": "5s"}"#).is_err());
    }
}
