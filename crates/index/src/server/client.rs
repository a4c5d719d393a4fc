//! Calls to the server: each has a deadline, and each failure becomes one of ours.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use qdrant_client::config::QdrantConfig;
use qdrant_client::qdrant::{CollectionInfo, PointsOperationResponse, UpdateStatus, vectors_config};
use qdrant_client::{Qdrant, QdrantError};
use tokio::sync::{OnceCell, Semaphore};
use url::Url;

use super::error;
use super::schema::DENSE;
use super::{InvalidServerConfig, ServerConfig};
use crate::{CollectionName, Error};

/// The oldest server that knows conditional upserts and collections' metadata.
const OLDEST: &str = "1.16";

/// How many times as long as others a call may take that changes a whole collection.
const CHANGE: u32 = 6;

/// How many removals of one process run side by side. A batch has one for each of its guilds; nearly all find nothing,
/// and none is to wait long behind others.
const MAX_REMOVALS: usize = 16;

pub(super) struct Client {
    pub(super) config: ServerConfig,
    pub(super) http_url: Url,
    /// Where the server is, for errors.
    place: String,
    client: Qdrant,
    slow_client: Qdrant,
    /// One for each removal that may be under way.
    removals: Semaphore,
    /// Filled once the server has said a version that will do.
    fits: OnceCell<()>,
    /// The dimensions of collections that were seen. One that is dropped and made anew by another process with
    /// others is noticed when the server refuses.
    dims: RwLock<HashMap<CollectionName, usize>>,
}

impl Client {
    pub(super) fn new(config: ServerConfig) -> Result<Self, InvalidServerConfig> {
        let (grpc, http_url) = config.addresses()?;
        let client = |timeout, pool_size| {
            let mut settings = QdrantConfig::from_url(grpc.as_str().trim_end_matches('/'))
                // It would print to standard output.
                .skip_compatibility_check()
                .keep_alive_while_idle()
                .timeout(timeout)
                .connect_timeout(config.connect_timeout)
                .api_key(config.api_key.as_ref().map(|key| key.reveal().to_owned()));
            settings.set_pool_size(pool_size);
            settings.build().map_err(|error| InvalidServerConfig::Client(error.to_string()))
        };
        let (client, slow_client) =
            (client(config.timeout, config.pool_size)?, client(ServerConfig::LONG, 1)?);
        let place = format!(
            "{}{}",
            grpc.host_str().unwrap_or_default(),
            grpc.port_or_known_default().map(|port| format!(":{port}")).unwrap_or_default()
        );
        let removals = Semaphore::new(MAX_REMOVALS);
        let (fits, dims) = (OnceCell::new(), RwLock::default());
        Ok(Self { config, http_url, place, client, slow_client, removals, fits, dims })
    }

    /// A call about a collection that ought to be answered at once.
    pub(super) async fn call<'a, T, F>(
        &'a self,
        collection: &CollectionName,
        call: impl FnOnce(&'a Qdrant) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, QdrantError>>,
    {
        self.check_version().await?;
        self.within(self.config.timeout, call(&self.client))
            .await
            .map_err(|error| self.map_error(collection, error))
    }

    /// A call that changes a whole collection: the server waits for what works on it.
    pub(super) async fn change<'a, T, F>(
        &'a self,
        collection: &CollectionName,
        call: impl FnOnce(&'a Qdrant) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, QdrantError>>,
    {
        self.patient(self.config.timeout * CHANGE, collection, call).await
    }

    /// A call that builds or copies something: [`ServerConfig::LONG`].
    pub(super) async fn long_call<'a, T, F>(
        &'a self,
        collection: &CollectionName,
        call: impl FnOnce(&'a Qdrant) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, QdrantError>>,
    {
        self.patient(ServerConfig::LONG, collection, call).await
    }

    async fn patient<'a, T, F>(
        &'a self,
        deadline: Duration,
        collection: &CollectionName,
        call: impl FnOnce(&'a Qdrant) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, QdrantError>>,
    {
        self.check_version().await?;
        self.within(deadline, call(&self.slow_client))
            .await
            .map_err(|error| self.map_error(collection, error))
    }

    /// A removal. It waits until fewer than [`MAX_REMOVALS`] others are under way; its deadline begins then.
    pub(super) async fn remove<'a, F>(
        &'a self,
        collection: &CollectionName,
        call: impl FnOnce(&'a Qdrant) -> F,
    ) -> Result<(), Error>
    where
        F: Future<Output = Result<PointsOperationResponse, QdrantError>>,
    {
        // It is never closed; were it, nothing would be held back.
        let _turn = self.removals.acquire().await.ok();
        self.write(collection, call).await
    }

    /// A write, which has to be over when it is answered.
    pub(super) async fn write<'a, F>(
        &'a self,
        collection: &CollectionName,
        call: impl FnOnce(&'a Qdrant) -> F,
    ) -> Result<(), Error>
    where
        F: Future<Output = Result<PointsOperationResponse, QdrantError>>,
    {
        completed(self.call(collection, call).await?)
    }

    /// What the server knows of a collection.
    pub(super) async fn info(&self, collection: &CollectionName) -> Result<CollectionInfo, Error> {
        let found = self.call(collection, |qdrant| qdrant.collection_info(collection.as_str())).await?;
        let info = found.result.ok_or_else(|| Error::Engine("it says nothing of a collection".to_owned()))?;
        if let Some(dims) = dims(&info) {
            self.seen().insert(collection.clone(), dims);
        }
        Ok(info)
    }

    /// Whether the collection can hold the dense vectors.
    pub(super) async fn check_dense(
        &self,
        collection: &CollectionName,
        vectors: impl IntoIterator<Item = &[f32]>,
    ) -> Result<(), Error> {
        let expected = self.dims(collection).await?;
        for vector in vectors {
            let finite = vector.iter().filter(|value| value.is_finite()).count();
            if vector.len() != expected || finite != expected {
                return Err(Error::Vector { expected, given: finite });
            }
        }
        Ok(())
    }

    /// The dimensions of the collection's dense vectors.
    pub(super) async fn dims(&self, collection: &CollectionName) -> Result<usize, Error> {
        let known = self.dims.read().unwrap_or_else(PoisonError::into_inner).get(collection).copied();
        match known {
            Some(dims) => Ok(dims),
            None => Ok(dims(&self.info(collection).await?).unwrap_or(0)),
        }
    }

    /// Forgets what was seen of a collection.
    pub(super) fn forget(&self, collection: &CollectionName) {
        self.seen().remove(collection);
    }

    /// Whether the server answers and is new enough.
    pub(super) async fn ping(&self) -> Result<(), Error> {
        let health = self.within(self.config.timeout, self.client.health_check()).await;
        let version = health.map_err(|error| error::from_qdrant(error, &self.place))?.version;
        if is_older(&version, OLDEST) {
            return Err(Error::Outdated { found: version.chars().take(40).collect(), needed: OLDEST });
        }
        Ok(())
    }

    async fn check_version(&self) -> Result<(), Error> {
        self.fits.get_or_try_init(|| self.ping()).await.map(|&()| ())
    }

    async fn within<T>(
        &self,
        deadline: Duration,
        call: impl Future<Output = Result<T, QdrantError>>,
    ) -> Result<T, Option<QdrantError>> {
        match tokio::time::timeout(deadline, call).await {
            Ok(outcome) => outcome.map_err(Some),
            Err(_) => Err(None),
        }
    }

    fn map_error(&self, collection: &CollectionName, error: Option<QdrantError>) -> Error {
        let error = error::for_collection(collection, error, &self.place);
        if matches!(error, Error::NoCollection(_) | Error::Vector { .. }) {
            self.forget(collection);
        }
        error
    }

    fn seen(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<CollectionName, usize>> {
        self.dims.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a write is done, and not only noted for later.
pub(super) fn completed(response: PointsOperationResponse) -> Result<(), Error> {
    match response.result.map(|result| result.status()) {
        Some(UpdateStatus::Completed) => Ok(()),
        status => Err(Error::Unavailable(format!("a write was not completed: {status:?}"))),
    }
}

/// The dimensions of a collection's dense vectors.
fn dims(info: &CollectionInfo) -> Option<usize> {
    match info.config.as_ref()?.params.as_ref()?.vectors_config.as_ref()?.config.as_ref()? {
        vectors_config::Config::ParamsMap(vectors) => usize::try_from(vectors.map.get(DENSE)?.size).ok(),
        vectors_config::Config::Params(_) => None,
    }
}

/// Whether a version is older than one of `major.minor`; not if it cannot be read.
fn is_older(version: &str, than: &str) -> bool {
    let parts = |text: &str| {
        let mut numbers = text.trim_start_matches('v').splitn(3, '.').map(str::parse::<u64>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    };
    parts(version).is_some_and(|version| Some(version) < parts(than))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        for old in ["1.15.5", "v1.9.0", "0.99.1", "1.15.0-dev"] {
            assert!(is_older(old, OLDEST), "{old}");
        }
        for new in ["1.16.0", "1.100.0-dev", "2.0.0", "dev", ""] {
            assert!(!is_older(new, OLDEST), "{new}");
        }
    }
}
