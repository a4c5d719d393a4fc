//! Reading a model's `tokenizer.json`.

use std::fs;
use std::path::Path;

use crate::error::LoadError;
use crate::tokenizer::Tokenizer;

/// Reads the `tokenizer.json` at `path` for a model that reads `max_tokens` tokens.
pub(crate) fn read(path: &Path, max_tokens: usize) -> Result<Tokenizer, LoadError> {
    let bytes = fs::read(path).map_err(|source| LoadError::File { path: path.to_owned(), source })?;
    let inner = tokenizers::Tokenizer::from_bytes(bytes)
        .map_err(|reason| LoadError::TokenizerFile { path: path.to_owned(), reason: reason.to_string() })?;
    Ok(Tokenizer::new(inner, max_tokens)?)
}
