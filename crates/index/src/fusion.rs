//! Rankings of points and their fusion.

#![cfg_attr(
    not(any(feature = "embedded", feature = "server")),
    allow(dead_code, reason = "rankings come out of an engine")
)]

use std::collections::HashMap;

use guildex_types::PointId;
use serde::{Deserialize, Serialize};

use crate::MAX_LIMIT;

/// A point with its score; the higher the better.
pub(crate) type Scored = (PointId, f32);

/// How many points each ranking gives to a search for `limit` hits. Fusion has to see the same rankings whatever
/// the page, so that a short list is the beginning of a longer one: that holds for up to 400 hits, and for more
/// among themselves.
pub(crate) fn depth(limit: usize) -> usize {
    if limit <= SHALLOW { SHALLOW } else { MAX_LIMIT }
}

const SHALLOW: usize = 400;

/// How two rankings become one: a point scores `weight / (k + rank)` in each ranking that has it, ranks from 1,
/// and the sums rank anew. Equal weights are reciprocal rank fusion; what a ranking of weight 0 alone has is not
/// found.
///
/// Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
/// Methods", SIGIR 2009. The engine has it too, but leaves ties to chance, within rankings and after.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fusion {
    /// How little the top of a ranking counts over what follows.
    pub k: f32,
    /// What the ranking by dense vectors counts.
    pub dense: f32,
    /// What the ranking by words counts.
    pub bm25: f32,
}

impl Default for Fusion {
    /// Chosen by what searches find (`docs/retrieval.md`): with the usual k of 60 and equal weights they find no more
    /// than by vectors alone.
    fn default() -> Self {
        Self { k: 2.0, dense: 1.0, bm25: 0.75 }
    }
}

impl Fusion {
    /// Fuses the ranking by dense vectors with that by words.
    pub(crate) fn fuse(&self, dense: Vec<Scored>, bm25: Vec<Scored>) -> Vec<Scored> {
        let mut sums: HashMap<PointId, f32> = HashMap::new();
        let rankings = [(self.dense, dense), (self.bm25, bm25)];
        for (weight, ranking) in rankings.into_iter().filter(|(weight, _)| *weight != 0.0) {
            for (place, (id, _)) in ranking.into_iter().enumerate() {
                *sums.entry(id).or_default() += weight / (self.k + 1.0 + place as f32);
            }
        }
        rank(sums.into_iter().collect())
    }
}

/// Best first; equal scores in the order of ids, so that equal searches give equal answers.
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
    fn what_both_rankings_know_comes_first() {
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
    fn a_weight_lets_one_ranking_win() {
        let words_first = Fusion { bm25: 2.0, ..Fusion::default() };
        assert_eq!(ids(words_first.fuse(vec![(id(4), 0.1)], vec![(id(5), 9.0)])), [id(5), id(4)]);
    }

    #[test]
    fn no_rankings_fuse_to_nothing() {
        assert!(Fusion::default().fuse(vec![], vec![]).is_empty());
    }
}
