//! Counting tokens as the model does.

use std::ops::RangeInclusive;
use std::sync::Arc;

/// Room for the special tokens, a shortened header and any single character.
const WINDOWS: RangeInclusive<usize> = 32..=8192;

/// A model's tokenizer and its window. It counts whole texts: it neither cuts nor pads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    window: usize,
    specials: usize,
}

/// Why tokens could not be counted.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A window that no model has.
    #[error("a window of {0} tokens is out of range: use {start} to {end}", start = WINDOWS.start(), end = WINDOWS.end())]
    Window(usize),
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
        Ok(Self { inner: Arc::new(inner), window, specials })
    }

    pub(crate) fn check_window(window: usize) -> Result<(), TokenizerError> {
        if WINDOWS.contains(&window) { Ok(()) } else { Err(TokenizerError::Window(window)) }
    }

    /// How many tokens the model reads of a text, the special ones included.
    pub fn window(&self) -> usize {
        self.window
    }

    /// How many tokens of the window are the text's own: the window without the special ones.
    pub fn room(&self) -> usize {
        self.window.saturating_sub(self.specials)
    }

    /// The tokens of `text`, the special ones included.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub fn count(&self, text: &str) -> Result<usize, TokenizerError> {
        Ok(self.inner.encode_fast(text, true).map_err(failed)?.len())
    }

    /// The tokens of each of `texts`, the special ones not included.
    pub(crate) fn own_tokens(&self, texts: Vec<&str>) -> Result<Vec<usize>, TokenizerError> {
        let encodings = self.inner.encode_batch_fast(texts, false).map_err(failed)?;
        Ok(encodings.iter().map(tokenizers::Encoding::len).collect())
    }

    /// The tokens of each of `texts`, the special ones included.
    pub(crate) fn counts(&self, texts: Vec<&str>) -> Result<Vec<usize>, TokenizerError> {
        let own = self.own_tokens(texts)?;
        Ok(own.into_iter().map(|tokens| tokens + self.specials).collect())
    }
}

fn failed(reason: tokenizers::Error) -> TokenizerError {
    TokenizerError::Failed(reason.to_string())
}

/// A tokenizer of the model's kind (BERT's normaliser, pre-tokeniser and word pieces) that needs no files: its
/// pieces are single letters and a few common runs of them.
#[cfg(test)]
pub(crate) fn letters(window: usize) -> Tokenizer {
    let normalizer = serde_json::json!({
        "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
        "strip_accents": null, "lowercase": true,
    });
    pieces_of_letters(normalizer, serde_json::json!({"type": "BertPreTokenizer"}), window)
}

/// Like [`letters`], but each blank is a token, so that tokens do not add up over line breaks.
#[cfg(test)]
pub(crate) fn letters_and_blanks(window: usize) -> Tokenizer {
    let splitter = serde_json::json!({
        "type": "Split", "pattern": {"Regex": r"\s"}, "behavior": "Isolated", "invert": false,
    });
    pieces_of_letters(serde_json::Value::Null, splitter, window)
}

#[cfg(test)]
fn pieces_of_letters(
    normalizer: serde_json::Value,
    pre_tokenizer: serde_json::Value,
    window: usize,
) -> Tokenizer {
    let single = ('!'..='~').chain(['é', '한', '你', '好']).map(String::from);
    let starts: Vec<String> = single.chain(["the", "abc", "abcd", "cd", "at"].map(String::from)).collect();
    let inner = starts.iter().map(|piece| format!("##{piece}"));
    let pieces = ["[UNK]", "[CLS]", "[SEP]"].map(String::from).into_iter().chain(starts.clone()).chain(inner);
    let vocab: serde_json::Map<String, serde_json::Value> =
        pieces.zip(0..).map(|(piece, id)| (piece, id.into())).collect();
    let file = serde_json::json!({
        "version": "1.0",
        "added_tokens": [],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab,
        },
    });
    Tokenizer::new(file.to_string().parse().unwrap(), window).unwrap()
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

    #[test]
    fn cutting_and_padding_of_the_tokenizer_given_are_undone() {
        let mut cutting = letters(64).inner.as_ref().clone();
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
    fn a_window_without_room_is_refused() {
        let inner = letters(64).inner.as_ref().clone();
        assert!(matches!(Tokenizer::new(inner, 31), Err(TokenizerError::Window(31))));
    }
}
