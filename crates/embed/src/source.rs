//! Where a local model comes from: a folder, or a name to download.

use std::path::PathBuf;

use fastembed::{EmbeddingModel, ModelInfo, TextEmbedding};
use serde::{Deserialize, Serialize};

use crate::error::LoadError;

/// The model that a configuration without any other means.
const DEFAULT: &str = "all-MiniLM-L6-v2";
/// How alike a name must be to be suggested, of 1.
const ALIKE: f64 = 0.6;
/// How many names are suggested.
const SUGGESTIONS: usize = 4;

/// Where the files of a local model come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalSource {
    /// A folder with `model.onnx` (of whatever precision), `tokenizer.json`, `config.json`,
    /// `special_tokens_map.json` and `tokenizer_config.json`.
    Folder {
        /// The folder.
        path: PathBuf,
        /// How the model's vectors become one: its documentation says.
        pooling: Pooling,
    },
    /// A model that fastembed knows, downloaded from the model hub at first use and pooled as it ought to be. The
    /// name is the model's own there, as `multilingual-e5-small`; `-q` at its end means the quantised one. Case
    /// does not matter.
    Named(String),
}

/// How the vectors of a text's tokens become the text's one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// Their mean: sentence-transformers' models and e5.
    #[default]
    Mean,
    /// The first token's: bge and the like.
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
    /// all-MiniLM-L6-v2, downloaded.
    fn default() -> Self {
        Self::Named(DEFAULT.to_owned())
    }
}

/// The folder, with mean pooling; without one, the default model.
impl From<Option<PathBuf>> for LocalSource {
    fn from(folder: Option<PathBuf>) -> Self {
        folder.map_or_else(Self::default, |path| Self::Folder { path, pooling: Pooling::Mean })
    }
}

/// The model that fastembed knows under that name.
pub(crate) fn resolve(name: &str) -> Result<ModelInfo<EmbeddingModel>, LoadError> {
    let mut known = TextEmbedding::list_supported_models();
    match known.iter().position(|model| name_of(model).eq_ignore_ascii_case(name)) {
        Some(found) => Ok(known.swap_remove(found)),
        None => Err(LoadError::Name { name: name.to_owned(), hint: hint(name, &known) }),
    }
}

/// The last part of the hub's name, without what it says of the file format.
fn name_of(model: &ModelInfo<EmbeddingModel>) -> String {
    let code = model.model_code.to_ascii_lowercase();
    let name = code.rsplit('/').next().unwrap_or_default();
    let name = name.trim_end_matches("-q").trim_end_matches("-onnx");
    // The precision is not in every code, but in every variant's name.
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
        known.iter().map(name_of).map(|known| (strsim::jaro_winkler(&name, &known), known)).collect();
    names.sort_by(|(a, one), (b, other)| b.total_cmp(a).then_with(|| one.cmp(other)));
    let (near, far): (Vec<_>, Vec<_>) = names.into_iter().partition(|(alike, _)| *alike >= ALIKE);
    let list = |names: Vec<(f64, String)>, most: usize| {
        names.into_iter().take(most).map(|(_, name)| name).collect::<Vec<_>>().join(", ")
    };
    if near.is_empty() {
        format!("there are {}", list(far, usize::MAX))
    } else {
        format!("did you mean {}?", list(near, SUGGESTIONS))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_lead_to_the_models_meant() {
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
    fn every_model_has_a_name_of_its_own() {
        let known = TextEmbedding::list_supported_models();
        let names: BTreeSet<String> = known.iter().map(name_of).collect();
        assert_eq!(names.len(), known.len(), "{names:?}");
        for model in known {
            assert_eq!(resolve(&name_of(&model)).unwrap().model, model.model);
        }
    }

    #[test]
    fn an_unknown_name_is_told_what_is_near_it() {
        let error = resolve("multilingual-e5-smal").unwrap_err().to_string();
        assert!(
            error.contains("no model is called multilingual-e5-smal: did you mean multilingual-e5-small, "),
            "{error}"
        );
        let error = resolve("zzz").unwrap_err().to_string();
        assert!(
            error.contains("there are ") && error.contains("bge-m3") && error.contains("all-minilm-l6-v2"),
            "{error}"
        );
    }

    #[test]
    fn no_folder_means_the_default_model() {
        let LocalSource::Named(name) = LocalSource::from(None) else { panic!("a folder") };
        assert_eq!(resolve(&name).unwrap().model, EmbeddingModel::AllMiniLML6V2);
    }
}
