//! Wiring: the configuration turned into the parts of the program.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use backon::{ConstantBuilder, Retryable};
use guildex_embed::{Embedder, LocalConfig, LocalEmbedder};
use guildex_index::{Collection, CollectionName, EdgeIndex, Ensured, VectorIndex};
use guildex_producer::backfill;
use guildex_producer::dispatcher::{Dispatcher, DispatcherConfig};
use guildex_producer::ingest::{Ingest, IngestConfig};
use guildex_queue::Queues;
use guildex_search::Searcher;
use guildex_store::models;
use guildex_types::ModelSlug;
use guildex_worker::{Concurrency, Worker, WorkerConfig};
use sqlx::PgPool;

use crate::config::Config;

/// The length of the default model's vectors.
const DIMENSIONS: usize = 384;
/// How long a long-running role waits for a passing `search` to let go of the index.
const INDEX_PATIENCE: usize = 20;

/// The program's parts, made as they are needed.
pub struct App {
    config: Config,
}

/// A model and its collection, open for reading and writing.
pub struct OpenIndex {
    embedder: Arc<dyn Embedder>,
    index: Arc<dyn VectorIndex>,
    collection: CollectionName,
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
            stop_grace: self.config.worker.stop_grace,
            ..guildex_queue::Config::default()
        };
        Queues::connect(&config).await.context("cannot connect to Redis (redis.url)")
    }

    /// The writer of messages and sessions.
    pub fn ingest(&self, pool: PgPool) -> Ingest {
        let Config { sessions, optout, worker, .. } = &self.config;
        let config = IngestConfig {
            rules: sessions.rules(),
            eligible: sessions.eligibility(),
            include_bots: sessions.include_bots,
            opted_out_users: optout.users.iter().copied().collect(),
            opted_out_channels: optout.channels.iter().copied().collect(),
            debounce: worker.debounce,
            max_attempts: worker.max_attempts,
        };
        Ingest::new(pool, config)
    }

    /// The dispatcher.
    pub fn dispatcher(&self, pool: PgPool, queues: Queues) -> Dispatcher {
        let config = &self.config.dispatcher;
        Dispatcher::new(
            pool,
            queues,
            DispatcherConfig {
                window: config.window,
                poll: config.poll,
                queued_lease: config.queued_lease,
                keep_done: config.keep_done,
            },
        )
    }

    /// The active model's name.
    pub fn model(&self) -> &ModelSlug {
        &self.config.model.name
    }

    /// Loads the model and opens its collection, which this process then holds.
    pub async fn open_index(&self, pool: &PgPool) -> anyhow::Result<OpenIndex> {
        let local = LocalConfig {
            model_dir: self.config.model.dir.clone(),
            onnx_runtime: self.config.model.onnxruntime.clone(),
            window: self.config.model.window,
            max_batch_tokens: self.config.model.max_batch_tokens,
            dimensions: DIMENSIONS,
            ..LocalConfig::new(self.model().clone())
        };
        let local = match self.config.model.sessions {
            0 => local,
            sessions => LocalConfig { sessions, ..local },
        };
        let embedder = tokio::task::spawn_blocking(move || LocalEmbedder::load(local)).await??;
        models::ensure_active(pool, embedder.slug(), embedder.dimensions()).await?;

        let name = CollectionName::new(&self.config.index.collection, embedder.slug())?;
        let index = self.open_folder().await?;
        self.check_owner(pool).await?;
        let collection = Collection { name, dims: embedder.dimensions() };
        if index.ensure(&collection).await? == Ensured::Created {
            self.start_over(pool).await?;
        }
        Ok(OpenIndex { embedder: Arc::new(embedder), index: Arc::new(index), collection: collection.name })
    }

    /// Another process may hold the folder for the moment of a search.
    async fn open_folder(&self) -> anyhow::Result<EdgeIndex> {
        let folder = self.index_dir();
        let open = || async {
            let folder = folder.clone();
            match tokio::task::spawn_blocking(move || EdgeIndex::open(&folder)).await {
                Ok(opened) => opened.map_err(anyhow::Error::from),
                Err(error) => Err(error.into()),
            }
        };
        let in_use =
            |error: &anyhow::Error| matches!(error.downcast_ref(), Some(guildex_index::Error::InUse { .. }));
        let patience =
            ConstantBuilder::default().with_delay(Duration::from_millis(250)).with_max_times(INDEX_PATIENCE);
        Ok(open.retry(patience).when(in_use).await?)
    }

    fn index_dir(&self) -> PathBuf {
        self.config.data_dir.join("index")
    }

    /// An index belongs to one database: revisions of another would be mistaken for its own.
    async fn check_owner(&self, pool: &PgPool) -> anyhow::Result<()> {
        let owner = guildex_store::installation(pool).await?.to_string();
        let path = self.index_dir().join("database");
        match std::fs::read_to_string(&path) {
            Ok(noted) if noted.trim() == owner => Ok(()),
            Ok(_) => bail!(
                "the index in {} was made from another database: set data_dir to another folder, or delete this one",
                self.index_dir().display()
            ),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::write(&path, owner).with_context(|| format!("cannot write {}", path.display()))
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// The collection is new. What the books say of an older one is void, and is indexed again.
    async fn start_over(&self, pool: &PgPool) -> anyhow::Result<()> {
        if models::forget_indexed(pool, self.model()).await? == 0 {
            return Ok(());
        }
        tracing::warn!(
            "the collection is new, though the database knows of points in it: indexing all again"
        );
        let ingest = self.ingest(pool.clone());
        for guild in guildex_store::channels::guilds(pool).await? {
            backfill::plan(&ingest, guild, None).await?;
        }
        Ok(())
    }

    /// A worker on an open index.
    pub fn worker(&self, ingest: Ingest, queues: Queues, open: &OpenIndex) -> Worker {
        let Config { worker, sessions, index, .. } = &self.config;
        Worker {
            name: format!("worker-{}", std::process::id()),
            ingest,
            queues,
            embedder: open.embedder.clone(),
            index: open.index.clone(),
            collection: open.collection.clone(),
            config: WorkerConfig {
                concurrency: Concurrency {
                    delete: worker.concurrency.delete,
                    live: worker.concurrency.live,
                    backfill: worker.concurrency.backfill,
                },
                batch_size: worker.batch_size,
                batch_wait: worker.batch_wait,
                lease: worker.lease,
                backoff_base: worker.backoff_base,
                backoff_max: worker.backoff_max,
                eligible: sessions.eligibility(),
                previews: index.preview,
            },
        }
    }

    /// A searcher on an open index.
    pub fn searcher(&self, pool: PgPool, open: &OpenIndex) -> Searcher {
        Searcher {
            pool,
            embedder: open.embedder.clone(),
            index: open.index.clone(),
            collection: open.collection.clone(),
        }
    }

    /// Where the process that holds the data folder answers searches.
    pub fn socket(&self) -> PathBuf {
        guildex_api::socket_path(&self.config.data_dir)
    }
}
