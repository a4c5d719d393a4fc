//! Filters, with the checks of the server's strict mode.

use std::collections::HashMap;

use chrono::DateTime;
use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::r#match::MatchValue;
use qdrant_client::qdrant::value::Kind;
use qdrant_client::qdrant::{Condition, DatetimeRange, FieldCondition, Filter, PayloadSchemaInfo, Value};
use tonic::Status;
use uuid::Uuid;

/// Rejects filters on fields without an index.
pub fn check(filter: &Filter, schema: &HashMap<String, PayloadSchemaInfo>) -> Result<(), Status> {
    for condition in filter.must.iter().chain(&filter.should).chain(&filter.must_not) {
        match &condition.condition_one_of {
            Some(ConditionOneOf::Field(field)) if !schema.contains_key(&field.key) => {
                let message = format!("Forbidden: Index required but not found for \"{}\"", field.key);
                return Err(Status::permission_denied(message));
            }
            Some(ConditionOneOf::Filter(filter)) => check(filter, schema)?,
            _ => {}
        }
    }
    Ok(())
}

pub fn admits(filter: &Filter, id: Uuid, payload: &HashMap<String, Value>) -> Result<bool, Status> {
    let holds = |condition: &Condition| holds(condition, id, payload);
    for condition in &filter.must {
        if !holds(condition)? {
            return Ok(false);
        }
    }
    for condition in &filter.must_not {
        if holds(condition)? {
            return Ok(false);
        }
    }
    let mut any = filter.should.is_empty();
    for condition in &filter.should {
        any = any || holds(condition)?;
    }
    Ok(any)
}

fn holds(condition: &Condition, id: Uuid, payload: &HashMap<String, Value>) -> Result<bool, Status> {
    match condition.condition_one_of.as_ref() {
        Some(ConditionOneOf::Field(field)) => {
            let mut any = false;
            for value in values(payload.get(&field.key)) {
                any = any || fits(field, value)?;
            }
            Ok(any)
        }
        Some(ConditionOneOf::HasId(ids)) => {
            for wanted in &ids.has_id {
                if super::ids::id(Some(wanted.clone()))? == id {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Some(ConditionOneOf::Filter(filter)) => admits(filter, id, payload),
        other => Err(Status::unimplemented(format!("{other:?}"))),
    }
}

fn values(value: Option<&Value>) -> Vec<&Value> {
    match value.map(|value| (value, &value.kind)) {
        Some((_, Some(Kind::ListValue(list)))) => list.values.iter().collect(),
        Some((value, _)) => vec![value],
        None => vec![],
    }
}

fn fits(field: &FieldCondition, value: &Value) -> Result<bool, Status> {
    if let Some(wanted) = field.r#match.as_ref().and_then(|wanted| wanted.match_value.as_ref()) {
        return Ok(match (wanted, &value.kind) {
            (MatchValue::Keyword(wanted), Some(Kind::StringValue(value))) => wanted == value,
            (MatchValue::Keywords(wanted), Some(Kind::StringValue(value))) => wanted.strings.contains(value),
            (MatchValue::Integers(wanted), Some(Kind::IntegerValue(value))) => {
                wanted.integers.contains(value)
            }
            _ => false,
        });
    }
    if let Some(range) = &field.range {
        let Some(Kind::IntegerValue(value)) = value.kind else { return Ok(false) };
        // The server rounds as well.
        let value = value as f64;
        return Ok(range.lt.is_none_or(|bound| value < bound)
            && range.lte.is_none_or(|bound| value <= bound)
            && range.gt.is_none_or(|bound| value > bound)
            && range.gte.is_none_or(|bound| value >= bound));
    }
    if let (Some(range), Some(Kind::StringValue(value))) = (&field.datetime_range, &value.kind) {
        return Ok(within(range, value));
    }
    Err(Status::unimplemented(format!("a filter over {}", field.key)))
}

/// Truncates a time to microseconds.
fn within(range: &DatetimeRange, value: &str) -> bool {
    let Ok(value) = DateTime::parse_from_rfc3339(value) else { return false };
    let value = value.timestamp_micros();
    let micros =
        |time: &qdrant_client::qdrant::Timestamp| time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000;
    range.lt.as_ref().is_none_or(|bound| value < micros(bound))
        && range.lte.as_ref().is_none_or(|bound| value <= micros(bound))
        && range.gt.as_ref().is_none_or(|bound| value > micros(bound))
        && range.gte.as_ref().is_none_or(|bound| value >= micros(bound))
}
