//! Counting tokens as the model does.

use std::borrow::Cow;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use tokenizers::{NormalizerWrapper, PreTokenizerWrapper};

use crate::approximate;
use crate::error::LoadError;

/// Room for the special tokens, a shortened header and any single character.
const WINDOWS: RangeInclusive<usize> = 32..=8192;

/// A prefix leaves at least this part of the window to the text.
const PREFIX_SHARE: usize = 2;

/// What a guess allows for special tokens.
const APPROXIMATE_SPECIALS: usize = 2;

/// Counts tokens for a model and knows its window. It counts whole texts: it neither cuts nor pads. Cheap to clone.
///
/// Texts are counted as the model reads them when they are stored: special tokens and the model's
/// [prefix for passages](Self::with_passage_prefix) included.
#[derive(Clone)]
pub struct Tokenizer {
    counter: Counter,
    window: usize,
    specials: usize,
    prefix: Arc<str>,
    prefix_tokens: usize,
    /// Whether the tokens of a text are those of its lines.
    adds_up: bool,
}

#[derive(Clone)]
enum Counter {
    /// The model's own tokenizer.
    Exact(Arc<tokenizers::Tokenizer>),
    /// A guess, where that is not at hand.
    Approximate,
}

/// Why tokens could not be counted.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A window that no model has.
    #[error("a window of {0} tokens is out of range: use {start} to {end}", start = WINDOWS.start(), end = WINDOWS.end())]
    Window(usize),
    /// A prefix that leaves too little of the window.
    #[error("a prefix of {tokens} tokens takes more than half of a window of {window}: use a shorter one")]
    Prefix {
        /// The prefix's tokens, special ones included.
        tokens: usize,
        /// The window.
        window: usize,
    },
    /// The tokenizer failed; its own reason.
    #[error("the tokenizer failed: {0}")]
    Failed(String),
}

impl Tokenizer {
    /// Counts with `inner`, whatever truncation and padding it came with, for a model that reads `window`
    /// tokens, the special ones (`[CLS]` and `[SEP]`) included.
    ///
    /// # Errors
    /// If the window is below 32 or above 8,192 tokens, or the tokenizer fails on an empty text.
    pub fn new(mut inner: tokenizers::Tokenizer, window: usize) -> Result<Self, TokenizerError> {
        Self::check_window(window)?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(failed)?;
        let specials = inner.encode_fast("", true).map_err(failed)?.len();
        let adds_up = reads_word_by_word(&inner);
        let counter = Counter::Exact(Arc::new(inner));
        Ok(Self { counter, window, specials, prefix: "".into(), prefix_tokens: 0, adds_up })
    }

    /// Guesses, on the high side, for a model that reads `window` tokens and whose tokenizer is not at hand. For
    /// English text the guess is about half as much again as the truth.
    ///
    /// # Errors
    /// If the window is below 32 or above 8,192 tokens.
    pub fn approximate(window: usize) -> Result<Self, TokenizerError> {
        Self::check_window(window)?;
        Ok(Self {
            counter: Counter::Approximate,
            window,
            specials: APPROXIMATE_SPECIALS,
            prefix: "".into(),
            prefix_tokens: 0,
            adds_up: false,
        })
    }

    /// For a model that reads `prefix` before each stored text, as e5 reads `"passage: "`.
    ///
    /// # Errors
    /// If the prefix takes more than half of the window, or the tokenizer fails on it.
    pub fn with_passage_prefix(self, prefix: &str) -> Result<Self, TokenizerError> {
        let prefix_tokens = self.tokens_of_prefix(prefix)?;
        let stands_apart = prefix.is_empty() || prefix.ends_with(char::is_whitespace);
        Ok(Self { prefix: prefix.into(), prefix_tokens, adds_up: self.adds_up && stands_apart, ..self })
    }

    /// Counts alike, for texts of at most `tokens` tokens, the special ones included and the prefix not. A window
    /// that is smaller stays.
    #[must_use]
    pub fn at_most(&self, tokens: usize) -> Self {
        Self { window: self.window.min(tokens.saturating_add(self.prefix_tokens)), ..self.clone() }
    }

    /// The tokens of a text to come before others, the special ones not included.
    pub(crate) fn tokens_of_prefix(&self, prefix: &str) -> Result<usize, TokenizerError> {
        let own: usize = self.own_tokens(vec![prefix])?.iter().sum();
        let tokens = own + self.specials;
        if tokens > self.window / PREFIX_SHARE {
            return Err(TokenizerError::Prefix { tokens, window: self.window });
        }
        Ok(own)
    }

    pub(crate) fn check_window(window: usize) -> Result<(), TokenizerError> {
        if WINDOWS.contains(&window) { Ok(()) } else { Err(TokenizerError::Window(window)) }
    }

    /// How many tokens the model reads of a text, the prefix and the special ones included.
    pub fn window(&self) -> usize {
        self.window
    }

    /// How many tokens of the window are the text's own: the window without the prefix and the special ones.
    pub fn room(&self) -> usize {
        self.window.saturating_sub(self.specials + self.prefix_tokens)
    }

    /// Whether it counts as the model does, rather than guess.
    pub fn is_exact(&self) -> bool {
        matches!(self.counter, Counter::Exact(_))
    }

    /// The tokens of `text`, the prefix and the special ones included.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub fn count(&self, text: &str) -> Result<usize, TokenizerError> {
        Ok(self.counts(vec![text])?.iter().sum())
    }

    /// The tokens of each of `texts`, neither prefix nor special ones included.
    pub(crate) fn own_tokens(&self, texts: Vec<&str>) -> Result<Vec<usize>, TokenizerError> {
        match &self.counter {
            Counter::Exact(inner) => {
                let encodings = inner.encode_batch_fast(texts, false).map_err(failed)?;
                Ok(encodings.iter().map(tokenizers::Encoding::len).collect())
            }
            Counter::Approximate => Ok(texts.into_iter().map(approximate::tokens).collect()),
        }
    }

    /// The tokens of each of `texts`, the prefix and the special ones included.
    pub(crate) fn counts(&self, texts: Vec<&str>) -> Result<Vec<usize>, TokenizerError> {
        // Not every tokenizer's tokens add up where two texts meet.
        let prefixed: Vec<Cow<'_, str>> =
            texts.into_iter().map(|text| prefixed(&self.prefix, text)).collect();
        self.whole_tokens(prefixed.iter().map(AsRef::as_ref).collect())
    }

    /// What [`counts`](Self::counts) says of texts made of lines whose own tokens are known, `own` for each text: from
    /// these where they add up, which spares reading all again.
    pub(crate) fn counts_of_lines(
        &self,
        texts: Vec<&str>,
        own: Vec<usize>,
    ) -> Result<Vec<usize>, TokenizerError> {
        if !self.adds_up {
            return self.counts(texts);
        }
        Ok(own.into_iter().map(|own| own + self.prefix_tokens + self.specials).collect())
    }

    /// The tokens of each of `texts`, the special ones included: they have their prefix, if any, already.
    pub(crate) fn whole_tokens(&self, texts: Vec<&str>) -> Result<Vec<usize>, TokenizerError> {
        let own = self.own_tokens(texts)?;
        Ok(own.into_iter().map(|tokens| tokens + self.specials).collect())
    }

    /// The beginning of `text`, which has its prefix already, that the model reads.
    pub(crate) fn cut<'t>(&self, text: &'t str) -> Result<&'t str, TokenizerError> {
        let mut room = self.window.saturating_sub(self.specials);
        loop {
            let kept = match &self.counter {
                Counter::Exact(inner) => {
                    let encoding = inner.encode(text, false).map_err(failed)?;
                    let end = encoding
                        .get_offsets()
                        .get(room.saturating_sub(1))
                        .map_or(text.len(), |&(_, end)| end);
                    text.get(..end).unwrap_or(text)
                }
                Counter::Approximate => approximate::cut(text, room),
            };
            // A text cut within a word may have other tokens at its end than it had there before.
            let tokens: usize = self.whole_tokens(vec![kept])?.iter().sum();
            let excess = tokens.saturating_sub(self.window);
            if excess == 0 || room <= 1 {
                return Ok(kept);
            }
            room = room.saturating_sub(excess).max(1);
        }
    }
}

/// Whether it cuts at every blank before it looks for tokens, as BERT's does, so that lines have the same tokens alone
/// and together.
fn reads_word_by_word(inner: &tokenizers::Tokenizer) -> bool {
    matches!(inner.get_pre_tokenizer(), Some(PreTokenizerWrapper::BertPreTokenizer(_)))
        && matches!(inner.get_normalizer(), Some(NormalizerWrapper::BertNormalizer(_)))
}

/// A model's `tokenizer.json`.
pub(crate) fn read(path: &Path, window: usize) -> Result<Tokenizer, LoadError> {
    let bytes = fs::read(path).map_err(|source| LoadError::File { path: path.to_owned(), source })?;
    let inner = tokenizers::Tokenizer::from_bytes(bytes)
        .map_err(|reason| LoadError::TokenizerFile { path: path.to_owned(), reason: reason.to_string() })?;
    Ok(Tokenizer::new(inner, window)?)
}

pub(crate) fn prefixed<'t>(prefix: &str, text: &'t str) -> Cow<'t, str> {
    if prefix.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(format!("{prefix}{text}")) }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.is_exact() { "exact" } else { "approximate" };
        write!(f, "Tokenizer({kind}, window {}, prefix {:?})", self.window, self.prefix)
    }
}

fn failed(reason: tokenizers::Error) -> TokenizerError {
    TokenizerError::Failed(reason.to_string())
}

/// A tokenizer of the model's kind (BERT's normaliser, pre-tokeniser and word pieces) that needs no files: its
/// pieces are single letters and a few common runs of them.
#[cfg(test)]
pub(crate) fn letters(window: usize) -> Tokenizer {
    Tokenizer::new(letters_file().parse().unwrap(), window).unwrap()
}

/// The `tokenizer.json` of [`letters`].
#[cfg(test)]
pub(crate) fn letters_file() -> String {
    let normalizer = serde_json::json!({
        "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
        "strip_accents": null, "lowercase": true,
    });
    pieces_of_letters(normalizer, serde_json::json!({"type": "BertPreTokenizer"}))
}

/// Like [`letters`], but each blank is a token, so that tokens do not add up over line breaks.
#[cfg(test)]
pub(crate) fn letters_and_blanks(window: usize) -> Tokenizer {
    let splitter = serde_json::json!({
        "type": "Split", "pattern": {"Regex": r"\s"}, "behavior": "Isolated", "invert": false,
    });
    let file = pieces_of_letters(serde_json::Value::Null, splitter);
    Tokenizer::new(file.parse().unwrap(), window).unwrap()
}

#[cfg(test)]
fn pieces_of_letters(normalizer: serde_json::Value, pre_tokenizer: serde_json::Value) -> String {
    let single = ('!'..='~').chain(['é', '한', '你', '好']).map(String::from);
    let starts: Vec<String> = single.chain(["the", "abc", "abcd", "cd", "at"].map(String::from)).collect();
    let inner = starts.iter().map(|piece| format!("##{piece}"));
    let pieces = ["[UNK]", "[CLS]", "[SEP]"].map(String::from).into_iter().chain(starts.clone()).chain(inner);
    let vocab: serde_json::Map<String, serde_json::Value> =
        pieces.zip(0..).map(|(piece, id)| (piece, id.into())).collect();
    serde_json::json!({
        "version": "1.0",
        "added_tokens": [],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab,
        },
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use tokenizers::TruncationParams;

    use super::*;

    #[test]
    fn special_tokens_count() {
        let tokenizer = letters(64);
        assert_eq!(tokenizer.count("").unwrap(), 2);
        assert_eq!(tokenizer.count("the xy").unwrap(), 5);
        assert_eq!(tokenizer.room(), 62);
    }

    fn model_of(tokenizer: &Tokenizer) -> tokenizers::Tokenizer {
        match &tokenizer.counter {
            Counter::Exact(inner) => inner.as_ref().clone(),
            Counter::Approximate => panic!("a guess has no tokenizer"),
        }
    }

    #[test]
    fn cutting_and_padding_of_the_tokenizer_given_are_undone() {
        let mut cutting = model_of(&letters(64));
        cutting.with_truncation(Some(TruncationParams { max_length: 8, ..Default::default() })).unwrap();
        cutting.with_padding(Some(tokenizers::PaddingParams {
            strategy: tokenizers::PaddingStrategy::Fixed(16),
            ..Default::default()
        }));
        let tokenizer = Tokenizer::new(cutting, 64).unwrap();
        assert_eq!(tokenizer.count("x").unwrap(), 3);
        assert_eq!(tokenizer.count(&"x ".repeat(100)).unwrap(), 102);
    }

    #[test]
    fn a_window_can_be_narrowed_and_not_widened() {
        let tokenizer = letters(64).with_passage_prefix("abc").unwrap();
        assert_eq!(tokenizer.at_most(40).room(), 38);
        assert_eq!(tokenizer.at_most(40).window(), 41);
        assert_eq!(tokenizer.at_most(100).window(), 64);
    }

    #[test]
    fn a_window_without_room_is_refused() {
        let inner = model_of(&letters(64));
        assert!(matches!(Tokenizer::new(inner, 31), Err(TokenizerError::Window(31))));
    }

    #[test]
    fn a_passage_prefix_takes_room_and_counts() {
        let plain = letters(64);
        let e5 = plain.clone().with_passage_prefix("abc: ").unwrap();
        assert_eq!(e5.room(), plain.room() - 2);
        assert_eq!(e5.count("the xy").unwrap(), plain.count("abc: the xy").unwrap());
    }

    #[test]
    fn a_prefix_that_leaves_no_room_is_refused() {
        let long = "x ".repeat(31);
        let refused = letters(64).with_passage_prefix(&long);
        assert!(matches!(refused, Err(TokenizerError::Prefix { tokens: 33, window: 64 })), "{refused:?}");
        let refused = Tokenizer::approximate(64).unwrap().with_passage_prefix(&long);
        assert!(matches!(refused, Err(TokenizerError::Prefix { tokens: 33, window: 64 })), "{refused:?}");
    }

    #[test]
    fn a_window_without_room_is_refused_of_a_guess_too() {
        assert!(matches!(Tokenizer::approximate(31), Err(TokenizerError::Window(31))));
    }

    #[test]
    fn a_cut_keeps_what_the_model_reads() {
        for tokenizer in [letters(32), letters_and_blanks(32), Tokenizer::approximate(32).unwrap()] {
            for text in
                ["x, ".repeat(100), format!("{} ", "abcd".repeat(20)).repeat(4), "한你é🎉 ".repeat(40)]
            {
                let kept = tokenizer.cut(&text).unwrap();
                let tokens = tokenizer.count(kept).unwrap();
                assert!(
                    text.starts_with(kept) && tokens <= 32 && tokens > 32 - 4,
                    "{tokens} of {tokenizer:?}"
                );
            }
            assert_eq!(tokenizer.cut("short").unwrap(), "short");
        }
    }
}
