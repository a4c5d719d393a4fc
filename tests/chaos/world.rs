//! Environment of a run: servers, processes, index.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::ValueEnum;
use guildex_producer::{Ingest, IngestConfig};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use crate::fleet::{Fleet, Setting};
use crate::servers::Servers;
use guildex_test_support::qdrant::StandIn;

/// Kind of index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Index {
    /// The embedded index of one `guildex up`, with a second dispatcher
    Embedded,
    /// A server that three workers share, with two dispatchers: a stand-in that speaks Qdrant's protocol, or the real
    /// one that QDRANT_URL names
    Server,
}

/// Postgres, Redis, the index and the processes.
pub struct World {
    pub fleet: Mutex<Fleet>,
    pub pool: PgPool,
    pub stand_in: Option<StandIn>,
    /// Lease of a claim.
    pub lease: Duration,
    pub socket: PathBuf,
    // Last, so that processes stop before their servers.
    pub servers: Servers,
}

impl World {
    pub async fn start(index: Index, lease: Duration) -> anyhow::Result<Self> {
        let servers = Servers::start()?;
        let folder = servers.folder().join("world");
        fs::create_dir(&folder)?;
        let mut toml = format!("[worker]\nlease = \"{}s\"\n", lease.as_secs());
        let mut stand_in = None;
        if index == Index::Server {
            toml.push_str("[index]\nbackend = \"server\"\n");
            match std::env::var("QDRANT_URL") {
                Ok(url) => toml.push_str(&format!(
                    "collection_prefix = \"chaos{}\"\n[index.server]\nurl = {url:?}\n",
                    std::process::id()
                )),
                Err(_) => {
                    let server = StandIn::start().await;
                    toml.push_str(&server.toml());
                    stand_in = Some(server);
                }
            }
        }
        fs::write(folder.join("guildex.toml"), toml)?;

        let setting = Setting {
            folder: folder.clone(),
            database_url: servers.database_url.clone(),
            redis_url: servers.redis_url.clone(),
        };
        setting.run(&["migrate"])?;
        setting.run(&["init"])?;
        let roles: &[&'static [&'static str]] = match index {
            Index::Embedded => &[&["up"], &["dispatcher"]],
            Index::Server => &[&["worker"], &["worker"], &["worker"], &["dispatcher"], &["dispatcher"]],
        };
        let fleet = Mutex::new(Fleet::start(setting, roles)?);
        let pool = PgPoolOptions::new()
            .max_connections(12)
            .acquire_timeout(Duration::from_secs(5))
            .connect(&servers.database_url)
            .await?;
        Ok(Self { fleet, pool, stand_in, lease, socket: folder.join("d/guildex.sock"), servers })
    }

    /// Writer of messages, as a bot uses it.
    pub fn ingest(&self) -> Ingest {
        Ingest::new(self.pool.clone(), IngestConfig::default())
    }

    /// Restarts exited processes, without end.
    pub async fn supervise(&self) -> anyhow::Result<()> {
        loop {
            self.fleet.lock().await.supervise()?;
            sleep(Duration::from_millis(300)).await;
        }
    }

    /// Waits until a statement gives `true`, through outages.
    pub async fn until(&self, sql: &'static str, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            // A frozen server never responds.
            let result = timeout(Duration::from_secs(5), sqlx::query_scalar(sql).fetch_one(&self.pool)).await;
            if let Ok(Ok(true)) = result {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "timed out after {limit:?}: {sql}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Copies the logs to a folder that outlives the run.
    pub fn keep_logs(&self) -> anyhow::Result<PathBuf> {
        let kept = tempfile::Builder::new().prefix("gxchaos-logs").tempdir()?.keep();
        for entry in fs::read_dir(self.servers.folder().join("world"))? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|extension| extension == "log") {
                fs::copy(entry.path(), kept.join(entry.file_name()))?;
            }
        }
        Ok(kept)
    }

    /// Number that a query returns.
    pub async fn number(&self, sql: &'static str) -> anyhow::Result<usize> {
        let number: i64 = sqlx::query_scalar(sql).fetch_one(&self.pool).await.context(sql)?;
        Ok(usize::try_from(number)?)
    }
}
