//! Errors of the configuration, with what to write instead.

use std::fmt;
use std::path::PathBuf;

/// Origin of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Not set.
    Default,
    /// The configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// The command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            // A line break in a file name must not end the comment or message that contains it.
            Self::File { path, line } => {
                write!(f, "{} line {line}", path.to_string_lossy().escape_debug())
            }
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag => f.write_str("command line"),
        }
    }
}

/// An invalid key or value. The text never holds the value of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Dotted key, or the name of a variable that belongs to no key.
    pub key: String,
    /// Origin of the value.
    pub origin: Origin,
    /// Description, with what to write instead.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, origin, message } = self;
        match origin {
            Origin::Variable(name) if name == key => write!(f, "variable {key}: {message}"),
            _ => write!(f, "{key} ({origin}): {message}"),
        }
    }
}

/// Errors of loading the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file does not exist or cannot be opened.
    #[error(
        "cannot read the configuration file {path}: {source}; correct --config or GUILDEX_CONFIG, or the file's permissions"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The file is not TOML. The text shows the position but not the line, which may hold a secret.
    #[error("{path} is not TOML: line {line}, column {column}: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: usize,
        /// Message of the parser.
        message: String,
    },
    /// Invalid keys or values.
    #[error("invalid configuration:{}", .0.iter().map(|p| format!("\n  {p}")).collect::<String>())]
    Invalid(Vec<Problem>),
    /// A required value without a default is not set.
    #[error("{key} is not set: add it to the configuration file, or set {}", .variables.join(" or "))]
    Missing {
        /// Dotted key.
        key: &'static str,
        /// Variables that set it.
        variables: [&'static str; 2],
    },
}
