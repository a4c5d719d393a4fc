//! Configured models, loaded on first use.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use guildex_types::ModelSlug;
use tokio::sync::OnceCell;

use crate::embedder::Embedder;
use crate::error::LoadError;
use crate::hash_embedder::{HashConfig, HashEmbedder};
use crate::http::{HttpConfig, HttpEmbedder};
use crate::local::{LocalConfig, LocalEmbedder};

/// Implementation of a model.
#[derive(Debug, Clone)]
pub enum Provider {
    /// Runs on the CPU.
    Local(LocalConfig),
    /// Calls an API.
    Http(HttpConfig),
    /// Derives vectors from hashes.
    Hash(HashConfig),
}

impl Provider {
    /// Blocks.
    fn load(self) -> Result<Arc<dyn Embedder>, LoadError> {
        Ok(match self {
            Self::Local(config) => Arc::new(LocalEmbedder::load(config)?),
            Self::Http(config) => Arc::new(HttpEmbedder::new(config)?),
            Self::Hash(config) => Arc::new(HashEmbedder::new(config)?),
        })
    }
}

/// Configured models, each loaded at most once per process. Shared as `Arc<ModelRegistry>`.
pub struct ModelRegistry {
    entries: BTreeMap<ModelSlug, Entry>,
}

struct Entry {
    provider: Option<Provider>,
    loaded: OnceCell<Arc<dyn Embedder>>,
}

/// Error of getting a model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The model is not configured.
    #[error("the model {model} is not configured: add a section [models.{model}] (configured: {configured})")]
    Unknown {
        /// Requested model.
        model: ModelSlug,
        /// Configured models, separated by commas.
        configured: String,
    },
    /// The model could not be loaded.
    #[error("the model {model} cannot be loaded")]
    Load {
        /// Requested model.
        model: ModelSlug,
        /// Reason.
        source: LoadError,
    },
    /// Loading the model panicked.
    #[error("loading the model {0} panicked")]
    Panicked(ModelSlug),
}

impl ModelRegistry {
    /// Creates a registry of models that are loaded on first use.
    pub fn new(providers: impl IntoIterator<Item = (ModelSlug, Provider)>) -> Self {
        let entry = |provider| Entry { provider: Some(provider), loaded: OnceCell::new() };
        Self { entries: providers.into_iter().map(|(slug, provider)| (slug, entry(provider))).collect() }
    }

    /// Creates a registry of loaded models.
    pub fn preloaded(models: impl IntoIterator<Item = Arc<dyn Embedder>>) -> Self {
        let entry = |model| Entry { provider: None, loaded: OnceCell::new_with(Some(model)) };
        Self { entries: models.into_iter().map(|model| (model.slug().clone(), entry(model))).collect() }
    }

    /// Names of the models.
    pub fn slugs(&self) -> impl Iterator<Item = &ModelSlug> {
        self.entries.keys()
    }

    /// Returns a model, loading it on first use. Concurrent calls share one load. Failures are not cached, so the next call
    /// tries again.
    ///
    /// # Errors
    /// If the model is not configured or cannot be loaded.
    pub async fn get(&self, model: &ModelSlug) -> Result<Arc<dyn Embedder>, ModelError> {
        let unknown = || ModelError::Unknown { model: model.clone(), configured: self.names() };
        let entry = self.entries.get(model).ok_or_else(unknown)?;
        let load = || async {
            let provider = entry.provider.clone().ok_or_else(unknown)?;
            tokio::task::spawn_blocking(|| provider.load())
                .await
                .map_err(|_| ModelError::Panicked(model.clone()))?
                .map_err(|source| ModelError::Load { model: model.clone(), source })
        };
        entry.loaded.get_or_try_init(load).await.cloned()
    }

    /// Loaded models with a running call that cannot be interrupted, each with the duration of its longest call.
    pub fn running_calls(&self) -> impl Iterator<Item = (&ModelSlug, Duration)> {
        let loaded = self.entries.iter().filter_map(|(slug, entry)| Some((slug, entry.loaded.get()?)));
        loaded.filter_map(|(slug, model)| Some((slug, model.longest_call()?)))
    }

    fn names(&self) -> String {
        self.entries.keys().map(ModelSlug::to_string).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::fs;
    use std::path::PathBuf;

    use futures::future::try_join_all;

    use super::*;

    fn http(slug: &str, tokenizer: Option<PathBuf>) -> (ModelSlug, Provider) {
        let slug: ModelSlug = slug.parse().unwrap();
        let base_url = "http://127.0.0.1:9/v1".parse().unwrap();
        let config = HttpConfig { tokenizer, ..HttpConfig::new(slug.clone(), base_url, "m".into(), 4) };
        (slug, Provider::Http(config))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn concurrent_callers_load_a_model_once() {
        let (slug, provider) = http("a", None);
        let models = Arc::new(ModelRegistry::new([(slug.clone(), provider)]));
        let callers = (0..32).map(|_| {
            let (models, slug) = (models.clone(), slug.clone());
            tokio::spawn(async move { models.get(&slug).await.unwrap() })
        });
        let loaded = try_join_all(callers).await.unwrap();
        let first = models.get(&slug).await.unwrap();
        assert!(loaded.iter().all(|model| Arc::ptr_eq(model, &first)));
    }

    #[tokio::test]
    async fn a_failure_is_reported_and_not_cached() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokenizer.json");
        let (slug, provider) = http("a", Some(file.clone()));
        let models = ModelRegistry::new([(slug.clone(), provider)]);

        let Err(error) = models.get(&slug).await else { panic!("the model was loaded") };
        assert_eq!(error.to_string(), "the model a cannot be loaded");
        assert!(error.source().unwrap().to_string().contains("tokenizer.json"));

        fs::write(&file, "not a tokenizer").unwrap();
        assert!(models.get(&slug).await.is_err());
        fs::write(&file, crate::tokenizer::letters_file()).unwrap();
        assert!(models.get(&slug).await.unwrap().tokenizer().is_exact());
    }

    #[tokio::test]
    async fn an_unknown_model_error_lists_the_configured_models() {
        let models = ModelRegistry::new([http("a-model", None), http("b-model", None)]);
        let Err(error) = models.get(&"c-model".parse().unwrap()).await else {
            panic!("the model was loaded")
        };
        let expected = "the model c-model is not configured: add a section [models.c-model] (configured: a-model, b-model)";
        assert_eq!(error.to_string(), expected);
        assert_eq!(models.slugs().count(), 2);
    }

    #[tokio::test]
    async fn a_preloaded_model_is_returned() {
        let (slug, provider) = http("a", None);
        let model = provider.load().unwrap();
        let models = ModelRegistry::preloaded([model.clone()]);
        assert!(Arc::ptr_eq(&models.get(&slug).await.unwrap(), &model));
    }
}
