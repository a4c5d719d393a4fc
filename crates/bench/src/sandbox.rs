//! Sandbox of a benchmark: a database, a Redis prefix and a directory, all temporary.

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

/// Servers that benchmarks run on.
#[derive(Clone)]
pub struct Servers {
    /// URL of a role that may create databases. Secret.
    pub postgres: Url,
    /// URL. Secret.
    pub redis: String,
}

/// Omits passwords.
impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Servers(..)")
    }
}

/// Temporary database, Redis prefix and directory. [`close`](Self::close) removes them.
pub struct Sandbox {
    servers: Servers,
    name: String,
    folder: TempDir,
    /// Pool of the database.
    pub pool: PgPool,
}

impl Sandbox {
    /// Creates a sandbox. Its database has no schema.
    ///
    /// # Errors
    /// If a server or the file system fails.
    pub async fn new(servers: &Servers) -> Result<Self, BenchError> {
        let name = format!("guildex_bench_{}", Uuid::new_v4().simple());
        // Paths of sockets are limited in length.
        let folder = tempfile::Builder::new().prefix("gxb").tempdir().map_err(BenchError::Folder)?;
        on_server(servers, format!("CREATE DATABASE {name}")).await?;
        let pool =
            PgPoolOptions::new().max_connections(5).connect_lazy_with(options(servers)?.database(&name));
        Ok(Self { servers: servers.clone(), name, folder, pool })
    }

    /// Runs `work` in a new sandbox and removes the sandbox afterwards, also after an error or interruption (Ctrl-C,
    /// SIGTERM).
    ///
    /// # Errors
    /// As `work`, or if a server or the file system fails.
    pub async fn with<T>(
        servers: &Servers,
        work: impl AsyncFnOnce(&Self) -> Result<T, BenchError>,
    ) -> Result<T, BenchError> {
        let mut terminated = signal(SignalKind::terminate()).map_err(BenchError::Process)?;
        let sandbox = Self::new(servers).await?;
        let outcome = tokio::select! {
            outcome = work(&sandbox) => outcome,
            _ = tokio::signal::ctrl_c() => Err(BenchError::Interrupted),
            _ = terminated.recv() => Err(BenchError::Interrupted),
        };
        sandbox.close().await?;
        outcome
    }

    /// URL of the database. Secret.
    pub fn database_url(&self) -> Url {
        let mut url = self.servers.postgres.clone();
        url.set_path(&self.name);
        url
    }

    /// URL of Redis. Secret.
    pub fn redis_url(&self) -> &str {
        &self.servers.redis
    }

    /// Prefix of the sandbox's keys in Redis.
    pub fn prefix(&self) -> &str {
        &self.name
    }

    /// Path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Path of the directory.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Seconds from the first claim to the last completion of a job, as recorded in the `jobs` table.
    ///
    /// # Errors
    /// If Postgres fails or no job was completed.
    pub async fn busy_seconds(&self) -> Result<f64, BenchError> {
        let seconds = sqlx::query_scalar(
            "SELECT extract(epoch FROM max(finished_at) - min(claimed_at))::float8 FROM jobs WHERE state = 'completed'",
        );
        Ok(seconds.fetch_one(&self.pool).await?)
    }

    /// Connects to Redis.
    ///
    /// # Errors
    /// If Redis fails.
    pub async fn redis(&self) -> Result<MultiplexedConnection, BenchError> {
        Ok(redis::Client::open(self.servers.redis.as_str())?.get_multiplexed_async_connection().await?)
    }

    /// Removes the database, keys and directory.
    ///
    /// # Errors
    /// If a server fails.
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

/// Runs a statement that contains only generated names.
async fn on_server(servers: &Servers, sql: String) -> Result<(), BenchError> {
    let mut server = PgConnection::connect_with(&options(servers)?).await?;
    sqlx::query(AssertSqlSafe(sql)).execute(&mut server).await?;
    Ok(server.close().await?)
}
