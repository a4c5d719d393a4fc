//! One raw piece of JSON as a type of ours, with a reason that quotes nothing where it is none.

use std::str::FromStr;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::error::Reason;

/// The most characters of a name that are kept; Discord's own limit.
const MAX_NAME: usize = 100;

/// Reads `raw` as a `T`, borrowing from it.
pub(super) fn read<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, Reason> {
    serde_json::from_str(raw.get()).or_else(|_| {
        // Rare, so it may be slow: a tree forgives a field that comes twice, and knows where the fault lies.
        let tree: Value = serde_json::from_str(raw.get()).map_err(|_| Reason::Unsound)?;
        serde_path_to_error::deserialize(tree)
            .map_err(|error| Reason::Shape { path: error.path().to_string() })
    })
}

/// Reads the id in `field`.
pub(super) fn id<Id: FromStr>(field: &'static str, text: &str) -> Result<Id, Reason> {
    text.parse().map_err(|_| Reason::Id { field })
}

/// `text` as a name: one line, no control characters, no blank ends, not too long. `None` if nothing is left.
pub(super) fn name(text: &str) -> Option<String> {
    let mut name = String::with_capacity(text.len().min(MAX_NAME * 4));
    // Marks that turn the direction of what follows would turn it in tables and previews, too.
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let separates = |c: char| c.is_whitespace() || c.is_control() || turns(c);
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
    fn reasons_say_where_and_never_what() {
        #[derive(Debug, Deserialize)]
        struct Outer {
            #[expect(dead_code, reason = "read for its type alone")]
            inner: Vec<u8>,
        }
        let reason = |json: &str| {
            let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
            read::<Outer>(&raw).unwrap_err()
        };
        assert_eq!(reason(r#"{"inner":[1,"secret"]}"#), Reason::Shape { path: "inner[1]".into() });
        assert_eq!(reason(r#"{"secret":1}"#), Reason::Shape { path: ".".into() });
        assert_eq!(reason(r#"{"inner":"\ud800"}"#), Reason::Unsound);
        assert_eq!(reason(&format!("{}{}", "[".repeat(5000), "]".repeat(5000))), Reason::Unsound);
    }

    #[test]
    fn of_a_field_that_comes_twice_the_last_counts() {
        #[derive(Deserialize)]
        struct One {
            a: u8,
        }
        let raw: Box<RawValue> = serde_json::from_str(r#"{"a":1,"a":2}"#).unwrap();
        assert_eq!(read::<One>(&raw).unwrap().a, 2);
    }
}
