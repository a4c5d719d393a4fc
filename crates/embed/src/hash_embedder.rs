//! Embedder without a model: derives vectors from hashes, to test and measure everything around a model.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use futures::FutureExt;
use futures::future::BoxFuture;
use guildex_types::ModelSlug;

use crate::embedder::{EmbedError, Embedder};
use crate::encoder_input::InputPreparer;
use crate::error::LoadError;
use crate::tokenizer::Tokenizer;
use crate::tokenizer_file;

/// Configuration of a [`HashEmbedder`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashConfig {
    /// Name of the model.
    pub slug: ModelSlug,
    /// Length of the vectors.
    pub dimensions: usize,
    /// Tokens read of a text, including special tokens.
    pub max_tokens: usize,
    /// Path of a `tokenizer.json`. Without it tokens are overestimated.
    pub tokenizer: Option<PathBuf>,
}

/// Maps equal texts to equal vectors and different texts to different ones. Vectors have no meaning for search.
pub struct HashEmbedder {
    slug: ModelSlug,
    dimensions: usize,
    input: InputPreparer,
}

impl HashEmbedder {
    /// Reads the tokenizer if one is configured, which may take a second.
    ///
    /// # Errors
    /// If the tokenizer cannot be read or `max_tokens` is out of range.
    pub fn new(config: HashConfig) -> Result<Self, LoadError> {
        let HashConfig { slug, dimensions, max_tokens, tokenizer } = config;
        let tokenizer = match &tokenizer {
            Some(path) => tokenizer_file::read(path, max_tokens)?,
            None => Tokenizer::approximate(max_tokens)?,
        };
        let input = InputPreparer::new(tokenizer, String::new(), String::new())?;
        Ok(Self { slug, dimensions, input })
    }
}

impl Embedder for HashEmbedder {
    fn slug(&self) -> &ModelSlug {
        &self.slug
    }

    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn tokenizer(&self) -> &Tokenizer {
        self.input.tokenizer()
    }

    /// Requires a tokio runtime.
    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Vec<Vec<f32>>, EmbedError>> {
        async move {
            let input = self.input.passages(texts).await?;
            Ok(input.texts.iter().map(|text| vector(text, self.dimensions)).collect())
        }
        .boxed()
    }

    fn truncated(&self) -> u64 {
        self.input.truncated()
    }
}

/// Derives a vector of length one.
fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let mut state = hasher.finish();
    let mut next_value = || {
        // SplitMix64 (Steele, Lea and Flood, 2014).
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    let values: Vec<f32> = (0..dimensions).map(|_| next_value()).collect();
    let length = values.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    values.into_iter().map(|x| x / length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn vectors_have_length_one_and_are_equal_only_for_equal_texts() {
        let config =
            HashConfig { slug: "hash".parse().unwrap(), dimensions: 384, max_tokens: 256, tokenizer: None };
        let embedder = HashEmbedder::new(config).unwrap();
        let vectors = embedder.embed(["a", "b", "a"].map(str::to_owned).into()).await.unwrap();
        let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
        assert_eq!(vectors[0], vectors[2]);
        assert!((cosine(&vectors[0], &vectors[0]) - 1.0).abs() < 1e-5);
        assert!(cosine(&vectors[0], &vectors[1]).abs() < 0.3);
    }
}
