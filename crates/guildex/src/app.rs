//! Wiring: the configuration turned into the parts of the program.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, ensure};
use guildex_consistency::verify::Verifier;
use guildex_embed::Models;
use guildex_index::{QdrantServer, ServerConfig, VectorIndex};
use guildex_producer::{Ingest, IngestConfig, Scheduler};
use guildex_queue::Queues;
use guildex_search::Searcher;
use guildex_types::ModelSlug;
use guildex_worker::{Concurrency, LastResort, Worker, WorkerConfig};
use secrecy::ExposeSecret;
use sqlx::PgPool;

use crate::config::Config;
use crate::config::schema::Index;
use crate::model_registry;

/// The program's parts, made as they are needed.
pub struct App {
    config: Config,
}

impl App {
    /// The program under a configuration.
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The database, as it is.
    pub async fn connect(&self) -> anyhow::Result<PgPool> {
        let url = self.config.database_url()?;
        guildex_store::connect(url.expose(), self.config.database.max_connections)
            .await
            .context("cannot connect to the database (database.url)")
    }

    /// The database, which must have its schema.
    pub async fn database(&self) -> anyhow::Result<PgPool> {
        let pool = self.connect().await?;
        guildex_store::check_schema(&pool).await?;
        Ok(pool)
    }

    /// The queues in Redis.
    pub async fn queues(&self) -> anyhow::Result<Queues> {
        let config = guildex_queue::Config {
            url: self.config.redis_url()?.expose().to_owned(),
            prefix: self.config.redis.prefix.clone(),
            stop_grace: self.config.worker.shutdown_timeout,
            ..guildex_queue::Config::default()
        };
        Queues::connect(&config).await.context("cannot connect to Redis (redis.url)")
    }

    /// The writer of messages and sessions.
    pub fn ingest(&self, pool: PgPool) -> Ingest {
        Ingest::new(pool, self.ingest_config())
    }

    /// How messages are stored.
    pub fn ingest_config(&self) -> IngestConfig {
        let Config { sessions, optout, retention, worker, .. } = &self.config;
        IngestConfig {
            sessions: sessions.clone(),
            optout: optout.clone(),
            retention: retention.messages,
            debounce: worker.debounce,
            max_attempts: worker.max_attempts,
        }
    }

    /// Builds the scheduler of periodic tasks.
    pub fn scheduler(&self, pool: PgPool, queues: Queues, process: &str) -> Scheduler {
        let ingest = self.ingest(pool.clone());
        Scheduler::new(pool, queues, self.config.dispatcher.clone())
            .with_retention(ingest)
            .with_process(process)
    }

    /// The model that a new database begins with, and the length of its vectors.
    pub fn first_model(&self) -> (&ModelSlug, usize) {
        let Config { model, models, .. } = &self.config;
        let named = models.get(model.name.as_str());
        (&model.name, named.map_or(model_registry::DIMENSIONS, |named| named.dimensions))
    }

    /// The models that the configuration names.
    pub fn models(&self) -> anyhow::Result<Arc<Models>> {
        Ok(Arc::new(model_registry::models(&self.config)?))
    }

    /// The length of a configured model's vectors.
    pub fn dimensions(&self, model: &ModelSlug) -> anyhow::Result<usize> {
        let (first, dimensions) = self.first_model();
        if let Some(named) = self.config.models.get(model.as_str()) {
            return Ok(named.dimensions);
        }
        let known =
            || self.config.models.keys().cloned().chain([first.to_string()]).collect::<Vec<_>>().join(", ");
        ensure!(
            model == first,
            "the model {model} is not configured: give it a section [models.{model}] ({} are known)",
            known()
        );
        Ok(dimensions)
    }

    /// A client of the Qdrant server.
    pub fn server(&self) -> anyhow::Result<QdrantServer> {
        let index = &self.config.index;
        let server = &index.server;
        let config = ServerConfig {
            url: index.server_url()?.expose().to_owned(),
            http_url: server.http_url.as_ref().map(|url| url.expose().to_owned()),
            api_key: server.api_key.as_ref().map(|key| key.expose_secret().to_owned().into()),
            timeout: server.timeout,
            connect_timeout: server.connect_timeout,
            pool: server.pool_size,
            batch: server.upsert_batch_size,
            streams: server.max_concurrent_upserts,
            quantization: server.quantization,
        };
        QdrantServer::connect(config).context("the Qdrant server cannot be used (index.server)")
    }

    /// The folder of the embedded index.
    pub fn index_folder(&self) -> PathBuf {
        self.config.data_dir.join("index")
    }

    /// A worker on an open index.
    pub fn worker(
        &self,
        ingest: Ingest,
        queues: Queues,
        models: Arc<Models>,
        index: Arc<dyn VectorIndex>,
        last_resort: LastResort,
    ) -> Worker {
        let Config { worker, sessions, retry, index: Index { collection_prefix, preview, .. }, .. } =
            &self.config;
        Worker {
            name: process_name(),
            ingest,
            queues,
            models,
            index,
            base: collection_prefix.clone(),
            config: WorkerConfig {
                concurrency: Concurrency {
                    delete: worker.concurrency.delete,
                    live: worker.concurrency.live,
                    backfill: worker.concurrency.backfill,
                },
                batch_size: worker.batch_size,
                batch_wait: worker.batch_wait,
                lease: worker.lease,
                second_look: worker.lease.saturating_mul(2),
                backoff_base: retry.initial_delay,
                backoff_max: retry.max_delay,
                limits: worker.time_limits.of_worker(),
                eligible: sessions.eligibility(),
                previews: *preview,
            },
            last_resort,
        }
    }

    /// A searcher of an index.
    pub fn searcher(&self, pool: PgPool, models: Arc<Models>, index: Arc<dyn VectorIndex>) -> Searcher {
        let base = self.config.index.collection_prefix.clone();
        Searcher { pool, models, index, base, config: self.config.search.searches() }
    }

    /// A comparer of the truth with an index.
    pub fn verifier(&self, pool: PgPool, index: Arc<dyn VectorIndex>) -> Verifier {
        let base = self.config.index.collection_prefix.clone();
        Verifier { ingest: self.ingest(pool), index, base }
    }

    /// Where the process that holds the data folder answers searches.
    pub fn socket(&self) -> PathBuf {
        guildex_api::socket_path(&self.config.data_dir)
    }
}

/// Tells processes apart in the ledger, containers with the same process ids too.
pub fn process_name() -> String {
    let host = whoami::hostname().unwrap_or_else(|_| "unknown".to_owned());
    format!("{host}/{}", std::process::id())
}
