//! Strategies of damaged input: bytes truncated, changed or repeated, and JSON with altered values.
//!
//! `PROPTEST_CASES` sets the number of cases of each test.

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, Value, json};

/// The bytes after one to four changes: bits flipped, bytes removed, repeated, inserted or truncated.
pub fn damaged(bytes: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(damage(), 1..=4)
        .prop_map(move |damages| damages.iter().fold(bytes.clone(), |bytes, damage| damage.to(bytes)))
}

#[derive(Debug, Clone)]
enum Damage {
    Flip(Index, u8),
    Remove(Index, Index),
    Repeat(Index, Index),
    Insert(Index, Vec<u8>),
    Truncate(Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = any::<Index>;
    // Bytes with a meaning in text, JSON or TOML.
    let meaningful = prop::sample::select(
        [
            &b"\0"[..],
            b"\"",
            b"\\",
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            b":",
            b"\n",
            b"=",
            b"#",
            b"-",
            b"1e999",
            b"null",
            b"\\u0000",
            b"\\ud800",
            b"\xff\xfe",
            b"\xed\xa0\x80",
            b"\xef\xbb\xbf",
            b"9223372036854775808",
        ]
        .map(<[u8]>::to_vec)
        .to_vec(),
    );
    let inserted = prop_oneof![meaningful, prop::collection::vec(any::<u8>(), 1..8)];
    prop_oneof![
        (place(), 1..=255_u8).prop_map(|(at, mask)| Damage::Flip(at, mask)),
        (place(), place()).prop_map(|(from, to)| Damage::Remove(from, to)),
        (place(), place()).prop_map(|(from, to)| Damage::Repeat(from, to)),
        (place(), inserted).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        place().prop_map(Damage::Truncate),
    ]
}

impl Damage {
    fn to(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        let place = |index: &Index| index.index(bytes.len() + 1);
        let span = |one: &Index, other: &Index| {
            let (one, other) = (place(one), place(other));
            // Short, so that most of the document remains.
            one.min(other)..one.max(other).min(one.min(other) + 40)
        };
        match self {
            Self::Flip(at, mask) => {
                let at = place(at);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= mask;
                }
            }
            Self::Remove(from, to) => drop(bytes.drain(span(from, to))),
            Self::Repeat(from, to) => {
                let span = span(from, to);
                let again = bytes.get(span.clone()).unwrap_or_default().to_vec();
                drop(bytes.splice(span.start..span.start, again));
            }
            Self::Insert(at, new) => {
                let at = place(at);
                drop(bytes.splice(at..at, new.iter().copied()));
            }
            Self::Truncate(at) => bytes.truncate(place(at)),
        }
        bytes
    }
}

/// The document with one to three values, at any depth, replaced, removed or renamed.
pub fn altered(document: Value) -> impl Strategy<Value = Value> {
    prop::collection::vec((any::<Index>(), alteration()), 1..=3).prop_map(move |alterations| {
        let mut document = document.clone();
        for (place, alteration) in alterations {
            let mut left = place.index(count(&document));
            alter(&mut document, &mut left, &alteration);
        }
        document
    })
}

#[derive(Debug, Clone)]
enum Alteration {
    Replace(Value),
    Remove,
    Rename(String),
}

fn alteration() -> impl Strategy<Value = Alteration> {
    prop_oneof![
        4 => any_value().prop_map(Alteration::Replace),
        1 => Just(Alteration::Remove),
        1 => "[a-z_]{0,6}".prop_map(Alteration::Rename),
    ]
}

/// Arbitrary JSON: all types, and values that parsers often mishandle.
pub fn any_value() -> impl Strategy<Value = Value> {
    let awkward = prop::sample::select(vec![
        json!(null),
        json!(0),
        json!(-1),
        json!(1e308),
        json!(9_007_199_254_740_993_u64),
        json!(u64::MAX),
        json!(""),
        json!("0"),
        json!("-1"),
        json!("+1"),
        json!("1"),
        json!("9223372036854775807"),
        json!("9223372036854775808"),
        json!("18446744073709551616"),
        json!("\u{0}"),
        json!("a\u{0}b\u{1}\u{7f}\u{85}"),
        json!("\u{feff}\u{202e}\u{200d}\u{fffd}\u{10ffff}"),
        json!(" \u{1} x \u{1} "),
        json!("x".repeat(40_000)),
        json!("1969-12-31T23:59:59Z"),
        json!("2201-01-01T00:00:00Z"),
        json!("2024-02-30T00:00:00Z"),
        json!("2016-12-31T23:59:60.999999999+23:59"),
        json!("0000-01-01T00:00:00Z"),
        nested(200),
        nested(20),
    ]);
    let leaf = prop_oneof![
        4 => awkward,
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        2 => any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-z_]{0,6}", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(json!(1), |value, _| json!([value]))
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(values) => values.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

/// Alters the value at position `left` in depth-first order. Returns whether it was in `value`.
fn alter(value: &mut Value, left: &mut usize, alteration: &Alteration) -> bool {
    if *left == 0 {
        *value = match alteration {
            Alteration::Replace(new) => new.clone(),
            Alteration::Remove | Alteration::Rename(_) => Value::Null,
        };
        return true;
    }
    *left -= 1;
    match value {
        Value::Array(values) => values.iter_mut().any(|value| alter(value, left, alteration)),
        Value::Object(fields) => {
            let keys: Vec<String> = fields.keys().cloned().collect();
            keys.into_iter().any(|key| in_field(fields, &key, left, alteration))
        }
        _ => false,
    }
}

fn in_field(fields: &mut Map<String, Value>, key: &str, left: &mut usize, alteration: &Alteration) -> bool {
    if *left == 0 {
        match alteration {
            Alteration::Remove => drop(fields.remove(key)),
            Alteration::Rename(name) => {
                if let Some(value) = fields.remove(key) {
                    fields.insert(name.clone(), value);
                }
            }
            Alteration::Replace(new) => drop(fields.insert(key.to_owned(), new.clone())),
        }
        return true;
    }
    fields.get_mut(key).is_some_and(|value| alter(value, left, alteration))
}
