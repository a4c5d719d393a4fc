//! A [`Duration`] that may be unset, as an empty text.

use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::Serializer;

use super::duration;

/// Writes the shortest spelling, or an empty text.
pub fn serialize<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.map(duration::text).unwrap_or_default())
}

/// Reads any spelling, or an empty text.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    match String::deserialize(deserializer)?.trim() {
        "" => Ok(None),
        text => duration::parse(text).map(Some).map_err(D::Error::custom),
    }
}
