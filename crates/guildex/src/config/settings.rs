//! From layers of settings to a configuration in force.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::{Table, Value};

use super::Loaded;
use super::error::{ConfigError, Problem};
use super::keys::{Keys, insert};
use super::layers::{Layer, Setting};
use super::rules::rules;
use super::schema::Config;

/// Lets later settings win, reads each, and checks the whole.
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
    // One after the other, so that a bad value is told with its key and hides no other.
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

/// A value of the right kind that its type does not take. Types' own messages name the fix, but for numbers.
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
