//! Report of an evaluation, as a table and as JSON.

use std::fmt;

use serde::Serialize;

use super::scores::Scores;

/// Figures of each channel and of all channels together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Channels, sorted by name.
    pub channels: Vec<Figures>,
    /// All channels counted together, which differs from the mean of the channels.
    pub total: Figures,
}

/// Size of a channel and the scores of each method.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// File name of the channel without extension; `total` for all channels.
    pub name: String,
    /// Partitioned messages.
    pub messages: usize,
    /// Annotated messages, which are scored.
    pub annotated: usize,
    /// Annotated conversations, including those of one message.
    pub conversations: usize,
    /// Scores of the sessionizer.
    pub sessionizer: Scores,
    /// Scores of the baseline [`Method::Plain`](super::Method::Plain).
    pub plain: Scores,
    /// Scores of the baseline [`Method::Gap`](super::Method::Gap).
    pub gap: Scores,
}

/// Formats the total as a table for a terminal.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { messages, annotated, conversations, .. } = self.total;
        let channels = self.channels.len();
        writeln!(
            f,
            "{channels} channels, {messages} messages, {annotated} annotated in {conversations} conversations"
        )?;
        writeln!(f)?;
        writeln!(
            f,
            "{:<14}{:>7}{:>13}{:>10}{:>11}{:>8}",
            "percent", "1-VI", "one-to-one", "exact F1", "precision", "recall"
        )?;
        let methods = [
            ("sessionizer", self.total.sessionizer),
            ("plain links", self.total.plain),
            ("30-minute gap", self.total.gap),
        ];
        for (name, Scores { vi, one_to_one, exact_f1, precision, recall }) in methods {
            writeln!(
                f,
                "{name:<14}{vi:>7.1}{one_to_one:>13.1}{exact_f1:>10.1}{precision:>11.1}{recall:>8.1}"
            )?;
        }
        Ok(())
    }
}
