//! Wiring: builds the program's components from the configuration.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, ensure};
use guildex_consistency::verify::Verifier;
use guildex_embed::ModelRegistry;
use guildex_index::{QdrantServer, VectorIndex};
use guildex_producer::{Ingest, IngestConfig, Scheduler};
use guildex_queue::Queues;
use guildex_search::Searcher;
use guildex_types::ModelSlug;
use guildex_worker::{HangHandler, Worker};
use sqlx::PgPool;

use crate::config::Config;
use crate::config::schema::Index;
use crate::model_registry;

/// Builder of the program's components.
pub struct App {
    config: Config,
}

impl App {
    /// Creates a builder.
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// Configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Connects to the database, whatever its schema.
    pub async fn connect(&self) -> anyhow::Result<PgPool> {
        let url = self.config.database_url()?;
        guildex_store::connect(url.expose(), self.config.database.max_connections)
            .await
            .context("cannot connect to the database (database.url)")
    }

    /// Connects to the database and checks its schema.
    pub async fn database(&self) -> anyhow::Result<PgPool> {
        let pool = self.connect().await?;
        guildex_store::check_schema(&pool).await?;
        Ok(pool)
    }

    /// Connects to the queues in Redis.
    pub async fn queues(&self) -> anyhow::Result<Queues> {
        let config = guildex_queue::Config {
            url: self.config.redis_url()?.expose().to_owned(),
            prefix: self.config.redis.prefix.clone(),
            ..guildex_queue::Config::default()
        };
        Queues::connect(&config).await.context("cannot connect to Redis (redis.url)")
    }

    /// Writer of messages and sessions.
    pub fn ingest(&self, pool: PgPool) -> Ingest {
        Ingest::new(pool, self.ingest_config())
    }

    /// Settings of ingest.
    pub fn ingest_config(&self) -> IngestConfig {
        let Config { sessions, optout, retention, worker, .. } = &self.config;
        IngestConfig {
            sessions: sessions.clone(),
            optout: optout.clone(),
            retention: retention.messages,
            enqueue: worker.enqueue.clone(),
        }
    }

    /// Builds the scheduler of periodic tasks.
    pub fn scheduler(&self, pool: PgPool, queues: Queues, process: &str) -> Scheduler {
        let ingest = self.ingest(pool.clone());
        Scheduler::new(pool, queues, self.config.dispatcher.clone())
            .with_retry(self.config.retry)
            .with_retention(ingest)
            .with_process(process)
    }

    /// Model of a new database, and its dimensions.
    pub fn first_model(&self) -> (&ModelSlug, usize) {
        let Config { model, models, .. } = &self.config;
        let named = models.get(model.name.as_str());
        (&model.name, named.map_or(model_registry::DIMENSIONS, |named| named.dimensions))
    }

    /// Configured models.
    pub fn models(&self) -> anyhow::Result<Arc<ModelRegistry>> {
        Ok(Arc::new(model_registry::models(&self.config)?))
    }

    /// Dimensions of a configured model.
    pub fn dimensions(&self, model: &ModelSlug) -> anyhow::Result<usize> {
        let (first, dimensions) = self.first_model();
        if let Some(named) = self.config.models.get(model.as_str()) {
            return Ok(named.dimensions);
        }
        let known =
            || self.config.models.keys().cloned().chain([first.to_string()]).collect::<Vec<_>>().join(", ");
        ensure!(
            model == first,
            "the model {model} is not configured: add a section [models.{model}] (configured: {})",
            known()
        );
        Ok(dimensions)
    }

    /// Client of the Qdrant server.
    pub fn server(&self) -> anyhow::Result<QdrantServer> {
        let index = &self.config.index;
        index.server_url()?;
        QdrantServer::connect(index.server.clone())
            .context("cannot create the client of the Qdrant server (index.server)")
    }

    /// Folder of the embedded index.
    pub fn index_folder(&self) -> PathBuf {
        self.config.data_dir.join("index")
    }

    /// Worker with an open index.
    pub fn worker(
        &self,
        ingest: Ingest,
        queues: Queues,
        models: Arc<ModelRegistry>,
        index: Arc<dyn VectorIndex>,
        on_hang: HangHandler,
    ) -> Worker {
        let Config { worker, retry, index: Index { collection_prefix, preview, .. }, .. } = &self.config;
        Worker {
            name: process_name(),
            ingest,
            queues,
            models,
            index,
            collection_prefix: collection_prefix.clone(),
            previews: *preview,
            retry: *retry,
            config: worker.process.clone(),
            on_hang,
        }
    }

    /// Searcher of an index.
    pub fn searcher(
        &self,
        pool: PgPool,
        models: Arc<ModelRegistry>,
        index: Arc<dyn VectorIndex>,
    ) -> Searcher {
        let collection_prefix = self.config.index.collection_prefix.clone();
        Searcher { pool, models, index, collection_prefix, config: self.config.search.clone() }
    }

    /// Verifier of an index.
    pub fn verifier(&self, pool: PgPool, index: Arc<dyn VectorIndex>) -> Verifier {
        let prefix = self.config.index.collection_prefix.clone();
        Verifier { ingest: self.ingest(pool), index, prefix }
    }

    /// Socket on which the process that holds the data folder answers searches.
    pub fn socket(&self) -> PathBuf {
        guildex_api::socket_path(&self.config.data_dir)
    }
}

/// Name of this process: host and process id, so that containers with equal process ids differ.
pub fn process_name() -> String {
    let host = whoami::hostname().unwrap_or_else(|_| "unknown".to_owned());
    format!("{host}/{}", std::process::id())
}
