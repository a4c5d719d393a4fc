//! Reads raw JSON into typed fields. Errors do not quote the value.

use std::str::FromStr;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::RejectReason;

/// Maximum length of a name in characters; Discord's own limit.
const MAX_NAME: usize = 100;

/// Deserializes `raw` as a `T` that borrows from it.
pub(crate) fn parse<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, RejectReason> {
    serde_json::from_str(raw.get()).or_else(|_| {
        // The slow path is rare: a tree accepts duplicate fields and gives the path of the error.
        let tree: Value = serde_json::from_str(raw.get()).map_err(|_| RejectReason::InvalidValue)?;
        serde_path_to_error::deserialize(tree)
            .map_err(|error| RejectReason::InvalidField { path: error.path().to_string() })
    })
}

/// Parses the id in `field`.
pub(crate) fn id<Id: FromStr>(field: &'static str, text: &str) -> Result<Id, RejectReason> {
    text.parse().map_err(|_| RejectReason::InvalidId { field })
}

/// Cleans a name: one line, no control characters, trimmed, truncated. `None` if nothing remains.
pub(crate) fn name(text: &str) -> Option<String> {
    let mut name = String::with_capacity(text.len().min(MAX_NAME * 4));
    // Bidirectional control characters would also affect the text after the name in tables and previews.
    let is_bidi_control = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let separates = |c: char| c.is_whitespace() || c.is_control() || is_bidi_control(c);
    for word in text.split(separates).filter(|word| !word.is_empty()).take(MAX_NAME) {
        if !name.is_empty() {
            name.push(' ');
        }
        name.extend(word.chars().take(MAX_NAME));
    }
    if let Some((end, _)) = name.char_indices().nth(MAX_NAME) {
        name.truncate(end);
        name.truncate(name.trim_end().len());
    }
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_short_clean_line() {
        assert_eq!(name(" Ann\r\n of\u{0}the\u{2028}Hill ").as_deref(), Some("Ann of the Hill"));
        assert_eq!(name("\u{0}\u{7} \n"), None);
        assert_eq!(name("🌲").as_deref(), Some("🌲"));
        assert_eq!(name(&"é".repeat(300)).unwrap().chars().count(), 100);
        assert_eq!(name(&format!("{} tail", "x".repeat(99))).unwrap(), "x".repeat(99));
    }

    #[test]
    fn reasons_give_the_path_but_not_the_value() {
        #[derive(Debug, Deserialize)]
        struct Outer {
            #[expect(dead_code, reason = "only its type matters")]
            inner: Vec<u8>,
        }
        let reason = |json: &str| {
            let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
            parse::<Outer>(&raw).unwrap_err()
        };
        assert_eq!(
            reason(r#"{"inner":[1,"secret"]}"#),
            RejectReason::InvalidField { path: "inner[1]".into() }
        );
        assert_eq!(reason(r#"{"secret":1}"#), RejectReason::InvalidField { path: ".".into() });
        assert_eq!(reason(r#"{"inner":"\ud800"}"#), RejectReason::InvalidValue);
        assert_eq!(reason(&format!("{}{}", "[".repeat(5000), "]".repeat(5000))), RejectReason::InvalidValue);
    }

    #[test]
    fn the_last_of_duplicate_fields_wins() {
        #[derive(Deserialize)]
        struct One {
            a: u8,
        }
        let raw: Box<RawValue> = serde_json::from_str(r#"{"a":1,"a":2}"#).unwrap();
        assert_eq!(parse::<One>(&raw).unwrap().a, 2);
    }
}
