//! Report of an evaluation, as a table and as JSON.

use std::fmt;

use guildex_index::Mode;
use guildex_types::ModelSlug;
use serde::Serialize;

use super::scores::Scores;

/// Size of the corpus and the scores of every combination.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Channels, which are searched together.
    pub channels: usize,
    /// Messages of the channels, without the questions.
    pub messages: usize,
    /// Questions, one per conversation.
    pub questions: usize,
    /// Scores by model, method and mode.
    pub rows: Vec<Row>,
}

/// Scores of one model, method and mode.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Model, including its precision.
    pub model: ModelSlug,
    /// Name of the method that made the sessions.
    pub method: &'static str,
    /// Search mode.
    pub mode: Mode,
    /// Points in the collection.
    pub points: usize,
    /// Measures.
    #[serde(flatten)]
    pub scores: Scores,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { channels, messages, questions, rows } = self;
        writeln!(f, "{questions} questions to {messages} messages of {channels} channels; percent\n")?;
        let width = rows.iter().map(|row| row.model.as_str().len()).max().unwrap_or(0).max(5);
        writeln!(
            f,
            "{:<width$}  {:<12} {:<7} {:>7} {:>10} {:>10} {:>10} {:>7} {:>11}",
            "model",
            "sessions",
            "mode",
            "points",
            "success@1",
            "success@5",
            "success@10",
            "MRR@10",
            "coverage@5"
        )?;
        for Row { model, method, mode, points, scores } in rows {
            let Scores { success_1, success_5, success_10, mrr_10, coverage_5 } = scores;
            let mode = match mode {
                Mode::Dense => "dense",
                Mode::Sparse => "sparse",
                Mode::Hybrid => "hybrid",
            };
            writeln!(
                f,
                "{:<width$}  {method:<12} {mode:<7} {points:>7} {success_1:>10.1} {success_5:>10.1} \
                 {success_10:>10.1} {mrr_10:>7.1} {coverage_5:>11.1}",
                model.as_str(),
            )?;
        }
        Ok(())
    }
}
