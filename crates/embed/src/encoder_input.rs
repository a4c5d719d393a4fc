//! Prepares the input of a model: adds its prefix, counts tokens and truncates at `max_tokens`.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::embedder::{EmbedError, Passage};
use crate::tokenizer::{Tokenizer, TokenizerError, prefixed};

/// Prepares texts with a model's tokenizer and prefixes, and counts truncated texts.
pub(crate) struct InputPreparer {
    tokenizer: Tokenizer,
    passage_prefix: String,
    query_prefix: String,
    truncated: AtomicU64,
}

/// Texts as the model receives them, each with its tokens: at most `max_tokens`.
pub(crate) struct CountedTexts {
    pub(crate) texts: Vec<String>,
    pub(crate) tokens: Vec<usize>,
}

impl InputPreparer {
    pub(crate) fn new(
        tokenizer: Tokenizer,
        passage_prefix: String,
        query_prefix: String,
    ) -> Result<Self, TokenizerError> {
        tokenizer.tokens_of_prefix(&query_prefix)?;
        let tokenizer = tokenizer.with_passage_prefix(&passage_prefix)?;
        Ok(Self { tokenizer, passage_prefix, query_prefix, truncated: AtomicU64::new(0) })
    }

    pub(crate) fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Number of texts truncated since the start.
    pub(crate) fn truncated(&self) -> u64 {
        self.truncated.load(Ordering::Relaxed)
    }

    /// Prepares texts that will be stored.
    pub(crate) async fn passages(&self, texts: Vec<String>) -> Result<CountedTexts, EmbedError> {
        self.prepare(&self.passage_prefix, texts, None).await
    }

    /// Prepares texts that will be stored and whose tokens are known.
    pub(crate) async fn counted(&self, passages: Vec<Passage>) -> Result<CountedTexts, EmbedError> {
        let (texts, tokens) = passages.into_iter().map(|passage| (passage.text, passage.tokens)).unzip();
        self.prepare(&self.passage_prefix, texts, Some(tokens)).await
    }

    /// Prepares a search query.
    pub(crate) async fn query(&self, text: String) -> Result<CountedTexts, EmbedError> {
        self.prepare(&self.query_prefix, vec![text], None).await
    }

    /// Tokenizes on a blocking thread.
    async fn prepare(
        &self,
        prefix: &str,
        texts: Vec<String>,
        tokens: Option<Vec<usize>>,
    ) -> Result<CountedTexts, EmbedError> {
        let (tokenizer, prefix) = (self.tokenizer.clone(), prefix.to_owned());
        let counting = tokio::task::spawn_blocking(move || prepare(&tokenizer, &prefix, texts, tokens));
        let (counted, truncated) = counting.await.map_err(|_| EmbedError::Panicked)??;
        if truncated > 0 {
            self.truncated.fetch_add(truncated, Ordering::Relaxed);
            let max_tokens = self.tokenizer.max_tokens();
            tracing::warn!(
                texts = truncated,
                max_tokens,
                "texts longer than the model's input were truncated"
            );
        }
        Ok(counted)
    }
}

/// Input for the model, and the number of truncated texts.
fn prepare(
    tokenizer: &Tokenizer,
    prefix: &str,
    mut texts: Vec<String>,
    tokens: Option<Vec<usize>>,
) -> Result<(CountedTexts, u64), TokenizerError> {
    if !prefix.is_empty() {
        texts.iter_mut().for_each(|text| *text = prefixed(prefix, text).into_owned());
    }
    let mut tokens = match tokens {
        Some(tokens) => tokens,
        None => tokenizer.whole_tokens(texts.iter().map(String::as_str).collect())?,
    };
    let mut truncated = 0;
    for (text, tokens) in
        texts.iter_mut().zip(&mut tokens).filter(|(_, tokens)| **tokens > tokenizer.max_tokens())
    {
        let kept = tokenizer.cut(text)?.len();
        text.truncate(kept);
        *tokens = tokenizer.max_tokens();
        truncated += 1;
    }
    Ok((CountedTexts { texts, tokens }, truncated))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(max_tokens: usize) -> InputPreparer {
        let tokenizer = Tokenizer::approximate(max_tokens).unwrap();
        InputPreparer::new(tokenizer, "passage: ".into(), "query: ".into()).unwrap()
    }

    #[tokio::test]
    async fn each_kind_of_text_gets_its_prefix() {
        let input = input(64);
        assert_eq!(
            input.passages(vec!["a".into(), "b".into()]).await.unwrap().texts,
            ["passage: a", "passage: b"]
        );
        assert_eq!(input.query("a".into()).await.unwrap().texts, ["query: a"]);
        assert_eq!(input.truncated(), 0);
    }

    #[tokio::test]
    async fn texts_over_max_tokens_are_truncated_and_counted() {
        let input = input(32);
        let texts = vec!["x ".repeat(26), "x ".repeat(27), "é".repeat(500)];
        let measured = input.passages(texts).await.unwrap();
        assert_eq!(measured.tokens, [32, 32, 32]);
        assert_eq!(measured.texts[0], format!("passage: {}", "x ".repeat(26)));
        assert_eq!(measured.texts[1], measured.texts[0]);
        assert_eq!(measured.texts[2], format!("passage: {}", "é".repeat(26)));
        assert_eq!(input.truncated(), 2);
    }

    #[tokio::test]
    async fn counted_texts_give_the_same_input() {
        let input = input(32);
        let texts = vec!["a".to_owned(), "x ".repeat(27)];
        let passages = texts.iter().map(|text| {
            let tokens = input.tokenizer().count(text).unwrap();
            Passage { text: text.clone(), tokens }
        });
        let counted = input.counted(passages.collect()).await.unwrap();
        let measured = input.passages(texts).await.unwrap();
        assert_eq!((counted.texts, counted.tokens), (measured.texts, measured.tokens));
        assert_eq!(input.truncated(), 2);
    }

    #[test]
    fn prefixes_must_leave_room_for_text() {
        let long = "x ".repeat(40);
        for (passage, query) in [(long.as_str(), ""), ("", long.as_str())] {
            let refused =
                InputPreparer::new(Tokenizer::approximate(64).unwrap(), passage.into(), query.into());
            assert!(matches!(refused, Err(TokenizerError::Prefix { .. })));
        }
    }
}
