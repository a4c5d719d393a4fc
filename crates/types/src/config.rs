//! Helpers of configuration structs: how values are written, and which are allowed.
//!
//! Every value is written as a plain text, number, boolean or list, and is present in the serialized
//! defaults, so that the configuration's keys can be read off them. What is not set is an empty text.
//!
//! ```
//! use std::path::PathBuf;
//! use std::time::Duration;
//!
//! use guildex_types::config::{HOUR, between, duration, duration_between, unset};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, garde::Validate)]
//! struct Config {
//!     /// Threads.
//!     #[garde(custom(between(1..=64)))]
//!     threads: usize,
//!     /// Longest run.
//!     #[serde(with = "duration")]
//!     #[garde(custom(duration_between(Duration::ZERO..=HOUR)))]
//!     timeout: Duration,
//!     /// Folder of the model's files.
//!     #[serde(with = "unset")]
//!     #[garde(skip)]
//!     folder: Option<PathBuf>,
//! }
//! ```

mod check;
pub mod duration;
pub mod optional_duration;
pub mod optional_secret;
mod secret_url;
pub mod time_delta;
pub mod unset;

use std::time::Duration;

pub use check::{allowed_if, between, duration_between, scheme_of};
pub use secret_url::{InvalidUrl, SecretUrl};

/// A millisecond.
pub const MILLISECOND: Duration = Duration::from_millis(1);
/// A second.
pub const SECOND: Duration = Duration::from_secs(1);
/// A minute.
pub const MINUTE: Duration = Duration::from_mins(1);
/// An hour.
pub const HOUR: Duration = Duration::from_hours(1);
/// A day.
pub const DAY: Duration = Duration::from_hours(24);
