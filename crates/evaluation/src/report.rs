//! The outcome, as a table and as JSON.

use std::fmt;

use guildex_index::Mode;
use guildex_types::ModelSlug;
use serde::Serialize;

use crate::{Method, Scores};

/// What was asked, and how every way did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Channels, all of them searched at once.
    pub channels: usize,
    /// Messages in them, without the questions.
    pub messages: usize,
    /// Conversations whose first message was asked.
    pub questions: usize,
    /// By model, method and mode.
    pub rows: Vec<Row>,
}

/// One way and its scores.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The model, its precision included.
    pub model: ModelSlug,
    /// How sessions were made.
    pub method: &'static str,
    /// What ranked.
    pub mode: Mode,
    /// How many points there were to be found.
    pub points: usize,
    /// How well it did.
    #[serde(flatten)]
    pub scores: Scores,
}

/// The name of a method, as it is asked for and reported.
pub fn name_of(method: &Method) -> &'static str {
    match method {
        Method::Sessionizer(_) => "sessionizer",
        Method::Plain => "plain",
        Method::Gap => "gap",
    }
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
