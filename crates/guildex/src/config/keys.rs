//! The keys of the configuration, derived from its serialized defaults.

use toml::{Table, Value};

use super::models::{Models, NamedModel};
use super::schema::Config;

/// Every key, in the order of the schema.
pub struct Keys(Vec<Key>);

/// One key.
pub struct Key {
    /// Dotted name, such as `worker.batch_size`.
    pub name: String,
    /// Default, which also determines the type of values.
    pub default: Value,
}

impl Keys {
    /// The keys of [`Config`], with a section for each of these models.
    pub fn new(models: impl IntoIterator<Item = String>) -> Self {
        let mut keys = Vec::new();
        let sections = models.into_iter().map(|name| (name, NamedModel::default())).collect();
        collect("", &table_of(&Config { models: Models(sections), ..Config::default() }), &mut keys);
        Self(keys)
    }

    /// Iterates over all keys.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.0.iter()
    }

    /// Iterates over the names of all keys.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|key| key.name.as_str())
    }

    /// Returns the key with this name.
    pub fn get(&self, name: &str) -> Option<&Key> {
        self.iter().find(|key| key.name == name)
    }

    /// Iterates over the sections, such as `worker` and `worker.concurrency`.
    pub fn sections(&self) -> impl Iterator<Item = &str> {
        self.iter().flat_map(|key| key.name.match_indices('.').filter_map(|(dot, _)| key.name.get(..dot)))
    }
}

impl Key {
    /// The environment variable that sets it: `GUILDEX_WORKER_BATCH_SIZE`.
    pub fn variable(&self) -> String {
        format!("GUILDEX_{}", self.name.replace(['.', '-'], "_").to_uppercase())
    }

    /// Parses the text of a variable or flag as a value of this key's type. Lists are separated by commas.
    ///
    /// # Errors
    /// If it is invalid, with a description of valid values that does not contain the text.
    pub fn parse(&self, text: &str) -> Result<Value, String> {
        let text = text.trim();
        let value = match &self.default {
            Value::Integer(_) => text.parse().ok().map(Value::Integer),
            Value::Float(_) => text.parse().ok().map(Value::Float),
            Value::Boolean(_) => text.parse().ok().map(Value::Boolean),
            Value::Array(_) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Some(items.map(Value::from).collect::<Vec<_>>().into())
            }
            _ => Some(text.into()),
        };
        value.ok_or_else(|| self.expected())
    }

    /// Checks that a value of the file has this key's type; nothing is converted.
    ///
    /// # Errors
    /// If it has not, with a description of valid values that does not contain the value.
    pub fn check_kind(&self, value: &Value) -> Result<(), String> {
        let fits = match (&self.default, value) {
            (Value::Array(_), Value::Array(items)) => items.iter().all(Value::is_str),
            // An integer is accepted as a float.
            (Value::Float(_), Value::Integer(_)) => true,
            (default, value) => default.same_type(value),
        };
        if fits { Ok(()) } else { Err(self.expected()) }
    }

    /// Description of valid values.
    pub fn expected(&self) -> String {
        match &self.default {
            Value::Integer(default) => format!("expected a whole number, such as {default}"),
            Value::Float(default) => format!("expected a number, such as {default:?}"),
            Value::Boolean(_) => "expected true or false".to_owned(),
            Value::Array(_) => "expected a list of texts, such as [\"123\", \"456\"]".to_owned(),
            Value::String(default) if !default.is_empty() => {
                format!("expected a text in quotes, such as \"{default}\"")
            }
            _ => "expected a text in quotes".to_owned(),
        }
    }
}

/// The configuration as TOML, secrets hidden.
pub fn table_of(config: &Config) -> Table {
    #[expect(clippy::expect_used, reason = "its texts, lists and numbers came out of TOML")]
    Table::try_from(config).expect("the configuration is a table of plain values")
}

/// Inserts a value under a dotted key.
pub fn insert(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((section, rest)) => {
            let inner = table.entry(section).or_insert_with(|| Table::new().into());
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

fn collect(section: &str, table: &Table, keys: &mut Vec<Key>) {
    for (name, value) in table {
        let name = join(section, name);
        match value {
            Value::Table(inner) => collect(&name, inner, keys),
            default => keys.push(Key { name, default: default.clone() }),
        }
    }
}

/// Dotted name of `name` in a section; the top level has no section.
pub fn join(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}
