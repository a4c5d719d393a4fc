//! A [`Duration`] as people write it: `300ms`, `60s`, `1h 30m`. For `#[serde(with = "duration")]`.

use std::time::Duration;

use jiff::fmt::friendly::{SpanParser, SpanPrinter};
use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::Serializer;

/// Shortest spelling of a duration.
pub fn text(duration: Duration) -> String {
    SpanPrinter::new().unsigned_duration_to_string(&duration)
}

/// Writes the shortest spelling.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(*duration))
}

/// Reads any spelling.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

pub(super) fn parse(text: &str) -> Result<Duration, String> {
    SpanParser::new().parse_unsigned_duration(text).map_err(|_| {
        format!("{text:?} is not a duration: write a number and a unit, as in 300ms, 60s or 24h")
    })
}
