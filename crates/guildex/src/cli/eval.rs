//! `guildex eval`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use guildex_index::bm25;
use guildex_types::ModelSlug;

use super::SearchMode;

/// See [`Command::Eval`](super::Command::Eval).
#[derive(Debug, Subcommand)]
pub enum Eval {
    /// Compare sessions with annotated conversations
    Sessions(EvalSessions),
    /// Search for the first message of each annotated conversation and measure whether the rest is found
    Retrieval(EvalRetrieval),
}

/// See [`Eval::Sessions`].
#[derive(Debug, Args)]
pub struct EvalSessions {
    /// Directory of exports (NAME.json or NAME.json.gz)
    #[arg(long, value_name = "DIR")]
    pub exports: PathBuf,
    /// Directory of annotations (NAME.json)
    #[arg(long, value_name = "DIR")]
    pub annotations: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// See [`Eval::Retrieval`].
#[derive(Debug, Args)]
pub struct EvalRetrieval {
    /// Directory of exports (NAME.json or NAME.json.gz); all channels count as one guild
    #[arg(long, value_name = "DIR")]
    pub exports: PathBuf,
    /// Directory of annotations (NAME.json)
    #[arg(long, value_name = "DIR")]
    pub annotations: PathBuf,
    /// Configured models to compare [default: model.name]
    #[arg(long, value_name = "MODEL,...", value_delimiter = ',')]
    pub models: Vec<ModelSlug>,
    /// Directory with model.name in int8, to compare both precisions; `scripts/model fp32` creates both
    #[arg(long, value_name = "DIR", env = "GUILDEX_INT8_MODEL_DIR")]
    pub int8: Option<PathBuf>,
    /// Session methods
    #[arg(long, value_name = "METHOD,...", value_delimiter = ',', default_value = "sessionizer,plain,gap")]
    pub methods: Vec<SessionMethod>,
    /// Ranking modes
    #[arg(long, value_name = "MODE,...", value_delimiter = ',', default_value = "dense,sparse,hybrid")]
    pub modes: Vec<SearchMode>,
    /// Language of the guild, for stemming [default: none]
    #[arg(long)]
    pub language: Option<bm25::Language>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Method to group messages into sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SessionMethod {
    /// The sessionizer of Guildex
    Sessionizer,
    /// Replies, mentions within 60 minutes, else the author's own last message within 5
    Plain,
    /// A new session after each pause of more than 30 minutes
    Gap,
}
