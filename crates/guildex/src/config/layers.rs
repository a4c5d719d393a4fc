//! The four layers of settings: plain variables, file, `GUILDEX_*` variables, flags. Each yields settings or problems;
//! later layers override earlier ones.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Value;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::error::{ConfigError, Origin, Problem};
use super::keys::{Keys, join};

/// A value that is set in a layer.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Dotted key.
    pub key: String,
    /// Value, of which only the type is checked.
    pub value: Value,
    /// Origin.
    pub origin: Origin,
}

/// Settings and problems of a layer, in its order.
pub type Layer = Vec<Result<Setting, Problem>>;

/// Default paths of the file.
pub const FILES: [&str; 2] = ["guildex.toml", "/etc/guildex/guildex.toml"];

/// Variables that other programs share, and the keys that they set.
pub const PLAIN: [(&str, &str); 5] = [
    ("DATABASE_URL", "database.url"),
    ("REDIS_URL", "redis.url"),
    ("ORT_DYLIB_PATH", "model.onnxruntime"),
    ("QDRANT_URL", "index.server.url"),
    ("QDRANT_API_KEY", "index.server.api_key"),
];

const PREFIX: &str = "GUILDEX_";
/// Section with one subsection for each named model.
const MODELS: &str = "models";

/// Names of variables that are not keys. `up` passes its number of restarts to itself in `GUILDEX_RESTARTS`; scripts and
/// tests use others. Kubernetes sets the last two in every pod beside a service called `guildex`.
const RESERVED: [&str; 7] = [
    "GUILDEX_CONFIG",
    "GUILDEX_INT8_MODEL_DIR",
    "GUILDEX_RESTARTS",
    "GUILDEX_BENCH_",
    "GUILDEX_TEST_",
    "GUILDEX_SERVICE_",
    "GUILDEX_PORT",
];

type Environment = BTreeMap<String, String>;

/// The named file, or else the first of `places` that exists.
pub fn find_file(named: Option<&Path>, env: &Environment, places: &[&Path]) -> Option<PathBuf> {
    let variable = || env.get("GUILDEX_CONFIG").map(PathBuf::from);
    // A path that cannot be checked counts as existing: reading it reports the reason.
    let is_there = |place: &Path| place.try_exists().unwrap_or(true);
    let found = || places.iter().find(|place| is_there(place)).map(|place| place.to_path_buf());
    named.map(Path::to_path_buf).or_else(variable).or_else(found)
}

/// Names of models with a section in the file or a flag. Ignores errors of the file, which [`file`] reports.
pub fn models(file: Option<&Path>, overrides: &[(String, String)]) -> BTreeSet<String> {
    let text = file.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    let table = text.parse::<toml::Table>().unwrap_or_default();
    let sections = table.get("models").and_then(Value::as_table);
    let named = sections.into_iter().flatten().filter(|(_, section)| section.is_table());
    let flags = overrides.iter().filter_map(|(key, _)| key.strip_prefix("models.")?.split_once('.'));
    named.map(|(name, _)| name.clone()).chain(flags.map(|(name, _)| name.to_owned())).collect()
}

/// Splits a flag's `KEY=VALUE`.
///
/// # Errors
/// If there is no `=`.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE, such as worker.batch_size=32")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

/// Reads plain variables, such as `DATABASE_URL`.
pub fn plain_variables(keys: &Keys, env: &Environment) -> Layer {
    PLAIN
        .into_iter()
        .filter_map(|(name, key)| Some(setting(keys, key, env.get(name)?, Origin::Variable(name.to_owned()))))
        .collect()
}

/// Reads `GUILDEX_*` variables.
pub fn variables(keys: &Keys, env: &Environment) -> Layer {
    let names: Vec<(String, &str)> = keys.iter().map(|key| (key.variable(), key.name.as_str())).collect();
    let ours = env.iter().filter(|(name, _)| name.starts_with(PREFIX) && !is_reserved(name));
    ours.map(|(name, text)| match names.iter().find(|(known, _)| known == name) {
        Some((_, key)) => setting(keys, key, text, Origin::Variable(name.clone())),
        None => {
            Err(unknown(name, Origin::Variable(name.clone()), names.iter().map(|(known, _)| known.as_str())))
        }
    })
    .collect()
}

/// Reads flags: dotted keys with their values.
pub fn flags(keys: &Keys, overrides: &[(String, String)]) -> Layer {
    overrides.iter().map(|(key, text)| setting(keys, key, text, Origin::Flag)).collect()
}

/// Reads the file.
///
/// # Errors
/// If it cannot be read or is not TOML.
pub fn file(keys: &Keys, path: &Path) -> Result<Layer, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    // The parser's display shows the line, which may contain a secret; its message does not.
    let table = DeTable::parse(&text).map_err(|error| {
        let (line, column) = place(&text, error.span().map_or(0, |span| span.start));
        let message = error.message().to_owned();
        ConfigError::Syntax { path: path.to_owned(), line, column, message }
    })?;
    let origin = |at| Origin::File { path: path.to_owned(), line: place(&text, at).0 };
    let mut layer = Layer::new();
    collect(keys, "", table.get_ref(), &origin, &mut layer);
    Ok(layer)
}

/// Collects the settings of a table. An empty text counts as not set.
fn collect(
    keys: &Keys,
    section: &str,
    table: &DeTable<'_>,
    origin: &dyn Fn(usize) -> Origin,
    layer: &mut Layer,
) {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    for (name, value) in entries {
        let key = join(section, name.get_ref());
        let is_section = keys.sections().any(|section| section == key);
        let here = origin(name.span().start);
        let problem = |message: String| Problem { key: key.clone(), origin: here.clone(), message };
        match (keys.get(&key), value.get_ref()) {
            (None, DeValue::Table(inner)) if key == MODELS => collect(keys, &key, inner, origin, layer),
            (None, DeValue::Table(inner)) if is_section => collect(keys, &key, inner, origin, layer),
            (None, _) if is_section => {
                layer.push(Err(problem(format!("a section: write [{key}] and its keys below"))));
            }
            (None, DeValue::Table(_)) => layer.push(Err(unknown(&key, here, keys.sections()))),
            (None, _) => layer.push(Err(unknown(&key, here, keys.names()))),
            (Some(_), DeValue::String(text)) if text.trim().is_empty() => {}
            (Some(known), _) => {
                let value = Value::deserialize(ValueDeserializer::from(value.clone()))
                    .map_err(|_| known.expected())
                    .and_then(|value| known.check_kind(&value).map(|()| value));
                layer.push(match value {
                    Ok(value) => Ok(Setting { key, value, origin: here }),
                    Err(message) => Err(problem(message)),
                });
            }
        }
    }
}

fn setting(keys: &Keys, key: &str, text: &str, origin: Origin) -> Result<Setting, Problem> {
    let Some(known) = keys.get(key) else {
        return Err(unknown(key, origin, keys.names()));
    };
    match known.parse(text) {
        Ok(value) => Ok(Setting { key: key.to_owned(), value, origin }),
        Err(message) => Err(Problem { key: key.to_owned(), origin, message }),
    }
}

fn is_reserved(name: &str) -> bool {
    RESERVED.iter().any(|reserved| {
        let rest = name.strip_prefix(reserved);
        rest.is_some_and(|rest| rest.is_empty() || reserved.ends_with('_') || rest.starts_with("_"))
    })
}

/// Problem of an unknown name, with the most similar known name.
fn unknown<'a>(name: &str, origin: Origin, known: impl Iterator<Item = &'a str>) -> Problem {
    /// Minimum similarity of a suggested name.
    const MIN_SIMILARITY: f64 = 0.5;
    // The common prefix of variables does not count.
    let stem = |name: &str| name.strip_prefix(PREFIX).unwrap_or(name).to_owned();
    let nearest = known
        .map(|known| (strsim::normalized_damerau_levenshtein(&stem(name), &stem(known)), known))
        .filter(|(similarity, _)| *similarity >= MIN_SIMILARITY)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let message = match nearest {
        Some((_, known)) => format!("no such setting; did you mean {known}?"),
        None => "no such setting; docs/configuration.md lists all".to_owned(),
    };
    // A name with other characters is a mistake, such as a URL in the wrong place, and may contain a secret.
    let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    let key = if is_name { name } else { "(a key with special characters)" };
    Problem { key: key.to_owned(), origin, message }
}

/// Line and column of a byte in the text, both counted from 1.
fn place(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    (line, column)
}
