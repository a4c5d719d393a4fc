//! A [`TimeDelta`] that is not negative, spelled as a [`duration`].

use chrono::TimeDelta;
use serde::de::{Deserializer, Error};
use serde::ser::Serializer;

use super::duration;

/// Writes the shortest spelling; nothing below zero.
pub fn serialize<S: Serializer>(delta: &TimeDelta, serializer: S) -> Result<S::Ok, S::Error> {
    duration::serialize(&delta.to_std().unwrap_or_default(), serializer)
}

/// Reads any spelling.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TimeDelta, D::Error> {
    TimeDelta::from_std(duration::deserialize(deserializer)?).map_err(D::Error::custom)
}
