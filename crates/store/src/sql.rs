//! Conversions between Rust and Postgres types.

use std::time::Duration;

use guildex_types::PointId;
use sqlx::postgres::types::PgInterval;

/// A duration as an interval; Postgres has no unsigned or unlimited one, so very long ones are capped.
pub(crate) fn interval(duration: Duration) -> PgInterval {
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    PgInterval { months: 0, days: 0, microseconds }
}

/// A count that Postgres returned, which is never negative.
pub(crate) fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

/// A count as a `bigint`.
pub(crate) fn bigint(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

/// A count as an `integer`.
pub(crate) fn integer(count: impl TryInto<i32>) -> i32 {
    count.try_into().unwrap_or(i32::MAX)
}

/// Formats ids as an array literal, since UNNEST flattens an array of arrays.
pub(crate) fn array_literal(ids: &[PointId]) -> String {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    format!("{{{}}}", ids.join(","))
}
