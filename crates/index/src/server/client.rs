//! Calls to the server: applies timeouts, limits concurrent deletions and maps errors.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

use qdrant_client::config::QdrantConfig;
use qdrant_client::qdrant::{CollectionInfo, PointsOperationResponse, UpdateStatus, vectors_config};
use qdrant_client::{Qdrant, QdrantError};
use secrecy::ExposeSecret;
use tokio::sync::{OnceCell, Semaphore};
use url::Url;

use super::error;
use super::schema::DENSE;
use super::{InvalidServerConfig, ServerConfig};
use crate::{CollectionName, Error};

/// Oldest server version with conditional upserts and collection metadata.
const MIN_VERSION: &str = "1.16";

/// Timeout of calls that change a whole collection, as a multiple of the usual timeout.
const CHANGE_FACTOR: u32 = 6;

/// Maximum number of concurrent deletions per process. A batch has one for each of its guilds; most match nothing, and
/// none should wait long behind others.
const MAX_CONCURRENT_DELETIONS: usize = 16;

pub(super) struct Client {
    pub(super) config: ServerConfig,
    pub(super) http_url: Url,
    /// Host and port, for errors.
    server: String,
    client: Qdrant,
    /// For calls that the server answers slowly, so that they do not occupy the pooled connections.
    slow_client: Qdrant,
    deletions: Semaphore,
    /// Set once the server has reported a supported version.
    version_checked: OnceCell<()>,
    /// Cached dimensions of collections. If another process recreates a collection with other dimensions, the server's
    /// rejection invalidates the entry.
    dims: RwLock<HashMap<CollectionName, usize>>,
}

impl Client {
    pub(super) fn new(config: ServerConfig) -> Result<Self, InvalidServerConfig> {
        let (grpc, http_url) = config.urls()?;
        let client = |timeout, pool_size| {
            let mut settings = QdrantConfig::from_url(grpc.as_str().trim_end_matches('/'))
                // The check prints to standard output.
                .skip_compatibility_check()
                .keep_alive_while_idle()
                .timeout(timeout)
                .connect_timeout(config.connect_timeout)
                .api_key(config.api_key.as_ref().map(|key| key.expose_secret().to_owned()));
            settings.set_pool_size(pool_size);
            settings.build().map_err(|error| InvalidServerConfig::Client(error.to_string()))
        };
        let (client, slow_client) =
            (client(config.timeout, config.pool_size)?, client(ServerConfig::LONG, 1)?);
        let server = format!(
            "{}{}",
            grpc.host_str().unwrap_or_default(),
            grpc.port_or_known_default().map(|port| format!(":{port}")).unwrap_or_default()
        );
        Ok(Self {
            config,
            http_url,
            server,
            client,
            slow_client,
            deletions: Semaphore::new(MAX_CONCURRENT_DELETIONS),
            version_checked: OnceCell::new(),
            dims: RwLock::default(),
        })
    }

    /// Makes a call about a collection with the usual timeout.
    pub(super) async fn call<'a, T, F>(
        &'a self,
        collection: &CollectionName,
        call: impl FnOnce(&'a Qdrant) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, QdrantError>>,
    {
        self.check_version().await?;
        within(self.config.timeout, call(&self.client))
            .await
            .map_err(|error| self.map_error(collection, error))
    }

    /// Makes a call that changes a whole collection; the server delays it while other operations use the collection.
    pub(super) async fn change_collection<'a, T, F>(
        &'a self,
        collection: &CollectionName,
        call: impl FnOnce(&'a Qdrant) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, QdrantError>>,
    {
        self.slow_call(self.config.timeout * CHANGE_FACTOR, collection, call).await
    }

    /// Makes a call that builds or copies something, with the timeout [`ServerConfig::LONG`].
    pub(super) async fn long_call<'a, T, F>(
        &'a self,
        collection: &CollectionName,
        call: impl FnOnce(&'a Qdrant) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, QdrantError>>,
    {
        self.slow_call(ServerConfig::LONG, collection, call).await
    }

    async fn slow_call<'a, T, F>(
        &'a self,
        timeout: Duration,
        collection: &CollectionName,
        call: impl FnOnce(&'a Qdrant) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, QdrantError>>,
    {
        self.check_version().await?;
        within(timeout, call(&self.slow_client)).await.map_err(|error| self.map_error(collection, error))
    }

    /// Makes a deletion. It waits while [`MAX_CONCURRENT_DELETIONS`] others run; its timeout starts after that.
    pub(super) async fn delete<'a, F>(
        &'a self,
        collection: &CollectionName,
        call: impl FnOnce(&'a Qdrant) -> F,
    ) -> Result<(), Error>
    where
        F: Future<Output = Result<PointsOperationResponse, QdrantError>>,
    {
        // The semaphore is never closed.
        let _permit = self.deletions.acquire().await.ok();
        self.write(collection, call).await
    }

    /// Makes a write, and checks that the server has applied it.
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

    /// Returns the server's description of a collection.
    pub(super) async fn info(&self, collection: &CollectionName) -> Result<CollectionInfo, Error> {
        let found = self.call(collection, |qdrant| qdrant.collection_info(collection.as_str())).await?;
        let info =
            found.result.ok_or_else(|| Error::Engine("the response has no collection info".to_owned()))?;
        if let Some(dims) = dims(&info) {
            self.dims_mut().insert(collection.clone(), dims);
        }
        Ok(info)
    }

    /// Checks that the dense vectors have the collection's dimensions and are finite.
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

    /// Returns the dimensions of the collection's dense vectors.
    pub(super) async fn dims(&self, collection: &CollectionName) -> Result<usize, Error> {
        let cached = self.dims.read().unwrap_or_else(PoisonError::into_inner).get(collection).copied();
        match cached {
            Some(dims) => Ok(dims),
            None => Ok(dims(&self.info(collection).await?).unwrap_or(0)),
        }
    }

    /// Removes a collection from the cache.
    pub(super) fn invalidate(&self, collection: &CollectionName) {
        self.dims_mut().remove(collection);
    }

    /// Checks that the server responds and has a supported version.
    pub(super) async fn ping(&self) -> Result<(), Error> {
        let health = within(self.config.timeout, self.client.health_check()).await;
        let version = health.map_err(|error| error::from_qdrant(error, &self.server))?.version;
        if is_older(&version, MIN_VERSION) {
            return Err(Error::Outdated { found: version.chars().take(40).collect(), needed: MIN_VERSION });
        }
        Ok(())
    }

    async fn check_version(&self) -> Result<(), Error> {
        self.version_checked.get_or_try_init(|| self.ping()).await.map(|&()| ())
    }

    fn map_error(&self, collection: &CollectionName, error: Option<QdrantError>) -> Error {
        let error = error::for_collection(collection, error, &self.server);
        if matches!(error, Error::NoCollection(_) | Error::Vector { .. }) {
            self.invalidate(collection);
        }
        error
    }

    fn dims_mut(&self) -> RwLockWriteGuard<'_, HashMap<CollectionName, usize>> {
        self.dims.write().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn within<T>(
    timeout: Duration,
    call: impl Future<Output = Result<T, QdrantError>>,
) -> Result<T, Option<QdrantError>> {
    match tokio::time::timeout(timeout, call).await {
        Ok(outcome) => outcome.map_err(Some),
        Err(_) => Err(None),
    }
}

/// Checks that a write was applied, and not only acknowledged.
pub(super) fn completed(response: PointsOperationResponse) -> Result<(), Error> {
    match response.result.map(|result| result.status()) {
        Some(UpdateStatus::Completed) => Ok(()),
        status => Err(Error::Unavailable(format!("a write was not completed (status {status:?})"))),
    }
}

/// Dimensions of a collection's dense vectors.
fn dims(info: &CollectionInfo) -> Option<usize> {
    match info.config.as_ref()?.params.as_ref()?.vectors_config.as_ref()?.config.as_ref()? {
        vectors_config::Config::ParamsMap(vectors) => usize::try_from(vectors.map.get(DENSE)?.size).ok(),
        vectors_config::Config::Params(_) => None,
    }
}

/// Whether a version is older than `major.minor`; false if it cannot be parsed.
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
    fn versions_are_compared_numerically() {
        for old in ["1.15.5", "v1.9.0", "0.99.1", "1.15.0-dev"] {
            assert!(is_older(old, MIN_VERSION), "{old}");
        }
        for new in ["1.16.0", "1.100.0-dev", "2.0.0", "dev", ""] {
            assert!(!is_older(new, MIN_VERSION), "{new}");
        }
    }
}
