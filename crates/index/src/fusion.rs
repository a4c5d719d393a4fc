//! Fusion of rankings.

#![cfg_attr(
    not(any(feature = "embedded", feature = "server")),
    allow(dead_code, reason = "only the engines produce rankings")
)]

use std::collections::HashMap;

use guildex_types::PointId;
use guildex_types::config::{allowed_if, between};
use serde::{Deserialize, Serialize};

use crate::MAX_LIMIT;

/// Point with its score; higher is better.
pub(crate) type Scored = (PointId, f32);

/// Length of the rankings that a search for `limit` hits fuses. It is the same for all limits up to 400, and for all
/// above, so that a short list is a prefix of a longer one.
pub(crate) fn depth(limit: usize) -> usize {
    if limit <= SHALLOW { SHALLOW } else { MAX_LIMIT }
}

const SHALLOW: usize = 400;

/// Weighted reciprocal rank fusion: a point scores `weight / (k + rank)` in each ranking that contains it, with ranks
/// from 1, and points are sorted by the sum. A ranking of weight 0 contributes no points.
///
/// Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
/// Methods", SIGIR 2009. The engine has it too, but orders ties randomly.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, garde::Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Fusion {
    /// Rank constant: the higher, the less the first places count over the following ones. Default: 2.
    #[garde(custom(between(0.0..=1000.0)))]
    pub k: f64,
    /// Weight of the dense ranking. Default: 1.
    #[garde(custom(between(0.0..=1000.0)))]
    pub dense: f64,
    /// Weight of the sparse ranking. Default: 0.75.
    #[garde(
        custom(between(0.0..=1000.0)),
        custom(|bm25: &f64, _| allowed_if(*bm25 > 0.0 || self.dense > 0.0, bm25, "more than 0 if `dense` is 0"))
    )]
    pub bm25: f64,
}

impl Default for Fusion {
    /// Chosen by evaluation (`docs/retrieval.md`): the usual k of 60 with equal weights is no better than vectors alone.
    fn default() -> Self {
        Self { k: 2.0, dense: 1.0, bm25: 0.75 }
    }
}

impl Fusion {
    /// Score of the first place in a ranking of weight 1.
    pub fn first_place(&self) -> f32 {
        1.0 / (self.k as f32 + 1.0)
    }

    /// Fuses a dense ranking with a sparse one.
    pub(crate) fn fuse(&self, dense: Vec<Scored>, bm25: Vec<Scored>) -> Vec<Scored> {
        let mut sums: HashMap<PointId, f32> = HashMap::new();
        let rankings = [(self.dense, dense), (self.bm25, bm25)];
        for (weight, ranking) in rankings.into_iter().filter(|(weight, _)| *weight != 0.0) {
            for (position, (id, _)) in ranking.into_iter().enumerate() {
                *sums.entry(id).or_default() += weight as f32 / (self.k as f32 + 1.0 + position as f32);
            }
        }
        rank(sums.into_iter().collect())
    }
}

/// Sorts by score, best first; ties by id, so that equal searches return equal results.
pub(crate) fn rank(mut scored: Vec<Scored>) -> Vec<Scored> {
    scored.sort_unstable_by(|(a_id, a), (b_id, b)| b.total_cmp(a).then(a_id.cmp(b_id)));
    scored
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> PointId {
        uuid::Uuid::from_u128(n).into()
    }

    fn ids(scored: Vec<Scored>) -> Vec<PointId> {
        scored.into_iter().map(|(id, _)| id).collect()
    }

    #[test]
    fn points_in_both_rankings_come_first() {
        let dense = vec![(id(1), 0.9), (id(2), 0.8)];
        let sparse = vec![(id(3), 12.0), (id(2), 7.0)];
        let fused = Fusion { k: 60.0, dense: 1.0, bm25: 1.0 }.fuse(dense, sparse);
        assert_eq!(fused[0], (id(2), 2.0 / 62.0));
        assert_eq!(ids(fused), [id(2), id(1), id(3)]);
    }

    #[test]
    fn ties_are_broken_by_id() {
        assert_eq!(ids(rank(vec![(id(3), 1.0), (id(1), 1.0), (id(2), 2.0)])), [id(2), id(1), id(3)]);
        let alike = Fusion { bm25: 1.0, ..Fusion::default() };
        assert_eq!(ids(alike.fuse(vec![(id(5), 0.1)], vec![(id(4), 9.0)])), [id(4), id(5)]);
    }

    #[test]
    fn weights_favour_a_ranking() {
        let words_first = Fusion { bm25: 2.0, ..Fusion::default() };
        assert_eq!(ids(words_first.fuse(vec![(id(4), 0.1)], vec![(id(5), 9.0)])), [id(5), id(4)]);
    }

    #[test]
    fn empty_rankings_fuse_to_an_empty_one() {
        assert!(Fusion::default().fuse(vec![], vec![]).is_empty());
    }
}
