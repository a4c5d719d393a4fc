//! Splits a conversation into chunks that fit the model's input.

use std::ops::Range;

use crate::tokenizer::{Tokenizer, TokenizerError};

/// A header takes at most this fraction of a chunk, so that every chunk has room for messages.
const HEADER_SHARE: usize = 4;

/// A run of lines under the header.
#[derive(Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The header, then the lines, separated by line breaks.
    pub text: String,
    /// Lines that the chunk contains completely or in part.
    pub lines: Range<usize>,
    /// Length in tokens, including the model's prefix and special tokens.
    pub tokens: usize,
}

/// Message content is private: debug output shows only sizes.
impl std::fmt::Debug for Chunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chunk({} bytes, lines {:?}, {} tokens)", self.text.len(), self.lines, self.tokens)
    }
}

/// Result of [`split`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Chunks in the order of the lines; empty if there are no lines.
    pub chunks: Vec<Chunk>,
    /// Tokens cut off the header in every chunk. The caller logs it.
    pub header_cut: usize,
}

/// Splits `lines` (for example one message each) into chunks of at most the tokenizer's `max_tokens`, each under `header`.
///
/// Leaves room for the model's prefix, which [`embed`](crate::Embedder::embed) adds.
///
/// Chunks end between lines. A line that is too long for a chunk is cut between words, and a word that is too long
/// between characters; only whitespace is dropped. A header longer than a quarter of `max_tokens` is shortened. The same
/// input always gives the same chunks.
///
/// # Errors
/// If the tokenizer fails.
pub fn split<L: AsRef<str>>(
    tokenizer: &Tokenizer,
    header: &str,
    lines: &[L],
) -> Result<Split, TokenizerError> {
    let header = Header::fit(tokenizer, header)?;
    let mut room = tokenizer.room().saturating_sub(header.tokens);
    loop {
        let chunks = pack(tokenizer, &header, &pieces(tokenizer, lines, room)?, room)?;
        // BERT's tokens add up over line breaks. For tokenizers whose tokens do not, a smaller room keeps chunks
        // within the limit.
        let excess = chunks.iter().map(|chunk| chunk.tokens.saturating_sub(tokenizer.max_tokens())).max();
        match excess {
            Some(excess) if excess > 0 && room > 1 => room = room.saturating_sub(excess).max(1),
            _ => return Ok(Split { chunks, header_cut: header.cut }),
        }
    }
}

struct Header<'h> {
    text: &'h str,
    tokens: usize,
    cut: usize,
}

impl<'h> Header<'h> {
    fn fit(tokenizer: &Tokenizer, text: &'h str) -> Result<Self, TokenizerError> {
        let whole: usize = tokenizer.own_tokens(vec![text])?.iter().sum();
        let share = tokenizer.room() / HEADER_SHARE;
        if whole <= share {
            return Ok(Self { text, tokens: whole, cut: 0 });
        }
        let (text, tokens) = cut_line(tokenizer, text, share)?.into_iter().next().unwrap_or(("", 0));
        Ok(Self { text, tokens, cut: whole.saturating_sub(tokens) })
    }
}

/// A line, or a part of a line that is too long.
struct Piece<'l> {
    line: usize,
    text: &'l str,
    tokens: usize,
}

fn pieces<'l, L: AsRef<str>>(
    tokenizer: &Tokenizer,
    lines: &'l [L],
    room: usize,
) -> Result<Vec<Piece<'l>>, TokenizerError> {
    let counts = tokenizer.own_tokens(lines.iter().map(AsRef::as_ref).collect())?;
    let mut pieces = Vec::with_capacity(lines.len());
    for (line, (text, tokens)) in lines.iter().map(AsRef::as_ref).zip(counts).enumerate() {
        if tokens <= room {
            pieces.push(Piece { line, text, tokens });
        } else {
            let parts = cut_line(tokenizer, text, room)?;
            pieces.extend(parts.into_iter().map(|(text, tokens)| Piece { line, text, tokens }));
        }
    }
    Ok(pieces)
}

/// Cuts a line into runs of words of at most `room` tokens. A longer word is cut into runs of characters.
fn cut_line<'l>(
    tokenizer: &Tokenizer,
    line: &'l str,
    room: usize,
) -> Result<Vec<(&'l str, usize)>, TokenizerError> {
    let words: Vec<&str> = line.split_inclusive(is_blank).collect();
    let counts = tokenizer.own_tokens(words.clone())?;

    let mut parts = Vec::new();
    let mut run = Run { line, bytes: 0..0, tokens: 0 };
    for (word, tokens) in words.into_iter().zip(counts) {
        if run.tokens + tokens > room {
            parts.extend(run.take());
        }
        if tokens <= room {
            run.push(word, tokens);
        } else {
            cut_word(tokenizer, word.trim_end(), tokens, room, &mut parts)?;
            run.skip(word);
        }
    }
    parts.extend(run.take());
    Ok(parts)
}

/// Whether BERT treats the character as whitespace. It drops other control characters, some of which are whitespace.
fn is_blank(c: char) -> bool {
    c.is_whitespace() && (!c.is_control() || matches!(c, '\t' | '\n' | '\r'))
}

/// Consecutive words of a line.
struct Run<'l> {
    line: &'l str,
    bytes: Range<usize>,
    tokens: usize,
}

impl<'l> Run<'l> {
    fn push(&mut self, word: &str, tokens: usize) {
        self.bytes.end += word.len();
        self.tokens += tokens;
    }

    /// Skips a word that is cut on its own. The run is empty.
    fn skip(&mut self, word: &str) {
        let end = self.bytes.end + word.len();
        self.bytes = end..end;
    }

    /// Ends the run and returns it unless it is blank.
    fn take(&mut self) -> Option<(&'l str, usize)> {
        let text = self.line.get(self.bytes.clone()).unwrap_or_default().trim();
        let tokens = std::mem::take(&mut self.tokens);
        self.bytes.start = self.bytes.end;
        (!text.is_empty()).then_some((text, tokens))
    }
}

/// Cuts a word into parts of about equal length, and these again while they are too long: a part may have more tokens
/// than its share of the word.
fn cut_word<'l>(
    tokenizer: &Tokenizer,
    word: &'l str,
    tokens: usize,
    room: usize,
    parts: &mut Vec<(&'l str, usize)>,
) -> Result<(), TokenizerError> {
    let length = word.chars().count();
    if tokens <= room || length <= 1 {
        parts.push((word, tokens));
        return Ok(());
    }
    let count = tokens.div_ceil(room.max(1)).clamp(2, length);
    let halves = runs_of_chars(word, length.div_ceil(count));
    let counts = tokenizer.own_tokens(halves.clone())?;
    for (half, tokens) in halves.into_iter().zip(counts) {
        cut_word(tokenizer, half, tokens, room, parts)?;
    }
    Ok(())
}

fn runs_of_chars(word: &str, size: usize) -> Vec<&str> {
    let starts = word.char_indices().map(|(at, _)| at).step_by(size);
    let ends = starts.clone().skip(1).chain([word.len()]);
    starts.zip(ends).filter_map(|(start, end)| word.get(start..end)).collect()
}

/// Fills chunks with pieces in order. Makes as few chunks as possible and all of similar length, because a short last
/// chunk has little meaning.
fn pack(
    tokenizer: &Tokenizer,
    header: &Header<'_>,
    pieces: &[Piece<'_>],
    room: usize,
) -> Result<Vec<Chunk>, TokenizerError> {
    let total: usize = pieces.iter().map(|piece| piece.tokens).sum();
    let chunk_count = total.div_ceil(room.max(1));
    let mut chunks: Vec<Chunk> = Vec::new();
    let (mut before, mut used) = (0, 0);
    for piece in pieces {
        // Whether more than half of the piece lies after the end of an evenly sized chunk.
        let is_next = chunks.len() < chunk_count
            && (2 * before + piece.tokens) * chunk_count > 2 * total * chunks.len();
        before += piece.tokens;
        match chunks.last_mut() {
            Some(chunk) if used + piece.tokens <= room && !is_next => {
                chunk.lines.end = piece.line + 1;
                chunk.text.push('\n');
                chunk.text.push_str(piece.text);
                chunk.tokens += piece.tokens;
                used += piece.tokens;
            }
            _ => {
                let text = if header.text.is_empty() {
                    piece.text.to_owned()
                } else {
                    format!("{}\n{}", header.text, piece.text)
                };
                let tokens = header.tokens + piece.tokens;
                chunks.push(Chunk { text, lines: piece.line..piece.line + 1, tokens });
                used = piece.tokens;
            }
        }
    }
    let own = chunks.iter().map(|chunk| chunk.tokens).collect();
    let counts = tokenizer.counts_of_lines(chunks.iter().map(|chunk| chunk.text.as_str()).collect(), own)?;
    for (chunk, tokens) in chunks.iter_mut().zip(counts) {
        chunk.tokens = tokens;
    }
    Ok(chunks)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tokenizer::{letters, letters_and_blanks};

    fn texts(split: &Split) -> Vec<&str> {
        split.chunks.iter().map(|chunk| chunk.text.as_str()).collect()
    }

    #[test]
    fn a_short_conversation_is_one_chunk() {
        let split = split(&letters(64), "In #a:", &["the cat", "sat"]).unwrap();
        assert_eq!(texts(&split), ["In #a:\nthe cat\nsat"]);
        assert_eq!(split.chunks[0].lines, 0..2);
        assert_eq!(split.chunks[0].tokens, 2 + 5 + 1 + 2 + 2);
        assert_eq!(split.header_cut, 0);
    }

    #[test]
    fn a_long_conversation_is_cut_between_lines() {
        let split = split(&letters(32), "#", &["x ".repeat(20), "y ".repeat(20), "z".into()]).unwrap();
        assert_eq!(split.chunks.iter().map(|chunk| chunk.lines.clone()).collect::<Vec<_>>(), [0..1, 1..3]);
        assert!(split.chunks.iter().all(|chunk| chunk.text.starts_with("#\n")));
    }

    #[test]
    fn chunks_have_similar_lengths() {
        let split = split(&letters(32), "", &["four"; 9]).unwrap();
        assert_eq!(split.chunks.iter().map(|chunk| chunk.lines.clone()).collect::<Vec<_>>(), [0..5, 5..9]);
    }

    #[test]
    fn a_long_line_is_cut_between_words_and_may_share_its_last_chunk() {
        let line = "xyz ".repeat(25);
        let split = split(&letters(32), "", &["a", line.trim_end(), "b"]).unwrap();
        let words = |count| vec!["xyz"; count].join(" ");
        assert_eq!(texts(&split), ["a".to_owned(), words(10), words(10), format!("{}\nb", words(5))]);
    }

    #[test]
    fn a_word_too_long_for_a_chunk_is_cut_into_even_parts() {
        let split = split(&letters(32), "", &[format!("so {} so", "x".repeat(70))]).unwrap();
        let part = |count| "x".repeat(count);
        assert_eq!(texts(&split), [format!("so\n{}", part(24)), part(24), format!("{}\nso", part(22))]);
    }

    #[test]
    fn chunks_fit_even_if_line_breaks_are_tokens() {
        let tokenizer = letters_and_blanks(32);
        let split = split(&tokenizer, "#", &["x"; 100]).unwrap();
        assert!(split.chunks.iter().all(|chunk| chunk.tokens <= 32), "{split:?}");
        assert_eq!(split.chunks.iter().map(|chunk| chunk.lines.len()).sum::<usize>(), 100);
    }

    #[test]
    fn no_lines_make_no_chunk_and_blank_lines_are_kept() {
        assert_eq!(split::<&str>(&letters(32), "#", &[]).unwrap().chunks, []);
        assert_eq!(texts(&split(&letters(32), "#", &["", " "]).unwrap()), ["#\n\n "]);
    }

    #[test]
    fn a_long_header_is_shortened_and_reported() {
        let split = split(&letters(42), &"x ".repeat(30), &["y"]).unwrap();
        assert_eq!(texts(&split), [format!("{}\ny", "x ".repeat(10).trim())]);
        assert_eq!(split.header_cut, 20);
    }

    #[test]
    fn debug_output_does_not_show_the_text() {
        let split = split(&letters(32), "secret", &["secret"]).unwrap();
        assert!(!format!("{split:?}").contains("secret"));
    }

    fn line() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "[a-z .,!?]{0,60}",
            2 => r"(\PC|[\t\u{85}\u{200b}\u{0}]){0,40}",
            1 => "[한国你é🎉👩‍👩‍👧 שלום]{0,50}",
            1 => "[a-d]{80,400}",
            1 => Just("[SEP]".into()),
        ]
    }

    /// An exact tokenizer or an estimate, with or without a prefix.
    fn tokenizer() -> impl Strategy<Value = Tokenizer> {
        let exact = (32_usize..100).prop_map(letters);
        let approximate = (32_usize..100).prop_map(|max_tokens| Tokenizer::approximate(max_tokens).unwrap());
        let any = prop_oneof![exact, approximate];
        (any, prop_oneof![Just(""), Just("passage: ")])
            .prop_map(|(tokenizer, prefix)| tokenizer.with_passage_prefix(prefix).unwrap())
    }

    fn visible(text: &str) -> String {
        text.chars().filter(|c| !c.is_whitespace()).collect()
    }

    proptest! {
        #[test]
        fn every_chunk_fits_and_no_visible_text_is_lost(
            tokenizer in tokenizer(),
            header in "[a-z# ]{0,60}",
            lines in prop::collection::vec(line(), 0..12),
        ) {
            let done = split(&tokenizer, &header, &lines).unwrap();
            let mut found = String::new();
            let kept = Header::fit(&tokenizer, &header).unwrap().text;
            for chunk in &done.chunks {
                prop_assert!(chunk.tokens <= tokenizer.max_tokens());
                prop_assert_eq!(chunk.tokens, tokenizer.count(&chunk.text).unwrap());
                found.push_str(&visible(chunk.text.strip_prefix(kept).unwrap()));
            }
            prop_assert_eq!(found, visible(&lines.concat()));
            prop_assert_eq!(done, split(&tokenizer, &header, &lines).unwrap());
        }

        #[test]
        fn lines_are_covered_in_order_and_only_long_ones_cut(
            tokenizer in tokenizer(),
            lines in prop::collection::vec(line(), 1..12),
        ) {
            let chunks = split(&tokenizer, "#a", &lines).unwrap().chunks;
            let room = tokenizer.room() - tokenizer.own_tokens(vec!["#a"]).unwrap()[0];
            let mut next = 0;
            for chunk in &chunks {
                let shares_a_line = chunk.lines.start + 1 == next;
                prop_assert!(chunk.lines.start == next || shares_a_line);
                if shares_a_line {
                    let tokens = tokenizer.own_tokens(vec![&lines[chunk.lines.start]]).unwrap()[0];
                    prop_assert!(tokens > room, "a line of {tokens} tokens was cut, though {room} fit");
                }
                next = chunk.lines.end;
            }
            prop_assert_eq!(next, lines.len());
        }
    }
}
