//! Counts tokens as a model does.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::sync::Arc;

use tokenizers::{NormalizerWrapper, PreTokenizerWrapper};

use crate::token_estimate;

/// The minimum has room for special tokens, a shortened header and any single character.
const MAX_TOKENS_RANGE: RangeInclusive<usize> = 32..=8192;

/// A prefix takes at most this fraction of `max_tokens`.
const PREFIX_FRACTION: usize = 2;

/// Special tokens assumed by an estimate.
const APPROXIMATE_SPECIALS: usize = 2;

/// Counts tokens for a model. It counts whole texts without truncation or padding. Cheap to clone.
///
/// Counts include what the model adds to a stored text: special tokens and its
/// [prefix for passages](Self::with_passage_prefix).
#[derive(Clone)]
pub struct Tokenizer {
    counter: Counter,
    max_tokens: usize,
    specials: usize,
    prefix: Arc<str>,
    prefix_tokens: usize,
    /// Whether the tokens of a text are the sum of the tokens of its lines.
    adds_up: bool,
}

#[derive(Clone)]
enum Counter {
    /// The model's own tokenizer.
    Exact(Arc<tokenizers::Tokenizer>),
    /// An estimate.
    Approximate,
}

/// Error of counting tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// `max_tokens` is out of range.
    #[error("max_tokens of {0} is out of range: use {start} to {end}", start = MAX_TOKENS_RANGE.start(), end = MAX_TOKENS_RANGE.end())]
    MaxTokens(usize),
    /// The prefix leaves too little room for the text.
    #[error(
        "a prefix of {tokens} tokens takes more than half of max_tokens ({max_tokens}): use a shorter prefix"
    )]
    Prefix {
        /// Tokens of the prefix, including special tokens.
        tokens: usize,
        /// Configured limit.
        max_tokens: usize,
    },
    /// The tokenizer failed with this reason.
    #[error("the tokenizer failed: {0}")]
    Failed(String),
}

impl Tokenizer {
    /// Counts with `inner` for a model that reads at most `max_tokens` tokens, including the special tokens (`[CLS]` and
    /// `[SEP]`). Removes truncation and padding from `inner`.
    ///
    /// # Errors
    /// If `max_tokens` is below 32 or above 8,192, or the tokenizer fails on an empty text.
    pub fn new(mut inner: tokenizers::Tokenizer, max_tokens: usize) -> Result<Self, TokenizerError> {
        Self::check_max_tokens(max_tokens)?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(failed)?;
        let specials = inner.encode_fast("", true).map_err(failed)?.len();
        let adds_up = splits_at_whitespace(&inner);
        let counter = Counter::Exact(Arc::new(inner));
        Ok(Self { counter, max_tokens, specials, prefix: "".into(), prefix_tokens: 0, adds_up })
    }

    /// Overestimates tokens for a model that reads at most `max_tokens` tokens and whose tokenizer is not available. For
    /// English text the estimate is about 1.5 times the real number.
    ///
    /// # Errors
    /// If `max_tokens` is below 32 or above 8,192.
    pub fn approximate(max_tokens: usize) -> Result<Self, TokenizerError> {
        Self::check_max_tokens(max_tokens)?;
        Ok(Self {
            counter: Counter::Approximate,
            max_tokens,
            specials: APPROXIMATE_SPECIALS,
            prefix: "".into(),
            prefix_tokens: 0,
            adds_up: false,
        })
    }

    /// Adds `prefix` to each stored text when counting, as e5 models read `"passage: "`.
    ///
    /// # Errors
    /// If the prefix takes more than half of `max_tokens`, or the tokenizer fails on it.
    pub fn with_passage_prefix(self, prefix: &str) -> Result<Self, TokenizerError> {
        let prefix_tokens = self.tokens_of_prefix(prefix)?;
        let ends_word = prefix.is_empty() || prefix.ends_with(char::is_whitespace);
        Ok(Self { prefix: prefix.into(), prefix_tokens, adds_up: self.adds_up && ends_word, ..self })
    }

    /// Lowers the limit to `tokens`, including special tokens but not the prefix. A lower limit is kept.
    #[must_use]
    pub fn at_most(&self, tokens: usize) -> Self {
        Self { max_tokens: self.max_tokens.min(tokens.saturating_add(self.prefix_tokens)), ..self.clone() }
    }

    /// Tokens of a prefix, without special tokens.
    pub(crate) fn tokens_of_prefix(&self, prefix: &str) -> Result<usize, TokenizerError> {
        let own: usize = self.own_tokens(vec![prefix])?.iter().sum();
        let tokens = own + self.specials;
        if tokens > self.max_tokens / PREFIX_FRACTION {
            return Err(TokenizerError::Prefix { tokens, max_tokens: self.max_tokens });
        }
        Ok(own)
    }

    pub(crate) fn check_max_tokens(max_tokens: usize) -> Result<(), TokenizerError> {
        if MAX_TOKENS_RANGE.contains(&max_tokens) {
            Ok(())
        } else {
            Err(TokenizerError::MaxTokens(max_tokens))
        }
    }

    /// Tokens that the model reads of a text, including prefix and special tokens.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Tokens left for the text itself: `max_tokens` without prefix and special tokens.
    pub fn room(&self) -> usize {
        self.max_tokens.saturating_sub(self.specials + self.prefix_tokens)
    }

    /// Whether counts are exact rather than estimated.
    pub fn is_exact(&self) -> bool {
        matches!(self.counter, Counter::Exact(_))
    }

    /// Counts the tokens of `text`, including prefix and special tokens.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub fn count(&self, text: &str) -> Result<usize, TokenizerError> {
        Ok(self.counts(vec![text])?.iter().sum())
    }

    /// Counts the tokens of each text without prefix and special tokens.
    pub(crate) fn own_tokens(&self, texts: Vec<&str>) -> Result<Vec<usize>, TokenizerError> {
        match &self.counter {
            Counter::Exact(inner) => {
                let encodings = inner.encode_batch_fast(texts, false).map_err(failed)?;
                Ok(encodings.iter().map(tokenizers::Encoding::len).collect())
            }
            Counter::Approximate => Ok(texts.into_iter().map(token_estimate::tokens).collect()),
        }
    }

    /// Counts the tokens of each text, including prefix and special tokens.
    pub(crate) fn counts(&self, texts: Vec<&str>) -> Result<Vec<usize>, TokenizerError> {
        // Tokens of concatenated texts do not add up with every tokenizer.
        let prefixed: Vec<Cow<'_, str>> =
            texts.into_iter().map(|text| prefixed(&self.prefix, text)).collect();
        self.whole_tokens(prefixed.iter().map(AsRef::as_ref).collect())
    }

    /// Same as [`counts`](Self::counts) for texts made of lines with `own` tokens per text. Reuses these if tokens add up
    /// over lines, which avoids tokenizing again.
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

    /// Counts the tokens of each text, including special tokens. The texts already have their prefix.
    pub(crate) fn whole_tokens(&self, texts: Vec<&str>) -> Result<Vec<usize>, TokenizerError> {
        let own = self.own_tokens(texts)?;
        Ok(own.into_iter().map(|tokens| tokens + self.specials).collect())
    }

    /// Truncates `text`, which already has its prefix, to the part that the model reads.
    pub(crate) fn cut<'t>(&self, text: &'t str) -> Result<&'t str, TokenizerError> {
        let mut room = self.max_tokens.saturating_sub(self.specials);
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
                Counter::Approximate => token_estimate::cut(text, room),
            };
            // A text cut within a word may end in other tokens than the original.
            let tokens: usize = self.whole_tokens(vec![kept])?.iter().sum();
            let excess = tokens.saturating_sub(self.max_tokens);
            if excess == 0 || room <= 1 {
                return Ok(kept);
            }
            room = room.saturating_sub(excess).max(1);
        }
    }
}

/// Whether the tokenizer splits at whitespace first, as BERT's does, so that lines have the same tokens alone and
/// together.
fn splits_at_whitespace(inner: &tokenizers::Tokenizer) -> bool {
    matches!(inner.get_pre_tokenizer(), Some(PreTokenizerWrapper::BertPreTokenizer(_)))
        && matches!(inner.get_normalizer(), Some(NormalizerWrapper::BertNormalizer(_)))
}

pub(crate) fn prefixed<'t>(prefix: &str, text: &'t str) -> Cow<'t, str> {
    if prefix.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(format!("{prefix}{text}")) }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.is_exact() { "exact" } else { "approximate" };
        write!(f, "Tokenizer({kind}, max_tokens {}, prefix {:?})", self.max_tokens, self.prefix)
    }
}

fn failed(reason: tokenizers::Error) -> TokenizerError {
    TokenizerError::Failed(reason.to_string())
}

/// Tokenizer like that of the default model (BERT's normalizer, pre-tokenizer and word pieces) that needs no files. Its
/// pieces are single letters and some common sequences.
#[cfg(test)]
pub(crate) fn letters(max_tokens: usize) -> Tokenizer {
    Tokenizer::new(letters_file().parse().unwrap(), max_tokens).unwrap()
}

/// `tokenizer.json` of [`letters`].
#[cfg(test)]
pub(crate) fn letters_file() -> String {
    let normalizer = serde_json::json!({
        "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
        "strip_accents": null, "lowercase": true,
    });
    pieces_of_letters(normalizer, serde_json::json!({"type": "BertPreTokenizer"}))
}

/// Like [`letters`], but each whitespace character is a token, so that tokens do not add up over line breaks.
#[cfg(test)]
pub(crate) fn letters_and_blanks(max_tokens: usize) -> Tokenizer {
    let splitter = serde_json::json!({
        "type": "Split", "pattern": {"Regex": r"\s"}, "behavior": "Isolated", "invert": false,
    });
    let file = pieces_of_letters(serde_json::Value::Null, splitter);
    Tokenizer::new(file.parse().unwrap(), max_tokens).unwrap()
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
    fn special_tokens_are_counted() {
        let tokenizer = letters(64);
        assert_eq!(tokenizer.count("").unwrap(), 2);
        assert_eq!(tokenizer.count("the xy").unwrap(), 5);
        assert_eq!(tokenizer.room(), 62);
    }

    fn model_of(tokenizer: &Tokenizer) -> tokenizers::Tokenizer {
        match &tokenizer.counter {
            Counter::Exact(inner) => inner.as_ref().clone(),
            Counter::Approximate => panic!("an estimate has no tokenizer"),
        }
    }

    #[test]
    fn truncation_and_padding_of_the_given_tokenizer_are_removed() {
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
    fn max_tokens_can_be_lowered_but_not_raised() {
        let tokenizer = letters(64).with_passage_prefix("abc").unwrap();
        assert_eq!(tokenizer.at_most(40).room(), 38);
        assert_eq!(tokenizer.at_most(40).max_tokens(), 41);
        assert_eq!(tokenizer.at_most(100).max_tokens(), 64);
    }

    #[test]
    fn max_tokens_without_room_is_rejected() {
        let inner = model_of(&letters(64));
        assert!(matches!(Tokenizer::new(inner, 31), Err(TokenizerError::MaxTokens(31))));
    }

    #[test]
    fn a_passage_prefix_is_counted() {
        let plain = letters(64);
        let e5 = plain.clone().with_passage_prefix("abc: ").unwrap();
        assert_eq!(e5.room(), plain.room() - 2);
        assert_eq!(e5.count("the xy").unwrap(), plain.count("abc: the xy").unwrap());
    }

    #[test]
    fn a_prefix_that_leaves_no_room_is_rejected() {
        let long = "x ".repeat(31);
        let rejected = letters(64).with_passage_prefix(&long);
        assert!(
            matches!(rejected, Err(TokenizerError::Prefix { tokens: 33, max_tokens: 64 })),
            "{rejected:?}"
        );
        let rejected = Tokenizer::approximate(64).unwrap().with_passage_prefix(&long);
        assert!(
            matches!(rejected, Err(TokenizerError::Prefix { tokens: 33, max_tokens: 64 })),
            "{rejected:?}"
        );
    }

    #[test]
    fn max_tokens_without_room_is_rejected_for_estimates() {
        assert!(matches!(Tokenizer::approximate(31), Err(TokenizerError::MaxTokens(31))));
    }

    #[test]
    fn a_cut_keeps_the_part_that_the_model_reads() {
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
