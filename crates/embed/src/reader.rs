//! Reading texts as a model does: with the prefix it wants, and no further than its window.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::embedder::{EmbedError, Passage};
use crate::tokenizer::{Tokenizer, TokenizerError, prefixed};

/// A model's tokenizer, its prefixes, and how often a text was beyond its window.
pub(crate) struct Reader {
    tokenizer: Tokenizer,
    passage_prefix: String,
    query_prefix: String,
    truncated: AtomicU64,
}

/// Texts as they go to the model, each with its tokens: never more than the window.
pub(crate) struct Measured {
    pub(crate) texts: Vec<String>,
    pub(crate) tokens: Vec<usize>,
}

impl Reader {
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

    /// How many texts were cut.
    pub(crate) fn truncated(&self) -> u64 {
        self.truncated.load(Ordering::Relaxed)
    }

    /// Texts to be stored.
    pub(crate) async fn passages(&self, texts: Vec<String>) -> Result<Measured, EmbedError> {
        self.measure(&self.passage_prefix, texts, None).await
    }

    /// Texts to be stored that were counted before.
    pub(crate) async fn counted(&self, passages: Vec<Passage>) -> Result<Measured, EmbedError> {
        let (texts, tokens) = passages.into_iter().map(|passage| (passage.text, passage.tokens)).unzip();
        self.measure(&self.passage_prefix, texts, Some(tokens)).await
    }

    /// A question.
    pub(crate) async fn question(&self, text: String) -> Result<Measured, EmbedError> {
        self.measure(&self.query_prefix, vec![text], None).await
    }

    /// Counts on a thread that may block, unless the tokens are known.
    async fn measure(
        &self,
        prefix: &str,
        texts: Vec<String>,
        tokens: Option<Vec<usize>>,
    ) -> Result<Measured, EmbedError> {
        let (tokenizer, prefix) = (self.tokenizer.clone(), prefix.to_owned());
        let counting = tokio::task::spawn_blocking(move || measure(&tokenizer, &prefix, texts, tokens));
        let (measured, cut) = counting.await.map_err(|_| EmbedError::Panicked)??;
        if cut > 0 {
            self.truncated.fetch_add(cut, Ordering::Relaxed);
            let window = self.tokenizer.window();
            tracing::warn!(texts = cut, window, "texts beyond the model's window are cut");
        }
        Ok(measured)
    }
}

/// What goes to the model, and how many of the texts were cut.
fn measure(
    tokenizer: &Tokenizer,
    prefix: &str,
    mut texts: Vec<String>,
    tokens: Option<Vec<usize>>,
) -> Result<(Measured, u64), TokenizerError> {
    if !prefix.is_empty() {
        texts.iter_mut().for_each(|text| *text = prefixed(prefix, text).into_owned());
    }
    let mut tokens = match tokens {
        Some(tokens) => tokens,
        None => tokenizer.whole_tokens(texts.iter().map(String::as_str).collect())?,
    };
    let mut cut = 0;
    for (text, tokens) in
        texts.iter_mut().zip(&mut tokens).filter(|(_, tokens)| **tokens > tokenizer.window())
    {
        let kept = tokenizer.cut(text)?.len();
        text.truncate(kept);
        *tokens = tokenizer.window();
        cut += 1;
    }
    Ok((Measured { texts, tokens }, cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(window: usize) -> Reader {
        let tokenizer = Tokenizer::approximate(window).unwrap();
        Reader::new(tokenizer, "passage: ".into(), "query: ".into()).unwrap()
    }

    #[tokio::test]
    async fn each_kind_of_text_gets_its_prefix() {
        let reader = reader(64);
        assert_eq!(
            reader.passages(vec!["a".into(), "b".into()]).await.unwrap().texts,
            ["passage: a", "passage: b"]
        );
        assert_eq!(reader.question("a".into()).await.unwrap().texts, ["query: a"]);
        assert_eq!(reader.truncated(), 0);
    }

    #[tokio::test]
    async fn what_is_beyond_the_window_is_cut_and_counted() {
        let reader = reader(32);
        let texts = vec!["x ".repeat(26), "x ".repeat(27), "é".repeat(500)];
        let measured = reader.passages(texts).await.unwrap();
        assert_eq!(measured.tokens, [32, 32, 32]);
        assert_eq!(measured.texts[0], format!("passage: {}", "x ".repeat(26)));
        assert_eq!(measured.texts[1], measured.texts[0]);
        assert_eq!(measured.texts[2], format!("passage: {}", "é".repeat(26)));
        assert_eq!(reader.truncated(), 2);
    }

    #[tokio::test]
    async fn texts_that_were_counted_are_read_alike() {
        let reader = reader(32);
        let texts = vec!["a".to_owned(), "x ".repeat(27)];
        let passages = texts.iter().map(|text| {
            let tokens = reader.tokenizer().count(text).unwrap();
            Passage { text: text.clone(), tokens }
        });
        let counted = reader.counted(passages.collect()).await.unwrap();
        let measured = reader.passages(texts).await.unwrap();
        assert_eq!((counted.texts, counted.tokens), (measured.texts, measured.tokens));
        assert_eq!(reader.truncated(), 2);
    }

    #[test]
    fn either_prefix_must_leave_room() {
        let long = "x ".repeat(40);
        for (passage, query) in [(long.as_str(), ""), ("", long.as_str())] {
            let refused = Reader::new(Tokenizer::approximate(64).unwrap(), passage.into(), query.into());
            assert!(matches!(refused, Err(TokenizerError::Prefix { .. })));
        }
    }
}
