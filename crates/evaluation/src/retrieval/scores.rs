//! Measures of a ranking.

use std::collections::{BTreeSet, HashSet};

use guildex_types::MessageId;
use serde::Serialize;

/// Number of points of a ranking that are considered.
pub(crate) const DEPTH: usize = 10;
/// Number of points that count for coverage.
const COVERAGE_DEPTH: usize = 5;

/// Measures in percent; higher is better. A point is relevant if at least half of its messages belong to the
/// conversation of the question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Scores {
    /// Questions whose first point is relevant.
    #[serde(rename = "success@1")]
    pub success_1: f64,
    /// Questions with a relevant point among the first five.
    #[serde(rename = "success@5")]
    pub success_5: f64,
    /// Questions with a relevant point among the first ten.
    #[serde(rename = "success@10")]
    pub success_10: f64,
    /// Mean of `1 / rank` of the first relevant point; 0 if it is not among the first ten.
    #[serde(rename = "mrr@10")]
    pub mrr_10: f64,
    /// Mean share of the conversation, without the question, covered by the relevant points among the first five.
    #[serde(rename = "coverage@5")]
    pub coverage_5: f64,
}

/// Sums of the measures over questions.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    questions: usize,
    sums: Scores,
}

impl Tally {
    /// Adds the ranking of one question: the messages of each point, best first. `rest` is the conversation without
    /// the question.
    pub fn add(&mut self, rest: &HashSet<MessageId>, ranking: &[Vec<MessageId>]) {
        self.questions += 1;
        let is_relevant = |point: &&Vec<MessageId>| {
            let matching = point.iter().filter(|id| rest.contains(id)).count();
            matching > 0 && 2 * matching >= point.len()
        };
        let Some(rank) = ranking.iter().take(DEPTH).position(|point| is_relevant(&point)) else { return };
        let within = |k: usize| if rank < k { 1.0 } else { 0.0 };
        self.sums.success_1 += within(1);
        self.sums.success_5 += within(5);
        self.sums.success_10 += within(10);
        self.sums.mrr_10 += 1.0 / (rank as f64 + 1.0);

        let relevant = ranking.iter().take(COVERAGE_DEPTH).filter(is_relevant).flatten();
        let seen: BTreeSet<_> = relevant.filter(|id| rest.contains(id)).collect();
        self.sums.coverage_5 += seen.len() as f64 / rest.len() as f64;
    }

    /// Returns the means in percent; all zero without questions.
    pub fn scores(&self) -> Scores {
        let mean = |sum: f64| 100.0 * sum / self.questions.max(1) as f64;
        let Scores { success_1, success_5, success_10, mrr_10, coverage_5 } = self.sums;
        Scores {
            success_1: mean(success_1),
            success_5: mean(success_5),
            success_10: mean(success_10),
            mrr_10: mean(mrr_10),
            coverage_5: mean(coverage_5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[i64]) -> Vec<MessageId> {
        ids.iter().map(|id| MessageId::try_from(*id).unwrap()).collect()
    }

    fn scores(questions: &[(&[i64], &[&[i64]])]) -> Scores {
        let mut tally = Tally::default();
        for (rest, ranking) in questions {
            let ranking: Vec<_> = ranking.iter().map(|point| ids(point)).collect();
            tally.add(&ids(rest).into_iter().collect(), &ranking);
        }
        tally.scores()
    }

    #[test]
    fn a_point_with_half_its_messages_in_the_conversation_is_relevant() {
        let found = scores(&[(&[1, 2, 3, 4], &[&[1, 9]])]);
        let all =
            Scores { success_1: 100.0, success_5: 100.0, success_10: 100.0, mrr_10: 100.0, coverage_5: 25.0 };
        assert_eq!(found, all);
    }

    #[test]
    fn a_point_with_less_than_half_is_not_relevant() {
        assert_eq!(scores(&[(&[1, 2, 3], &[&[1, 8, 9], &[7], &[]])]), Scores::default());
    }

    #[test]
    fn the_first_relevant_point_counts_by_its_rank() {
        let other: &[i64] = &[9];
        let fourth = scores(&[(&[1, 2], &[other, other, other, &[1], &[2]])]);
        let expected =
            Scores { success_1: 0.0, success_5: 100.0, success_10: 100.0, mrr_10: 25.0, coverage_5: 100.0 };
        assert_eq!(fourth, expected);
    }

    #[test]
    fn points_beyond_the_tenth_do_not_count() {
        let mut ranking: Vec<&[i64]> = vec![&[9]; 9];
        ranking.push(&[1]);
        let tenth = scores(&[(&[1], &ranking)]);
        assert_eq!((tenth.success_5, tenth.success_10, tenth.mrr_10), (0.0, 100.0, 10.0));
        assert_eq!(tenth.coverage_5, 0.0, "coverage considers five points");
        ranking.insert(0, &[9]);
        assert_eq!(scores(&[(&[1], &ranking)]), Scores::default());
    }

    #[test]
    fn coverage_counts_each_message_once_and_only_in_relevant_points() {
        // Two points share message 2, message 4 is in an irrelevant point, message 5 is in the sixth point.
        let ranking: [&[i64]; 6] = [&[1, 2], &[2, 3], &[4, 8, 9], &[7], &[7, 8], &[5]];
        assert_eq!(scores(&[(&[1, 2, 3, 4, 5], &ranking)]).coverage_5, 60.0);
    }

    #[test]
    fn questions_are_averaged() {
        let both = scores(&[(&[1, 2], &[&[1]]), (&[3], &[&[9]])]);
        let expected =
            Scores { success_1: 50.0, success_5: 50.0, success_10: 50.0, mrr_10: 50.0, coverage_5: 25.0 };
        assert_eq!(both, expected);
        assert_eq!(Tally::default().scores(), Scores::default());
    }
}
