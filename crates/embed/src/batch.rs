//! Which texts go through the model together.

use std::cmp::Reverse;

/// Groups texts, given by their `lengths` in tokens, into batches of at most `max_padded_tokens`.
///
/// A batch is padded to its longest text, so it costs longest x count. Texts of like length go together and
/// the longest go first, so that the last batches to finish are the cheap ones. A text beyond the budget
/// stands alone. Returns indexes into `lengths`, each exactly once.
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

/// Texts with their lengths.
fn longest_first(lengths: &[usize]) -> Vec<(usize, usize)> {
    let mut texts: Vec<(usize, usize)> = lengths.iter().copied().enumerate().collect();
    texts.sort_by_key(|&(_, length)| Reverse(length));
    texts
}

/// What a batch costs beside its tokens, in tokens: small products are slower, and every call has its price. Measured
/// with all-MiniLM-L6-v2 in fp32 and int8.
const OVERHEAD: usize = 10;

/// Groups texts as [`plan`] does, and so that there is least to compute: of all ways to cut the texts, by length, into
/// batches under the budget, the one with the fewest padded tokens, a batch counting as ten more.
///
/// What a call costs beyond that must be nothing: it makes more and smaller batches than [`plan`].
pub fn plan_tightly(lengths: &[usize], max_padded_tokens: usize) -> Vec<Vec<usize>> {
    let mut texts = longest_first(lengths);

    // For each number of the longest texts, the least that they cost, and how many of them are in the last batch.
    let mut cheapest = vec![(0, 0)];
    for end in 1..=texts.len() {
        let before = cheapest.iter().zip(&texts).enumerate().rev();
        let costs = before.map_while(|(begin, (&(cost, _), &(_, longest)))| {
            let (count, longest) = (end - begin, longest.max(1));
            let fits = count == 1 || longest * count <= max_padded_tokens;
            fits.then_some((cost + longest * count + OVERHEAD, count))
        });
        // A text alone always fits.
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
    fn texts_of_like_length_go_together() {
        assert_eq!(plan(&[10, 100, 11, 90, 12], 200), [vec![1, 3], vec![4, 2, 0]]);
    }

    #[test]
    fn a_text_beyond_the_budget_stands_alone() {
        assert_eq!(plan(&[300, 5, 5], 100), [vec![0], vec![1, 2]]);
        assert_eq!(plan(&[5, 5], 0), [vec![0], vec![1]]);
    }

    #[test]
    fn nothing_makes_no_batch() {
        assert!(plan(&[], 1024).is_empty());
    }

    #[test]
    fn a_tight_plan_cuts_where_lengths_differ() {
        assert_eq!(plan(&[100, 100, 50, 50, 50], 300), [vec![0, 1, 2], vec![3, 4]]);
        assert_eq!(plan_tightly(&[100, 100, 50, 50, 50], 300), [vec![0, 1], vec![2, 3, 4]]);
        assert_eq!(
            plan_tightly(&[100, 99, 98], 300),
            [vec![0, 1, 2]],
            "a call more costs more than that padding"
        );
        assert_eq!(plan_tightly(&[300, 5, 5], 100), [vec![0], vec![1, 2]]);
        assert_eq!(plan_tightly(&[5, 5], 0), [vec![0], vec![1]]);
        assert!(plan_tightly(&[], 512).is_empty());
    }

    /// What [`plan_tightly`] makes least.
    fn cost(lengths: &[usize], batches: &[Vec<usize>]) -> usize {
        let of = |batch: &Vec<usize>| {
            batch.iter().map(|&index| lengths[index].max(1)).max().unwrap() * batch.len() + OVERHEAD
        };
        batches.iter().map(of).sum()
    }

    proptest! {
        #[test]
        fn a_tight_plan_has_every_text_once_in_budget_and_costs_no_more_than_another(
            lengths in prop::collection::vec(0_usize..300, 0..100),
            budget in 0_usize..1000,
        ) {
            let batches = plan_tightly(&lengths, budget);
            let mut seen = batches.concat();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
            for batch in &batches {
                let longest = batch.iter().map(|&index| lengths[index]).max().unwrap();
                prop_assert!(batch.len() == 1 || longest * batch.len() <= budget);
            }
            let alone: Vec<_> = (0..lengths.len()).map(|index| vec![index]).collect();
            for other in [plan(&lengths, budget), plan(&lengths, budget / 2), alone] {
                prop_assert!(cost(&lengths, &batches) <= cost(&lengths, &other));
            }
        }

        #[test]
        fn every_text_is_in_one_batch_and_every_batch_in_budget(
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
        fn no_batch_could_take_the_longest_text_of_the_next(
            lengths in prop::collection::vec(1_usize..300, 1..100),
        ) {
            let batches = plan(&lengths, 1024);
            for pair in batches.windows(2) {
                prop_assert!(lengths[pair[0][0]] * (pair[0].len() + 1) > 1024);
            }
        }
    }
}
