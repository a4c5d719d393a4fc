//! Origin of a local model: a directory, or a name to download.

use std::path::PathBuf;

use fastembed::{EmbeddingModel, ModelInfo, TextEmbedding};
use serde::{Deserialize, Serialize};

use crate::error::LoadError;

/// Default model.
const DEFAULT: &str = "all-MiniLM-L6-v2";
/// Minimum similarity of a suggested name, between 0 and 1.
const MIN_SIMILARITY: f64 = 0.6;
/// Maximum number of suggested names.
const MAX_SUGGESTIONS: usize = 4;

/// Origin of a local model's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalSource {
    /// Directory with `model.onnx` (of any precision), `tokenizer.json`, `config.json`,
    /// `special_tokens_map.json` and `tokenizer_config.json`.
    Folder {
        /// Path of the directory.
        path: PathBuf,
        /// Pooling of token vectors, as documented by the model.
        pooling: Pooling,
    },
    /// Model supported by fastembed, downloaded from the Hugging Face hub on first use with the right pooling. The name is
    /// the model's name on the hub, such as `multilingual-e5-small`; the suffix `-q` selects the quantized model. Not
    /// case-sensitive.
    Named(String),
}

/// Pooling of token vectors into the vector of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// Mean of all token vectors: sentence-transformers and e5 models.
    #[default]
    Mean,
    /// Vector of the first token: bge and similar models.
    Cls,
}

impl From<Pooling> for fastembed::Pooling {
    fn from(pooling: Pooling) -> Self {
        match pooling {
            Pooling::Mean => Self::Mean,
            Pooling::Cls => Self::Cls,
        }
    }
}

impl Default for LocalSource {
    /// Downloads all-MiniLM-L6-v2.
    fn default() -> Self {
        Self::Named(DEFAULT.to_owned())
    }
}

/// The directory with mean pooling, or the default model.
impl From<Option<PathBuf>> for LocalSource {
    fn from(folder: Option<PathBuf>) -> Self {
        folder.map_or_else(Self::default, |path| Self::Folder { path, pooling: Pooling::Mean })
    }
}

/// Finds the model with that name among those of fastembed.
pub(crate) fn resolve(name: &str) -> Result<ModelInfo<EmbeddingModel>, LoadError> {
    let mut known = TextEmbedding::list_supported_models();
    match known.iter().position(|model| model_name(model).eq_ignore_ascii_case(name)) {
        Some(found) => Ok(known.swap_remove(found)),
        None => Err(LoadError::Name { name: name.to_owned(), hint: hint(name, &known) }),
    }
}

/// Last part of the name on the hub, without the file format.
fn model_name(model: &ModelInfo<EmbeddingModel>) -> String {
    let code = model.model_code.to_ascii_lowercase();
    let name = code.rsplit('/').next().unwrap_or_default();
    let name = name.trim_end_matches("-q").trim_end_matches("-onnx");
    // The name on the hub does not always contain the precision; fastembed's variant does.
    let variant = model.model.to_string();
    match variant.rsplit_once('Q') {
        Some((_, "")) => format!("{name}-q"),
        Some((_, "4")) => format!("{name}-q4"),
        _ => name.to_owned(),
    }
}

fn hint(name: &str, known: &[ModelInfo<EmbeddingModel>]) -> String {
    let name = name.to_ascii_lowercase();
    let mut names: Vec<(f64, String)> =
        known.iter().map(model_name).map(|known| (strsim::jaro_winkler(&name, &known), known)).collect();
    names.sort_by(|(a, one), (b, other)| b.total_cmp(a).then_with(|| one.cmp(other)));
    let (near, far): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|(similarity, _)| *similarity >= MIN_SIMILARITY);
    let list = |names: Vec<(f64, String)>, limit: usize| {
        names.into_iter().take(limit).map(|(_, name)| name).collect::<Vec<_>>().join(", ")
    };
    if near.is_empty() {
        format!("use one of {}", list(far, usize::MAX))
    } else {
        format!("did you mean {}?", list(near, MAX_SUGGESTIONS))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_resolve_to_models() {
        for (name, model, dimensions) in [
            ("all-MiniLM-L6-v2", EmbeddingModel::AllMiniLML6V2, 384),
            ("all-minilm-l6-v2-q", EmbeddingModel::AllMiniLML6V2Q, 384),
            ("multilingual-e5-small", EmbeddingModel::MultilingualE5Small, 384),
            ("multilingual-e5-large", EmbeddingModel::MultilingualE5Large, 1024),
            ("paraphrase-multilingual-MiniLM-L12-v2", EmbeddingModel::ParaphraseMLMiniLML12V2, 384),
            ("paraphrase-multilingual-MiniLM-L12-v2-q", EmbeddingModel::ParaphraseMLMiniLML12V2Q, 384),
            ("bge-small-en-v1.5", EmbeddingModel::BGESmallENV15, 384),
            ("bge-small-en-v1.5-q", EmbeddingModel::BGESmallENV15Q, 384),
            ("bge-m3", EmbeddingModel::BGEM3, 1024),
            ("embeddinggemma-300m-q4", EmbeddingModel::EmbeddingGemma300MQ4, 768),
        ] {
            let found = resolve(name).unwrap();
            assert_eq!((found.model, found.dim), (model, dimensions), "{name}");
        }
    }

    #[test]
    fn every_model_has_a_unique_name() {
        let known = TextEmbedding::list_supported_models();
        let names: BTreeSet<String> = known.iter().map(model_name).collect();
        assert_eq!(names.len(), known.len(), "{names:?}");
        for model in known {
            assert_eq!(resolve(&model_name(&model)).unwrap().model, model.model);
        }
    }

    #[test]
    fn an_unknown_name_gets_suggestions() {
        let error = resolve("multilingual-e5-smal").unwrap_err().to_string();
        assert!(
            error.contains("unknown model multilingual-e5-smal: did you mean multilingual-e5-small, "),
            "{error}"
        );
        let error = resolve("zzz").unwrap_err().to_string();
        assert!(
            error.contains("use one of ") && error.contains("bge-m3") && error.contains("all-minilm-l6-v2"),
            "{error}"
        );
    }

    #[test]
    fn without_a_directory_the_default_model_is_used() {
        let LocalSource::Named(name) = LocalSource::from(None) else { panic!("a directory") };
        assert_eq!(resolve(&name).unwrap().model, EmbeddingModel::AllMiniLML6V2);
    }
}
