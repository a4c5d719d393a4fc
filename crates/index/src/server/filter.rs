//! Filters over the payload.

use std::collections::BTreeMap;
use std::fmt::Display;

use chrono::{DateTime, Utc};
use guildex_types::{GuildId, MessageId, PointId, Revision, SessionId};
use qdrant_client::qdrant::{Condition, DatetimeRange, Filter, Range, Timestamp};

use crate::{Filter as Wanted, Point, Scope};

/// All of a guild.
pub(super) fn in_guild(guild: GuildId) -> Filter {
    Filter::must([is("guild_id", guild)])
}

/// Those of a guild that have these ids.
pub(super) fn these_in_guild(guild: GuildId, ids: Vec<String>) -> Filter {
    Filter::must([is("guild_id", guild), Condition::has_id(ids)])
}

/// What of a scope is looked at.
pub(super) fn in_scope(scope: &Scope, wanted: &Wanted) -> Filter {
    let channels = scope.channels().map(|channels| is_any("channel_id", channels));
    let authors = wanted.authors.as_ref().map(|authors| is_any("author_ids", authors));
    let since = wanted.since.map(|since| {
        let range = DatetimeRange { gte: Some(timestamp(since)), ..DatetimeRange::default() };
        Condition::datetime_range("end_time", range)
    });
    let until = wanted.until.map(|until| {
        let range = DatetimeRange { lt: Some(timestamp(until)), ..DatetimeRange::default() };
        Condition::datetime_range("start_time", range)
    });
    let narrower = [channels, authors, since, until].into_iter().flatten();
    Filter::must([is("guild_id", scope.tenant())].into_iter().chain(narrower))
}

/// What of some sessions of a guild is older than the revision that comes with each.
pub(super) fn older(guild: GuildId, sessions: &[(SessionId, Revision)]) -> Filter {
    let mut below: BTreeMap<Revision, Vec<&SessionId>> = BTreeMap::new();
    for (session, revision) in sessions {
        below.entry(*revision).or_default().push(session);
    }
    let each = below.into_iter().map(|(revision, sessions)| {
        Filter::must([is_any("session_id", sessions), is_below(revision)]).into()
    });
    Filter::must([is("guild_id", guild), Filter::should(each).into()])
}

/// What of a guild holds one of the messages and is older than a revision.
pub(super) fn older_with(guild: GuildId, messages: &[MessageId], below: Revision) -> Filter {
    Filter::must([is("guild_id", guild), is_any("message_ids", messages), is_below(below)])
}

/// What of the stored points these may overwrite: those of the same revision or an older one.
pub(super) fn overwritten_by(points: &[Point]) -> Filter {
    let mut at: BTreeMap<Revision, Vec<PointId>> = BTreeMap::new();
    for point in points {
        at.entry(point.payload.revision).or_default().push(point.id);
    }
    Filter::should(at.into_iter().map(|(revision, ids)| {
        let ids = ids.into_iter().map(|id| id.get().to_string());
        Filter::must([Condition::has_id(ids), is_at_most(revision.get())]).into()
    }))
}

fn is_below(revision: Revision) -> Condition {
    match revision.get().checked_sub(1) {
        Some(highest) => is_at_most(highest),
        // Nothing is.
        None => Condition::has_id(Vec::<String>::new()),
    }
}

/// Floats have every whole number up to here, and skip some above.
const EXACT: u64 = 1 << 53;

/// Revisions up to `highest`, exactly.
///
/// The server's ranges are of floats: depending on the way it takes, it either rounds the stored number to a float
/// or the bound to an integer. Where floats skip numbers, the range therefore ends below the last float that is not
/// higher than `highest`, where both ways agree, and the few numbers between are named one by one, which it compares
/// as integers.
fn is_at_most(highest: i64) -> Condition {
    if highest.unsigned_abs() < EXACT {
        let range = Range { lte: Some(highest as f64), ..Range::default() };
        return Condition::range("revision", range);
    }
    let mut last = highest as f64;
    if last as i128 > i128::from(highest) {
        last = last.next_down();
    }
    let range = Condition::range("revision", Range { lt: Some(last), ..Range::default() });
    // Numbers from the float before on could be rounded up to the last. Casts stop at the ends of i64.
    let between: Vec<i64> = (last.next_down() as i64..=highest).collect();
    Filter::should([range, Condition::matches("revision", between)]).into()
}

fn is(field: &str, id: impl Display) -> Condition {
    Condition::matches(field, id.to_string())
}

fn is_any<T: Display>(field: &str, ids: impl IntoIterator<Item = T>) -> Condition {
    Condition::matches(field, ids.into_iter().map(|id| id.to_string()).collect::<Vec<_>>())
}

fn timestamp(time: DateTime<Utc>) -> Timestamp {
    // Never above 2^31 within chrono's range, leap seconds included.
    let nanos = i32::try_from(time.timestamp_subsec_nanos()).unwrap_or_default();
    Timestamp { seconds: time.timestamp(), nanos }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use qdrant_client::qdrant::condition::ConditionOneOf;
    use qdrant_client::qdrant::r#match::MatchValue;

    use super::*;

    /// How the server may compare a stored number with a bound.
    #[derive(Clone, Copy)]
    enum Way {
        StoredAsFloat,
        BoundAsInteger,
    }

    fn holds(condition: &Condition, stored: i64, way: Way) -> bool {
        match condition.condition_one_of.as_ref().unwrap() {
            ConditionOneOf::Filter(filter) => filter.should.iter().any(|each| holds(each, stored, way)),
            ConditionOneOf::Field(field) => match (&field.range, &field.r#match) {
                (Some(range), None) => match way {
                    Way::StoredAsFloat => {
                        let stored = stored as f64;
                        range.lte.is_none_or(|bound| stored <= bound)
                            && range.lt.is_none_or(|bound| stored < bound)
                    }
                    Way::BoundAsInteger => {
                        range.lte.is_none_or(|bound| stored <= bound as i64)
                            && range.lt.is_none_or(|bound| stored < bound as i64)
                    }
                },
                (None, Some(matches)) => match matches.match_value.as_ref().unwrap() {
                    MatchValue::Integers(list) => list.integers.contains(&stored),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn check(highest: i64, stored: i64) {
        let condition = is_at_most(highest);
        for way in [Way::StoredAsFloat, Way::BoundAsInteger] {
            assert_eq!(holds(&condition, stored, way), stored <= highest, "{stored} at most {highest}");
        }
    }

    proptest! {
        #[test]
        fn revisions_compare_exactly_however_the_server_rounds(
            power in 0_u32..63,
            off in -3_000_i64..3_000,
            other in -3_000_i64..3_000,
            far in any::<i64>(),
        ) {
            let highest = (1_i64 << power).saturating_add(off);
            check(highest, highest.saturating_add(other));
            check(highest, far);
            check(far, far.saturating_add(other));
        }
    }

    #[test]
    fn the_ends_compare_exactly() {
        let ends = [i64::MIN, i64::MIN + 1, -(1 << 53) - 1, -(1 << 53), -1, 0, 1];
        let ends = ends.into_iter().chain([(1 << 53) - 1, 1 << 53, (1 << 53) + 1, i64::MAX - 1, i64::MAX]);
        for highest in ends.clone() {
            ends.clone().for_each(|stored| check(highest, stored));
        }
        assert!(matches!(
            is_below(i64::MIN.into()).condition_one_of,
            Some(ConditionOneOf::HasId(none)) if none.has_id.is_empty()
        ));
    }

    #[test]
    fn few_numbers_are_named_one_by_one() {
        for highest in [1 << 53, (1 << 53) + 1, 1 << 60, i64::MAX, i64::MIN] {
            let Some(ConditionOneOf::Filter(filter)) = is_at_most(highest).condition_one_of else {
                panic!("{highest} has no filter");
            };
            let named = format!("{filter:?}").matches(", ").count();
            assert!(named < 5_000, "{highest}: {named}");
        }
    }
}
