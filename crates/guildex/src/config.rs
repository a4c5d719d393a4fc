//! The configuration: one TOML file, the environment over it, flags over both.
//!
//! [`Config`] is a plain struct with a `Default`; everything else follows from it. The keys, the kinds of their
//! values and the names of their variables are read off the serialised defaults, so a new field is a new key,
//! a new `GUILDEX_*` variable and a new `--set` at once. `docs/configuration.md` is the reader's side of it.

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

/// The configuration in force, and where each value of it came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    origins: BTreeMap<String, Origin>,
    /// The file that was read, if there is one.
    pub file: Option<PathBuf>,
}

impl Loaded {
    /// Where the value of a dotted key came from.
    pub fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }
}

impl Config {
    /// Reads the configuration: defaults, then the plain variables (`DATABASE_URL` and its like), then the file, then `GUILDEX_*` variables, then `overrides` as dotted keys with
    /// their values. The later wins.
    ///
    /// The file is `file`, or what `GUILDEX_CONFIG` names, or `guildex.toml` in the working directory, or
    /// `/etc/guildex/guildex.toml`; there need not be one. The process's environment is not looked at, only
    /// `env` is: see [`environment`].
    ///
    /// # Errors
    /// If the file cannot be read or is not TOML; otherwise with everything that is wrong, each with its key,
    /// where it came from and what to write instead.
    pub fn load(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        overrides: &[(String, String)],
    ) -> Result<Loaded, ConfigError> {
        // An empty variable is no variable: compose files and unit files pass on what is not set as empty.
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

/// The process's environment, for [`Config::load`]. What is not UTF-8 in a value is replaced, so that it fails
/// its key's check instead of being passed over.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
}
