//! Options of the benchmark.

use std::path::PathBuf;

use guildex_producer::sessionizer::Rules;
use guildex_types::Eligibility;

/// Options of the benchmark.
#[derive(Debug, Clone)]
pub struct Embed {
    /// Exports, or directories of exports.
    pub exports: Vec<PathBuf>,
    /// Rules of the sessionizer.
    pub rules: Rules,
    /// Sessions whose texts are used.
    pub eligible: Eligibility,
    /// Number of texts per run, sampled evenly.
    pub texts: usize,
    /// Maximum tokens of a text.
    pub tokens: usize,
    /// Runs of each method.
    pub runs: usize,
    /// Numbers of threads to compare.
    pub threads: Vec<usize>,
    /// Directory with the model in int8, to compare both precisions.
    pub int8: Option<PathBuf>,
}
