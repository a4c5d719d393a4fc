//! The configuration: one TOML file, the environment over it, flags over both.
//!
//! [`Config`] is a plain struct with a `Default`. Keys, types of values and names of variables are derived from the
//! serialized defaults, so a new field adds a key, a `GUILDEX_*` variable and a `--set` flag.
//! `docs/configuration.md` describes the keys.

mod check;
mod error;
mod keys;
mod layers;
pub mod models;
pub mod schema;
mod settings;
mod show;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use error::{ConfigError, Origin};
pub use layers::key_value;
pub use schema::{Backend, Config, Log, LogFormat};

use keys::Keys;

/// The effective configuration with the origin of each value.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    origins: BTreeMap<String, Origin>,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
}

impl Loaded {
    /// Origin of the value of a dotted key.
    pub fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }
}

impl Config {
    /// Loads the configuration: defaults, plain variables (such as `DATABASE_URL`), the file, `GUILDEX_*` variables, and
    /// `overrides` as dotted keys with their values. Later values override earlier ones.
    ///
    /// The file is `file`, the value of `GUILDEX_CONFIG`, `guildex.toml` in the working directory, or
    /// `/etc/guildex/guildex.toml`; it is optional. Variables are read from `env` alone, not from the process: see
    /// [`environment`].
    ///
    /// # Errors
    /// If the file cannot be read or is not TOML, or with all invalid keys and values, each with its origin and advice.
    pub fn load(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        overrides: &[(String, String)],
    ) -> Result<Loaded, ConfigError> {
        // Compose files and unit files pass unset variables as empty ones.
        let env: BTreeMap<_, _> = env.filter(|(_, value)| !value.trim().is_empty()).collect();
        let file = layers::find_file(file, &env, &layers::FILES.map(Path::new));
        let keys = Keys::new(layers::models(file.as_deref(), overrides));

        let mut layers = layers::plain_variables(&keys, &env);
        if let Some(path) = &file {
            layers.extend(layers::file(&keys, path)?);
        }
        layers.extend(layers::variables(&keys, &env));
        layers.extend(layers::flags(&keys, overrides));
        Ok(Loaded { file, ..settings::resolve(&keys, layers)? })
    }
}

/// Variables of the process, for [`Config::load`]. Bytes that are not UTF-8 are replaced, so that such a value fails its
/// check instead of being ignored.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
}
