//! Groups texts into batches under a budget of padded tokens.

use std::cmp::Reverse;

/// Groups texts, given by their `lengths` in tokens, into batches of at most `max_padded_tokens`.
///
/// A batch is padded to its longest text, so it costs its longest length times its count. Texts of similar length share
/// a batch, and the longest run first so that the last batches to finish are the cheap ones. A text over the budget gets
/// its own batch. Returns indexes into `lengths`, each exactly once.
pub fn plan(lengths: &[usize], max_padded_tokens: usize) -> Vec<Vec<usize>> {
    let texts = longest_first(lengths);

    let mut rest = texts.as_slice();
    let mut batches = Vec::new();
    while let Some(&(_, longest)) = rest.first() {
        let count = (max_padded_tokens / longest.max(1)).clamp(1, rest.len());
        let (batch, shorter) = rest.split_at(count);
        batches.push(batch.iter().map(|&(index, _)| index).collect());
        rest = shorter;
    }
    batches
}

/// Indexes of texts with their lengths, longest first.
fn longest_first(lengths: &[usize]) -> Vec<(usize, usize)> {
    let mut texts: Vec<(usize, usize)> = lengths.iter().copied().enumerate().collect();
    texts.sort_by_key(|&(_, length)| Reverse(length));
    texts
}

/// Fixed cost of a batch in tokens: small matrix products are slower and each call has overhead. Measured with
/// all-MiniLM-L6-v2 in fp32 and int8.
const BATCH_OVERHEAD: usize = 10;

/// Groups texts like [`plan`], but with minimal computation: of all ways to cut the texts, sorted by length, into batches
/// under the budget, it takes the one with the fewest padded tokens, where each batch adds a fixed cost of ten tokens.
///
/// It makes more and smaller batches than [`plan`], so use it only where calls have no other cost.
pub fn plan_min_padding(lengths: &[usize], max_padded_tokens: usize) -> Vec<Vec<usize>> {
    let mut texts = longest_first(lengths);

    // For the first n texts: the minimal cost and the size of the last batch.
    let mut cheapest = vec![(0, 0)];
    for end in 1..=texts.len() {
        let before = cheapest.iter().zip(&texts).enumerate().rev();
        let costs = before.map_while(|(begin, (&(cost, _), &(_, longest)))| {
            let (count, longest) = (end - begin, longest.max(1));
            let fits = count == 1 || longest * count <= max_padded_tokens;
            fits.then_some((cost + longest * count + BATCH_OVERHEAD, count))
        });
        // A single text always fits.
        cheapest.push(costs.min().unwrap_or_default());
    }

    let mut batches = Vec::new();
    while let Some(&(_, count)) = cheapest.get(texts.len()).filter(|(_, count)| *count > 0) {
        let batch = texts.split_off(texts.len().saturating_sub(count));
        batches.push(batch.into_iter().map(|(index, _)| index).collect());
    }
    batches.reverse();
    batches
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_of_similar_length_share_a_batch() {
        assert_eq!(plan(&[10, 100, 11, 90, 12], 200), [vec![1, 3], vec![4, 2, 0]]);
    }

    #[test]
    fn a_text_over_the_budget_gets_its_own_batch() {
        assert_eq!(plan(&[300, 5, 5], 100), [vec![0], vec![1, 2]]);
        assert_eq!(plan(&[5, 5], 0), [vec![0], vec![1]]);
    }

    #[test]
    fn no_texts_make_no_batches() {
        assert!(plan(&[], 1024).is_empty());
    }

    #[test]
    fn min_padding_cuts_where_lengths_differ() {
        assert_eq!(plan(&[100, 100, 50, 50, 50], 300), [vec![0, 1, 2], vec![3, 4]]);
        assert_eq!(plan_min_padding(&[100, 100, 50, 50, 50], 300), [vec![0, 1], vec![2, 3, 4]]);
        assert_eq!(
            plan_min_padding(&[100, 99, 98], 300),
            [vec![0, 1, 2]],
            "another batch would cost more than the padding"
        );
        assert_eq!(plan_min_padding(&[300, 5, 5], 100), [vec![0], vec![1, 2]]);
        assert_eq!(plan_min_padding(&[5, 5], 0), [vec![0], vec![1]]);
        assert!(plan_min_padding(&[], 512).is_empty());
    }

    /// Cost that [`plan_min_padding`] minimizes.
    fn cost(lengths: &[usize], batches: &[Vec<usize>]) -> usize {
        let batch_cost = |batch: &Vec<usize>| {
            batch.iter().map(|&index| lengths[index].max(1)).max().unwrap() * batch.len() + BATCH_OVERHEAD
        };
        batches.iter().map(batch_cost).sum()
    }

    proptest! {
        #[test]
        fn min_padding_has_each_text_once_within_budget_at_the_lowest_cost(
            lengths in prop::collection::vec(0_usize..300, 0..100),
            budget in 0_usize..1000,
        ) {
            let batches = plan_min_padding(&lengths, budget);
            let mut seen = batches.concat();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
            for batch in &batches {
                let longest = batch.iter().map(|&index| lengths[index]).max().unwrap();
                prop_assert!(batch.len() == 1 || longest * batch.len() <= budget);
            }
            let single: Vec<_> = (0..lengths.len()).map(|index| vec![index]).collect();
            for other in [plan(&lengths, budget), plan(&lengths, budget / 2), single] {
                prop_assert!(cost(&lengths, &batches) <= cost(&lengths, &other));
            }
        }

        #[test]
        fn each_text_is_in_one_batch_and_each_batch_within_budget(
            lengths in prop::collection::vec(0_usize..600, 0..200),
            budget in 0_usize..2000,
        ) {
            let batches = plan(&lengths, budget);
            let mut seen = batches.concat();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
            for batch in batches {
                let longest = batch.iter().map(|&index| lengths[index]).max().unwrap();
                prop_assert!(batch.len() == 1 || longest * batch.len() <= budget);
            }
        }

        #[test]
        fn no_batch_has_room_for_the_longest_text_of_the_next(
            lengths in prop::collection::vec(1_usize..300, 1..100),
        ) {
            let batches = plan(&lengths, 1024);
            for pair in batches.windows(2) {
                prop_assert!(lengths[pair[0][0]] * (pair[0].len() + 1) > 1024);
            }
        }
    }
}
