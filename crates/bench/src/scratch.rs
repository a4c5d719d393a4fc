//! What a benchmark has to itself: a database, a prefix in Redis, a folder. All of it goes with it.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use guildex_store::StoreError;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use url::Url;
use uuid::Uuid;

use crate::BenchError;

/// The servers that benchmarks run on.
#[derive(Clone)]
pub struct Servers {
    /// Whoever this names may make databases. Secret.
    pub postgres: Url,
    /// Secret.
    pub redis: String,
}

/// Passwords stay out of it.
impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Servers(..)")
    }
}

/// A corner of the servers and of the disk. [`close`](Self::close) takes it away.
pub struct Scratch {
    servers: Servers,
    name: String,
    folder: TempDir,
    /// The database, empty at first.
    pub pool: PgPool,
}

impl Scratch {
    /// A new corner. Its database has no schema yet.
    ///
    /// # Errors
    /// If a server or the disk refuses.
    pub async fn new(servers: &Servers) -> Result<Self, BenchError> {
        let name = format!("guildex_bench_{}", Uuid::new_v4().simple());
        // A socket's path has to be short.
        let folder = tempfile::Builder::new().prefix("gxb").tempdir().map_err(BenchError::Folder)?;
        on_server(servers, format!("CREATE DATABASE {name}")).await?;
        let pool =
            PgPoolOptions::new().max_connections(5).connect_lazy_with(options(servers)?.database(&name));
        Ok(Self { servers: servers.clone(), name, folder, pool })
    }

    /// Does something with a new corner, and takes it away whatever came of it: an error or an
    /// interruption (Ctrl-C, SIGTERM).
    ///
    /// # Errors
    /// As the work, or if a server or the disk refuses.
    pub async fn with<T>(
        servers: &Servers,
        work: impl AsyncFnOnce(&Self) -> Result<T, BenchError>,
    ) -> Result<T, BenchError> {
        let mut terminated = signal(SignalKind::terminate()).map_err(BenchError::Process)?;
        let scratch = Self::new(servers).await?;
        let outcome = tokio::select! {
            outcome = work(&scratch) => outcome,
            _ = tokio::signal::ctrl_c() => Err(BenchError::Interrupted),
            _ = terminated.recv() => Err(BenchError::Interrupted),
        };
        scratch.close().await?;
        outcome
    }

    /// The URL of the database. Secret.
    pub fn database_url(&self) -> Url {
        let mut url = self.servers.postgres.clone();
        url.set_path(&self.name);
        url
    }

    /// The URL of Redis. Secret.
    pub fn redis_url(&self) -> &str {
        &self.servers.redis
    }

    /// What the names of this corner's keys in Redis begin with.
    pub fn prefix(&self) -> &str {
        &self.name
    }

    /// A place in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// From the first claim of a job to the last end of one, by the ledger's own books.
    ///
    /// # Errors
    /// If Postgres fails, or nothing was done.
    pub async fn seconds_at_work(&self) -> Result<f64, BenchError> {
        let seconds = sqlx::query_scalar(
            "SELECT extract(epoch FROM max(finished_at) - min(claimed_at))::float8 FROM jobs WHERE state = 'completed'",
        );
        Ok(seconds.fetch_one(&self.pool).await?)
    }

    /// A connection to Redis.
    ///
    /// # Errors
    /// If Redis refuses.
    pub async fn redis(&self) -> Result<MultiplexedConnection, BenchError> {
        Ok(redis::Client::open(self.servers.redis.as_str())?.get_multiplexed_async_connection().await?)
    }

    /// Takes everything away.
    ///
    /// # Errors
    /// If a server refuses.
    pub async fn close(self) -> Result<(), BenchError> {
        self.pool.close().await;
        let mut redis = self.redis().await?;
        let mut keys: Vec<String> = Vec::new();
        let mut found = redis.scan_match::<_, String>(format!("{}:*", self.name)).await?;
        while let Some(key) = found.next_item().await {
            keys.push(key?);
        }
        drop(found);
        if !keys.is_empty() {
            let () = redis.del(keys).await?;
        }
        on_server(&self.servers, format!("DROP DATABASE {} WITH (FORCE)", self.name)).await
    }
}

fn options(servers: &Servers) -> Result<PgConnectOptions, BenchError> {
    Ok(PgConnectOptions::from_str(servers.postgres.as_str()).map_err(|_| StoreError::BadUrl)?)
}

/// The statement holds a name of our own making and nothing else.
async fn on_server(servers: &Servers, sql: String) -> Result<(), BenchError> {
    let mut server = PgConnection::connect_with(&options(servers)?).await?;
    sqlx::query(AssertSqlSafe(sql)).execute(&mut server).await?;
    Ok(server.close().await?)
}
