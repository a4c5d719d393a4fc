use std::time::Duration;

use guildex_index::{Fusion, Mode};
use guildex_types::config::{MILLISECOND, MINUTE, duration, duration_between};
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};

/// Section `search`: how searches are answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, garde::Validate)]
#[serde(default, deny_unknown_fields)]
pub struct SearchConfig {
    /// Ranking mode of requests that do not set one. Default: hybrid.
    #[garde(skip)]
    pub mode: Mode,
    /// Timeout of a whole search. Default: 5 s.
    #[serde(with = "duration")]
    #[garde(custom(duration_between(100 * MILLISECOND..=MINUTE)))]
    pub timeout: Duration,
    /// Search to use while the index or the model is unavailable. Default: none.
    #[garde(skip)]
    pub fallback: Fallback,
    /// Fusion of the dense and sparse rankings.
    #[garde(dive)]
    pub fusion: Fusion,
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
            timeout: Duration::from_secs(5),
            fallback: Fallback::default(),
            fusion: Fusion::default(),
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
