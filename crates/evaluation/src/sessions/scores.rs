//! Compares a partition with annotated conversations, in the measures of Kummerfeld et al., "A Large-Scale Corpus for
//! Conversation Disentanglement" (ACL 2019), as computed by their `conversation-eval.py`.

use std::collections::HashMap;
use std::hash::Hash;

use guildex_types::MessageId;
use pathfinding::kuhn_munkres::kuhn_munkres;
use pathfinding::matrix::Matrix;
use serde::Serialize;

/// Measures in percent; higher is better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Scores {
    /// 1 - VI: variation of information, scaled by its bound `log2(messages)`.
    pub vi: f64,
    /// One-to-one overlap: messages that agree under the best pairing of conversations with sessions.
    pub one_to_one: f64,
    /// Share of the sessions of two or more messages that match a conversation exactly.
    pub precision: f64,
    /// Share of the conversations of two or more messages that match a session exactly.
    pub recall: f64,
    /// Harmonic mean of precision and recall.
    pub exact_f1: f64,
}

/// Scores the sessions of a channel. `session` returns the session of each annotated message.
pub fn score<S: Copy + Eq + Hash>(annotated: &[Vec<MessageId>], session: impl Fn(MessageId) -> S) -> Scores {
    Tally::count(annotated, session).scores()
}

/// Counts of one or more channels. Conversations never span channels, so counts can be added.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    messages: usize,
    overlap: usize,
    /// Sizes of conversation, session and intersection of each pair that intersects.
    intersections: Vec<(usize, usize, usize)>,
    annotated: usize,
    found: usize,
    matched: usize,
}

impl Tally {
    /// Counts one channel. `session` returns the session of each annotated message.
    pub fn count<S: Copy + Eq + Hash>(
        annotated: &[Vec<MessageId>],
        session: impl Fn(MessageId) -> S,
    ) -> Self {
        let mut columns = HashMap::new();
        let mut sizes: Vec<usize> = Vec::new();
        let mut rows: Vec<HashMap<usize, usize>> = Vec::with_capacity(annotated.len());
        for conversation in annotated {
            let mut row = HashMap::new();
            for message in conversation {
                let next = columns.len();
                let column = *columns.entry(session(*message)).or_insert(next);
                if column == sizes.len() {
                    sizes.push(0);
                }
                if let Some(size) = sizes.get_mut(column) {
                    *size += 1;
                }
                *row.entry(column).or_insert(0) += 1;
            }
            rows.push(row);
        }
        let intersections: Vec<_> = annotated
            .iter()
            .zip(&rows)
            .flat_map(|(conversation, row)| {
                let size = |column: &usize| sizes.get(*column).copied().unwrap_or(0);
                row.iter().map(move |(column, n)| (conversation.len(), size(column), *n))
            })
            .collect();
        Self {
            messages: annotated.iter().map(Vec::len).sum(),
            overlap: best_overlap(&rows, sizes.len()),
            annotated: annotated.iter().filter(|conversation| conversation.len() > 1).count(),
            found: sizes.iter().filter(|size| **size > 1).count(),
            matched: intersections.iter().filter(|(g, s, n)| *n > 1 && g == n && s == n).count(),
            intersections,
        }
    }

    /// Adds another channel's counts.
    pub fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.overlap += other.overlap;
        self.intersections.extend_from_slice(&other.intersections);
        self.annotated += other.annotated;
        self.found += other.found;
        self.matched += other.matched;
    }

    /// Returns the measures.
    pub fn scores(&self) -> Scores {
        Scores {
            vi: 100.0 - 100.0 * self.scaled_variation(),
            one_to_one: percent(self.overlap, self.messages),
            precision: percent(self.matched, self.found),
            recall: percent(self.matched, self.annotated),
            exact_f1: percent(2 * self.matched, self.found + self.annotated),
        }
    }

    /// `VI / log2(n)`, where `VI = H(annotated | found) + H(found | annotated)`.
    fn scaled_variation(&self) -> f64 {
        if self.messages < 2 {
            return 0.0;
        }
        let total = self.messages as f64;
        let bits: f64 = self
            .intersections
            .iter()
            .map(|(annotated, found, n)| {
                let (annotated, found, n) = (*annotated as f64, *found as f64, *n as f64);
                n / total * ((annotated / n).log2() + (found / n).log2())
            })
            .sum();
        bits / total.log2()
    }
}

/// Returns a percentage; 0 of 0 is 0.
fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

/// Counts the messages that agree under the best one-to-one pairing of rows with columns.
fn best_overlap(rows: &[HashMap<usize, usize>], columns: usize) -> usize {
    if rows.is_empty() {
        return 0;
    }
    // `kuhn_munkres` requires at least as many columns as rows.
    let width = columns.max(rows.len());
    let mut weights = Matrix::new(rows.len(), width, 0_i64);
    for (row, cells) in rows.iter().enumerate() {
        for (column, n) in cells {
            if let Some(cell) = weights.get_mut((row, *column)) {
                *cell = i64::try_from(*n).unwrap_or(i64::MAX);
            }
        }
    }
    usize::try_from(kuhn_munkres(&weights).0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(annotated: &[&[i64]], sessions: &[&[i64]]) -> Scores {
        let id = |id: i64| MessageId::try_from(id).unwrap();
        let annotated: Vec<Vec<MessageId>> =
            annotated.iter().map(|c| c.iter().copied().map(id).collect()).collect();
        score(&annotated, |m| sessions.iter().position(|session| session.contains(&m.get())))
    }

    #[test]
    fn the_annotations_themselves_score_100_percent() {
        let annotated: &[&[i64]] = &[&[1, 2, 5], &[3, 4], &[6]];
        let full = Scores { vi: 100.0, one_to_one: 100.0, precision: 100.0, recall: 100.0, exact_f1: 100.0 };
        assert_eq!(scores(annotated, annotated), full);
    }

    #[test]
    fn the_measures_follow_their_definitions() {
        let found = scores(&[&[1, 2], &[3, 4], &[5, 6, 7, 8]], &[&[1, 2], &[3, 4, 5, 6], &[7], &[8]]);
        // H(annotated | found) = 4/8 * 1 bit, H(found | annotated) = 4/8 * 1.5 bits, of log2(8) = 3.
        assert!((found.vi - (100.0 - 100.0 * 1.25 / 3.0)).abs() < 1e-9);
        // Either 3, 4 or 5, 6 agree, but not both.
        assert_eq!(found.one_to_one, 100.0 * 5.0 / 8.0);
        assert_eq!((found.precision, found.recall, found.exact_f1), (50.0, 100.0 / 3.0, 40.0));
    }

    #[test]
    fn lone_messages_do_not_count_as_matches() {
        assert_eq!(scores(&[&[1], &[2, 3]], &[&[1], &[2], &[3]]).exact_f1, 0.0);
    }

    #[test]
    fn empty_input_scores_zero_without_dividing_by_zero() {
        assert_eq!(scores(&[], &[]).one_to_one, 0.0);
        assert_eq!(scores(&[&[1]], &[&[1]]).vi, 100.0);
    }
}
