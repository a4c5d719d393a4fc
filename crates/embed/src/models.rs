//! The models that a configuration names, loaded when they are first asked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use guildex_types::ModelSlug;
use tokio::sync::OnceCell;

use crate::embedder::Embedder;
use crate::error::LoadError;
use crate::hash::{HashConfig, HashEmbedder};
use crate::http::{HttpConfig, HttpEmbedder};
use crate::local::{LocalConfig, LocalEmbedder};

/// Where a model's vectors come from.
#[derive(Debug, Clone)]
pub enum Provider {
    /// This machine's cores.
    Local(LocalConfig),
    /// A service.
    Http(HttpConfig),
    /// Nobody: vectors are drawn from hashes.
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

/// The models at hand, each loaded once a process. Shared as `Arc<Models>`.
pub struct Models {
    known: BTreeMap<ModelSlug, Entry>,
}

struct Entry {
    provider: Option<Provider>,
    loaded: OnceCell<Arc<dyn Embedder>>,
}

/// Why a model is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Nobody said where it is.
    #[error("the model {model} is not configured: give it a section [models.{model}] ({known} are known)")]
    Unknown {
        /// The one asked for.
        model: ModelSlug,
        /// Those that are, by comma.
        known: String,
    },
    /// It could not be loaded.
    #[error("the model {model} cannot be loaded")]
    Load {
        /// The one asked for.
        model: ModelSlug,
        /// Why.
        source: LoadError,
    },
    /// Loading it panicked.
    #[error("loading the model {0} panicked")]
    Panicked(ModelSlug),
}

impl Models {
    /// Models that are loaded when they are first asked for.
    pub fn new(providers: impl IntoIterator<Item = (ModelSlug, Provider)>) -> Self {
        let entry = |provider| Entry { provider: Some(provider), loaded: OnceCell::new() };
        Self { known: providers.into_iter().map(|(slug, provider)| (slug, entry(provider))).collect() }
    }

    /// Models that are loaded already.
    pub fn ready(models: impl IntoIterator<Item = Arc<dyn Embedder>>) -> Self {
        let entry = |model| Entry { provider: None, loaded: OnceCell::new_with(Some(model)) };
        Self { known: models.into_iter().map(|model| (model.slug().clone(), entry(model))).collect() }
    }

    /// Their names.
    pub fn slugs(&self) -> impl Iterator<Item = &ModelSlug> {
        self.known.keys()
    }

    /// The model of that name, loaded. Waits for another who loads it already; a failure is not kept, so that the
    /// next call tries again.
    ///
    /// # Errors
    /// If it is not known or cannot be loaded.
    pub async fn get(&self, model: &ModelSlug) -> Result<Arc<dyn Embedder>, ModelError> {
        let unknown = || ModelError::Unknown { model: model.clone(), known: self.names() };
        let entry = self.known.get(model).ok_or_else(unknown)?;
        let load = || async {
            let provider = entry.provider.clone().ok_or_else(unknown)?;
            tokio::task::spawn_blocking(|| provider.load())
                .await
                .map_err(|_| ModelError::Panicked(model.clone()))?
                .map_err(|source| ModelError::Load { model: model.clone(), source })
        };
        entry.loaded.get_or_try_init(load).await.cloned()
    }

    /// The loaded models that are in calls that nobody can interrupt, each with how long it has been in the
    /// longest.
    pub fn in_calls(&self) -> impl Iterator<Item = (&ModelSlug, Duration)> {
        let loaded = self.known.iter().filter_map(|(slug, entry)| Some((slug, entry.loaded.get()?)));
        loaded.filter_map(|(slug, model)| Some((slug, model.longest_call()?)))
    }

    fn names(&self) -> String {
        self.known.keys().map(ModelSlug::to_string).collect::<Vec<_>>().join(", ")
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
    async fn a_model_is_loaded_once_however_many_ask() {
        let (slug, provider) = http("a", None);
        let models = Arc::new(Models::new([(slug.clone(), provider)]));
        let asking = (0..32).map(|_| {
            let (models, slug) = (models.clone(), slug.clone());
            tokio::spawn(async move { models.get(&slug).await.unwrap() })
        });
        let given = try_join_all(asking).await.unwrap();
        let first = models.get(&slug).await.unwrap();
        assert!(given.iter().all(|model| Arc::ptr_eq(model, &first)));
    }

    #[tokio::test]
    async fn a_failure_is_told_and_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokenizer.json");
        let (slug, provider) = http("a", Some(file.clone()));
        let models = Models::new([(slug.clone(), provider)]);

        let Err(error) = models.get(&slug).await else { panic!("it was loaded") };
        assert_eq!(error.to_string(), "the model a cannot be loaded");
        assert!(error.source().unwrap().to_string().contains("tokenizer.json"));

        fs::write(&file, "no tokenizer").unwrap();
        assert!(models.get(&slug).await.is_err());
        fs::write(&file, crate::tokenizer::letters_file()).unwrap();
        assert!(models.get(&slug).await.unwrap().tokenizer().is_exact());
    }

    #[tokio::test]
    async fn an_unknown_model_is_told_which_are_known() {
        let models = Models::new([http("a-model", None), http("b-model", None)]);
        let Err(error) = models.get(&"c-model".parse().unwrap()).await else { panic!("it was loaded") };
        let told = "the model c-model is not configured: give it a section [models.c-model] (a-model, b-model are known)";
        assert_eq!(error.to_string(), told);
        assert_eq!(models.slugs().count(), 2);
    }

    #[tokio::test]
    async fn a_model_that_is_ready_is_given_as_it_is() {
        let (slug, provider) = http("a", None);
        let model = provider.load().unwrap();
        let models = Models::ready([model.clone()]);
        assert!(Arc::ptr_eq(&models.get(&slug).await.unwrap(), &model));
    }
}
