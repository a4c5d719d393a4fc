//! Which texts go through the model together.

use std::cmp::Reverse;

/// Groups texts, given by their `lengths` in tokens, into batches of at most `max_padded_tokens`.
///
/// A batch is padded to its longest text, so it costs longest x count. Texts of like length go together and
/// the longest go first, so that the last batches to finish are the cheap ones. A text beyond the budget
/// stands alone. Returns indexes into `lengths`, each exactly once.
pub fn plan(lengths: &[usize], max_padded_tokens: usize) -> Vec<Vec<usize>> {
    let mut texts: Vec<(usize, usize)> = lengths.iter().copied().enumerate().collect();
    texts.sort_by_key(|&(_, length)| Reverse(length));

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

    proptest! {
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
