//! What can be wrong with a configuration, told so that it can be put right.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// An environment variable, by name.
    Variable(String),
    /// The command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            // Escaped: a line break in a file's name must not end the comment or message that it stands in.
            Self::File { path, line } => {
                write!(f, "{} line {line}", path.to_string_lossy().escape_debug())
            }
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag => f.write_str("command line"),
        }
    }
}

/// One thing that is wrong. Its text never holds the value of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The dotted key, or the variable's name if no key belongs to it.
    pub key: String,
    /// Where the value stands.
    pub origin: Origin,
    /// What is wrong, and what to write instead.
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

/// Why there is no configuration to start with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or cannot be opened.
    #[error(
        "cannot read the configuration file {path}: {source}; correct --config or GUILDEX_CONFIG, or the file's rights"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not TOML. Shows the place but not the line, which may hold a secret.
    #[error("{path} is not TOML: line {line}, column {column}: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: usize,
        /// What the parser found missing or in the way.
        message: String,
    },
    /// Keys or values that cannot be.
    #[error("the configuration cannot be used:{}", .0.iter().map(|p| format!("\n  {p}")).collect::<String>())]
    Invalid(Vec<Problem>),
    /// A value that has no default and is needed now.
    #[error("{key} is not set: put it into the configuration file, or set {}", .variables.join(" or "))]
    Missing {
        /// The dotted key.
        key: &'static str,
        /// The variables that would set it.
        variables: [&'static str; 2],
    },
}
