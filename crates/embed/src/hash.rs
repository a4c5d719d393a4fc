//! No model at all: vectors drawn from a text's hash, to try and to measure everything around a model.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use futures::FutureExt;
use futures::future::BoxFuture;
use guildex_types::ModelSlug;

use crate::embedder::{EmbedError, Embedder};
use crate::error::LoadError;
use crate::reader::Reader;
use crate::tokenizer::{self, Tokenizer};

/// A stand-in for a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashConfig {
    /// The name that it goes by.
    pub slug: ModelSlug,
    /// The length of its vectors.
    pub dimensions: usize,
    /// The tokens that it reads of a text, special ones included.
    pub window: usize,
    /// A `tokenizer.json` to count with. Without it tokens are guessed, on the high side.
    pub tokenizer: Option<PathBuf>,
}

/// Gives equal texts equal vectors, and others others. Searches by meaning find nothing with it.
pub struct HashEmbedder {
    slug: ModelSlug,
    dimensions: usize,
    reader: Reader,
}

impl HashEmbedder {
    /// Reads the tokenizer, where there is one, which may take a second.
    ///
    /// # Errors
    /// If the tokenizer cannot be read, or no model has such a window.
    pub fn new(config: HashConfig) -> Result<Self, LoadError> {
        let HashConfig { slug, dimensions, window, tokenizer } = config;
        let tokenizer = match &tokenizer {
            Some(path) => tokenizer::read(path, window)?,
            None => Tokenizer::approximate(window)?,
        };
        let reader = Reader::new(tokenizer, String::new(), String::new())?;
        Ok(Self { slug, dimensions, reader })
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
        self.reader.tokenizer()
    }

    /// Wants a tokio runtime.
    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Vec<Vec<f32>>, EmbedError>> {
        async move {
            let read = self.reader.passages(texts).await?;
            Ok(read.texts.iter().map(|text| vector(text, self.dimensions)).collect())
        }
        .boxed()
    }

    fn truncated(&self) -> u64 {
        self.reader.truncated()
    }
}

/// Of length one.
fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let mut state = hasher.finish();
    let mut draw = || {
        // SplitMix64 (Steele, Lea and Flood, 2014).
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    let drawn: Vec<f32> = (0..dimensions).map(|_| draw()).collect();
    let length = drawn.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    drawn.into_iter().map(|x| x / length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn equal_texts_get_equal_vectors_of_length_one_and_others_others() {
        let config =
            HashConfig { slug: "hash".parse().unwrap(), dimensions: 384, window: 256, tokenizer: None };
        let embedder = HashEmbedder::new(config).unwrap();
        let vectors = embedder.embed(["a", "b", "a"].map(str::to_owned).into()).await.unwrap();
        let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
        assert_eq!(vectors[0], vectors[2]);
        assert!((cosine(&vectors[0], &vectors[0]) - 1.0).abs() < 1e-5);
        assert!(cosine(&vectors[0], &vectors[1]).abs() < 0.3);
    }
}
