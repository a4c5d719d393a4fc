//! Estimates the tokens of a text for models whose tokenizer is not available.
//!
//! The estimate is meant to be too high rather than too low for any tokenizer. English text is overestimated by about
//! half, which makes chunks smaller; an underestimate would make the model truncate text that should be searchable.

/// Estimated tokens of a text: one for every three letters of a word, one for each digit and punctuation mark, and for
/// a non-ASCII character one less than its bytes in UTF-8 (two for a Chinese character, three for an emoji). Whitespace
/// counts zero, so that the tokens of lines add up.
pub(crate) fn tokens(text: &str) -> usize {
    costs(text).map(|(_, tokens)| tokens).sum()
}

/// Longest prefix of `text` with at most `room` tokens.
pub(crate) fn cut(text: &str, room: usize) -> &str {
    let ends = costs(text).scan(0, |used, (end, tokens)| {
        *used += tokens;
        (*used <= room).then_some(end)
    });
    let end = ends.last().unwrap_or(0);
    text.get(..end).unwrap_or(text)
}

/// End of each character in bytes, and the tokens that it adds.
fn costs(text: &str) -> impl Iterator<Item = (usize, usize)> {
    text.char_indices().scan(0, |letters, (start, c)| {
        let before = std::mem::take(letters);
        let cost = match c {
            'a'..='z' | 'A'..='Z' => {
                *letters = before + 1;
                usize::from(before % 3 == 0)
            }
            _ if c.is_whitespace() => 0,
            _ => (c.len_utf8() - 1).max(1),
        };
        Some((start + c.len_utf8(), cost))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_digits_and_punctuation_have_their_own_counts() {
        assert_eq!(tokens(""), 0);
        assert_eq!(tokens("   "), 0);
        assert_eq!(tokens("the cat"), 2);
        assert_eq!(tokens("conversation"), 4);
        assert_eq!(tokens("2024-05-01 12:30"), 4 + 1 + 2 + 1 + 2 + 2 + 1 + 2);
        assert_eq!(tokens("a1b"), 3);
        assert_eq!(tokens("a\n\tb"), 2);
        assert_eq!(tokens("é你🎉"), 1 + 2 + 3);
    }

    #[test]
    fn a_cut_ends_before_the_character_that_exceeds_the_limit() {
        assert_eq!(cut("the cat", 1), "the ");
        assert_eq!(cut("你好", 3), "你");
        assert_eq!(cut("你好", 1), "");
        assert_eq!(cut("whole", 99), "whole");
    }

    proptest! {
        #[test]
        fn a_cut_is_the_longest_prefix_that_fits(text in r"(\PC|[a-z0-9 \n]){0,80}", room in 0_usize..60) {
            let kept = cut(&text, room);
            prop_assert!(text.starts_with(kept) && tokens(kept) <= room);
            if let Some(next) = text[kept.len()..].chars().next() {
                prop_assert!(tokens(&text[..kept.len() + next.len_utf8()]) > room);
            }
        }

        #[test]
        fn parts_never_have_fewer_tokens_than_the_whole(a in r"(\PC|[a-z0-9 \n]){0,60}", b in r"(\PC|[a-z0-9 \n]){0,60}") {
            let whole = tokens(&format!("{a}{b}"));
            prop_assert!(tokens(&a) + tokens(&b) >= whole && whole >= tokens(&a).max(tokens(&b)) );
        }
    }
}
