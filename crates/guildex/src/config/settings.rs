//! Merges layers of settings into the effective configuration.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::{Table, Value};

use super::Loaded;
use super::error::{ConfigError, Problem};
use super::keys::{Keys, insert};
use super::layers::{Layer, Setting};
use super::rules::rules;
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
    let mut table = Table::new();
    for key in keys.iter() {
        insert(&mut table, &key.name, key.default.clone());
    }
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
            Err(error) => problems.push(unreadable(setting, error.message())),
        }
    }
    problems.extend(broken_rules(&loaded));
    if problems.is_empty() { Ok(loaded) } else { Err(ConfigError::Invalid(problems)) }
}

/// Describes a value of the right type that is invalid. The messages of types contain advice, except those of numbers.
fn unreadable(setting: Setting, message: &str) -> Problem {
    let Setting { key, value, origin } = setting;
    let rule = rules(&Config::default()).into_iter().find(|rule| rule.key == key);
    let message = match (value, rule) {
        (Value::Integer(number), Some(rule)) => rule.message(&number.to_string()),
        _ => message.to_owned(),
    };
    Problem { key, origin, message }
}

fn broken_rules(loaded: &Loaded) -> impl Iterator<Item = Problem> {
    let broken = rules(&loaded.config).into_iter().filter(|rule| !rule.kept);
    broken.map(|rule| Problem {
        message: rule.message(&rule.found),
        origin: loaded.origin(&rule.key).clone(),
        key: rule.key,
    })
}
