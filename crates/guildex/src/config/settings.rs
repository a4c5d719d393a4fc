//! Merges layers of settings into the effective configuration.

use std::collections::BTreeMap;

use garde::Validate;
use serde::Deserialize;
use toml::{Table, Value};

use super::Loaded;
use super::error::{ConfigError, Problem};
use super::keys::{Keys, insert, join};
use super::layers::{Layer, Setting};
use super::schema::Config;

/// Merges the settings, of which later ones override earlier ones, parses each and checks the result.
///
/// # Errors
/// [`ConfigError::Invalid`] with every problem, those of the layers first.
pub fn resolve(keys: &Keys, layers: Layer) -> Result<Loaded, ConfigError> {
    let (mut winners, mut problems) = (BTreeMap::new(), Vec::new());
    for setting in layers {
        match setting {
            Ok(setting) => {
                winners.insert(setting.key.clone(), setting);
            }
            Err(problem) => problems.push(problem),
        }
    }
    let mut loaded = Loaded { config: Config::default(), origins: BTreeMap::new(), file: None };
    let mut table = defaults(keys);
    // One at a time, so that each invalid value is reported with its key.
    for setting in winners.into_values() {
        let mut next = table.clone();
        insert(&mut next, &setting.key, setting.value.clone());
        match Config::deserialize(next.clone()) {
            Ok(config) => {
                loaded.config = config;
                loaded.origins.insert(setting.key, setting.origin);
                table = next;
            }
            Err(error) => problems.push(unreadable(keys, setting, error.message())),
        }
    }
    problems.extend(violations(keys, &loaded.config).into_iter().map(|(key, message)| Problem {
        origin: loaded.origin(&key).clone(),
        key,
        message,
    }));
    if problems.is_empty() { Ok(loaded) } else { Err(ConfigError::Invalid(problems)) }
}

fn defaults(keys: &Keys) -> Table {
    let mut table = Table::new();
    for key in keys.iter() {
        insert(&mut table, &key.name, key.default.clone());
    }
    table
}

/// Describes a value of the right type that is invalid. The messages of types contain advice, except those of integers.
fn unreadable(keys: &Keys, setting: Setting, message: &str) -> Problem {
    let Setting { key, value, origin } = setting;
    let message = match value {
        Value::Integer(number) => out_of_range(keys, &key, number),
        _ => None,
    }
    .unwrap_or_else(|| message.to_owned());
    Problem { key, origin, message }
}

/// Message of a key's check about an integer that its type cannot hold: the one about another integer that is out of
/// range.
fn out_of_range(keys: &Keys, key: &str, number: i64) -> Option<String> {
    [0, i64::from(u32::MAX)].into_iter().find_map(|other| {
        let mut table = defaults(keys);
        insert(&mut table, key, other.into());
        let config = Config::deserialize(table).ok()?;
        let (_, message) = violations(keys, &config).into_iter().find(|(name, _)| name == key)?;
        message.strip_prefix(&other.to_string()).map(|rest| format!("{number}{rest}"))
    })
}

/// Keys whose values are not allowed, in the order of the schema, and the messages of their checks.
fn violations(keys: &Keys, config: &Config) -> Vec<(String, String)> {
    let report = config.validate().err().map(garde::Report::into_inner).unwrap_or_default();
    let with_key = |(path, error): (garde::Path, garde::Error)| {
        let key = path.to_string();
        let message = with_whole_keys(&key, error.message());
        (key, message)
    };
    let mut violations: Vec<_> = report.into_iter().map(with_key).collect();
    // garde sorts the fields of a struct by name. A model's own name is reported under its section.
    violations.sort_by_key(|(key, _)| keys.names().position(|name| name.starts_with(key.as_str())));
    violations
}

/// Replaces names of other keys of the section, which checks write in backticks, by whole keys.
fn with_whole_keys(key: &str, message: &str) -> String {
    let section = key.rsplit_once('.').map_or("", |(section, _)| section);
    // Only what is allowed is the check's own text.
    let Some((found, allowed)) = message.rsplit_once("; use ") else { return message.to_owned() };
    let parts = allowed.split('`').enumerate();
    let allowed: String =
        parts.map(|(i, part)| if i % 2 == 1 { join(section, part) } else { part.to_owned() }).collect();
    format!("{found}; use {allowed}")
}
