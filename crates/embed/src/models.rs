//! The models that a configuration names, loaded when they are first asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use guildex_types::ModelSlug;
use tokio::sync::OnceCell;

use crate::embedder::Embedder;
use crate::error::LoadError;
use crate::local::{LocalConfig, LocalEmbedder};

/// Where a model's vectors come from.
#[derive(Debug, Clone)]
pub enum Provider {
    /// This machine's cores.
    Local(LocalConfig),
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
            match entry.provider.clone().ok_or_else(unknown)? {
                Provider::Local(config) => tokio::task::spawn_blocking(move || LocalEmbedder::load(config))
                    .await
                    .map_err(|_| ModelError::Panicked(model.clone()))?
                    .map(|loaded| Arc::new(loaded) as Arc<dyn Embedder>)
                    .map_err(|source| ModelError::Load { model: model.clone(), source }),
            }
        };
        entry.loaded.get_or_try_init(load).await.cloned()
    }

    fn names(&self) -> String {
        self.known.keys().map(ModelSlug::to_string).collect::<Vec<_>>().join(", ")
    }
}
