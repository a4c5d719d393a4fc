//! How close a partition comes to what people marked, in the measures of Kummerfeld et al., "A Large-Scale
//! Corpus for Conversation Disentanglement" (ACL 2019), as their `conversation-eval.py` computes them.

use std::collections::HashMap;
use std::hash::Hash;

use guildex_types::MessageId;
use pathfinding::kuhn_munkres::kuhn_munkres;
use pathfinding::matrix::Matrix;
use serde::Serialize;

/// The measures, in percent; higher is better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Scores {
    /// 1 - VI: variation of information, scaled by its bound `log2(messages)`.
    pub vi: f64,
    /// One-to-one overlap: the messages that agree under the best pairing of conversations with sessions.
    pub one_to_one: f64,
    /// Sessions of two or more messages that match a conversation exactly, of all such sessions.
    pub precision: f64,
    /// The same, of all such conversations.
    pub recall: f64,
    /// The harmonic mean of the two.
    pub exact_f1: f64,
}

/// Scores one channel's sessions, given as the session of each message in `gold`.
pub fn score<S: Copy + Eq + Hash>(gold: &[Vec<MessageId>], session: impl Fn(MessageId) -> S) -> Scores {
    Tally::of(gold, session).scores()
}

/// Counts of one or several channels. Conversations never cross channels, so that counts of channels add up.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    messages: usize,
    overlap: usize,
    /// Sizes of conversation, session and their common part, for each pair that has one.
    common: Vec<(usize, usize, usize)>,
    gold: usize,
    found: usize,
    matched: usize,
}

impl Tally {
    /// Counts one channel. `session` gives the session of each annotated message.
    pub fn of<S: Copy + Eq + Hash>(gold: &[Vec<MessageId>], session: impl Fn(MessageId) -> S) -> Self {
        let mut columns = HashMap::new();
        let mut sizes: Vec<usize> = Vec::new();
        let mut rows: Vec<HashMap<usize, usize>> = Vec::with_capacity(gold.len());
        for conversation in gold {
            let mut row = HashMap::new();
            for message in conversation {
                let fresh = columns.len();
                let column = *columns.entry(session(*message)).or_insert(fresh);
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
        let common: Vec<_> = gold
            .iter()
            .zip(&rows)
            .flat_map(|(conversation, row)| {
                let size = |column: &usize| sizes.get(*column).copied().unwrap_or(0);
                row.iter().map(move |(column, n)| (conversation.len(), size(column), *n))
            })
            .collect();
        Self {
            messages: gold.iter().map(Vec::len).sum(),
            overlap: best_overlap(&rows, sizes.len()),
            gold: gold.iter().filter(|conversation| conversation.len() > 1).count(),
            found: sizes.iter().filter(|size| **size > 1).count(),
            matched: common.iter().filter(|(g, s, n)| *n > 1 && g == n && s == n).count(),
            common,
        }
    }

    /// Adds another channel's counts.
    pub fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.overlap += other.overlap;
        self.common.extend_from_slice(&other.common);
        self.gold += other.gold;
        self.found += other.found;
        self.matched += other.matched;
    }

    /// The measures over all that was counted.
    pub fn scores(&self) -> Scores {
        Scores {
            vi: 100.0 - 100.0 * self.scaled_variation(),
            one_to_one: percent(self.overlap, self.messages),
            precision: percent(self.matched, self.found),
            recall: percent(self.matched, self.gold),
            exact_f1: percent(2 * self.matched, self.found + self.gold),
        }
    }

    /// `VI / log2(n)`, where `VI = H(gold | found) + H(found | gold)`.
    fn scaled_variation(&self) -> f64 {
        if self.messages < 2 {
            return 0.0;
        }
        let total = self.messages as f64;
        let bits: f64 = self
            .common
            .iter()
            .map(|(gold, found, n)| {
                let (gold, found, n) = (*gold as f64, *found as f64, *n as f64);
                n / total * ((gold / n).log2() + (found / n).log2())
            })
            .sum();
        bits / total.log2()
    }
}

/// Percent; nothing out of nothing is 0.
fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

/// The messages that agree under the best one-to-one pairing of rows with columns.
fn best_overlap(rows: &[HashMap<usize, usize>], columns: usize) -> usize {
    if rows.is_empty() {
        return 0;
    }
    // The matching wants no more rows than columns.
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

    fn scores(gold: &[&[i64]], sessions: &[&[i64]]) -> Scores {
        let id = |id: i64| MessageId::try_from(id).unwrap();
        let gold: Vec<Vec<MessageId>> = gold.iter().map(|c| c.iter().copied().map(id).collect()).collect();
        score(&gold, |m| sessions.iter().position(|session| session.contains(&m.get())))
    }

    #[test]
    fn the_gold_itself_scores_full() {
        let gold: &[&[i64]] = &[&[1, 2, 5], &[3, 4], &[6]];
        let full = Scores { vi: 100.0, one_to_one: 100.0, precision: 100.0, recall: 100.0, exact_f1: 100.0 };
        assert_eq!(scores(gold, gold), full);
    }

    #[test]
    fn the_measures_are_those_of_the_definitions() {
        let found = scores(&[&[1, 2], &[3, 4], &[5, 6, 7, 8]], &[&[1, 2], &[3, 4, 5, 6], &[7], &[8]]);
        // H(gold | found) = 4/8 * 1 bit, H(found | gold) = 4/8 * 1.5 bits, of log2(8) = 3.
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
    fn nothing_scores_nothing_and_does_not_divide_by_it() {
        assert_eq!(scores(&[], &[]).one_to_one, 0.0);
        assert_eq!(scores(&[&[1]], &[&[1]]).vi, 100.0);
    }
}
