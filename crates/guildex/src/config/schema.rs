//! Every key, with its meaning, unit and default. A new field here is a new key everywhere.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use guildex_index::{Mode, Quantization};
use guildex_producer::{OptOutConfig, SchedulerConfig, SessionsConfig};
use guildex_search::{Fallback, SearchConfig};
use guildex_types::ModelSlug;
use guildex_types::config::{SecretUrl, duration, optional_duration, optional_secret, unset};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::error::ConfigError;
use super::models::NamedModel;

/// The whole configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The folder of the embedded index, its lock and its socket. Default: `data`, in the working directory.
    pub data_dir: PathBuf,
    /// Postgres.
    pub database: Database,
    /// Redis.
    pub redis: Redis,
    /// The vector index.
    pub index: Index,
    /// The embedding model that a new database begins with, and how local models run.
    pub model: Model,
    /// Further models, by name. Default: none.
    pub models: BTreeMap<String, NamedModel>,
    /// How messages become sessions.
    pub sessions: SessionsConfig,
    /// Who is left out.
    pub optout: OptOutConfig,
    /// What is kept no longer.
    pub retention: Retention,
    /// The workers.
    pub worker: Worker,
    /// Retries of failed jobs.
    pub retry: Retry,
    /// The dispatcher.
    pub dispatcher: SchedulerConfig,
    /// Searches.
    pub search: Search,
    /// The log.
    pub log: Log,
}

/// Postgres, which holds the truth.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// Where it is: `postgres://user:password@host:port/name`. Secret; not set by default.
    #[serde(with = "unset")]
    pub url: Option<SecretUrl>,
    /// Connections that one process may hold at once. Default: 20.
    pub max_connections: u32,
}

/// Redis, which wakes and feeds workers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// Where it is: `redis://user:password@host:port/number`. Secret; not set by default.
    #[serde(with = "unset")]
    pub url: Option<SecretUrl>,
    /// What the names of all keys begin with, so that several Guildexes can share a server. Default: `guildex`.
    pub prefix: String,
}

/// The vector index.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Index {
    /// What the names of collections begin with; a model's slug follows. Default: `guildex`.
    pub collection_prefix: String,
    /// Whether points carry a preview of their text, for other readers of the collection. Default: `true`.
    pub preview: bool,
    /// What holds the vectors. Default: `embedded`.
    pub backend: Backend,
    /// The Qdrant server, where that is the backend.
    pub server: Server,
}

/// What holds the vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Qdrant's engine in this process, on `data_dir`: for one machine.
    Embedded,
    /// A Qdrant server that any number of workers share.
    Server,
}

/// A Qdrant server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Where it answers gRPC: `http://host:6334`, or `https://`. Secret; not set by default.
    #[serde(with = "unset")]
    pub url: Option<SecretUrl>,
    /// Where it answers HTTP, for backups. Not set by default: the same host, port 6333.
    #[serde(with = "unset")]
    pub http_url: Option<SecretUrl>,
    /// Its API key. Secret; not set by default.
    #[serde(with = "optional_secret")]
    pub api_key: Option<SecretString>,
    /// How long one request may take. Default: 10 s.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// How long connecting may take. Default: 5 s.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// Connections of one process. Default: 3.
    pub pool_size: usize,
    /// Points of one request. Default: 128.
    pub upsert_batch_size: usize,
    /// Requests of one batch of sessions that run side by side. Default: 2.
    pub max_concurrent_upserts: usize,
    /// How vectors are compressed in memory. Default: `none`.
    pub quantization: Quantization,
}

/// The embedding model that a new database begins with, and how local models run. Which model is in use later is
/// for the database to say.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// The slug, precision included. Default: `all-minilm-l6-v2-fp32`.
    pub name: ModelSlug,
    /// The folder that holds the model's files. Not set by default: the model is downloaded at first use.
    #[serde(with = "unset")]
    pub dir: Option<PathBuf>,
    /// Copies of the model that embed side by side, one thread each; 0 means one per core, up to eight.
    /// Default: 0.
    pub instances: usize,
    /// The most tokens of one call, padding included: longest text x number of texts. Default: 512.
    pub max_batch_tokens: usize,
    /// The most tokens of one text; longer sessions become several chunks. Default: 256.
    pub max_tokens: usize,
    /// ONNX Runtime's shared library. Not set by default.
    #[serde(with = "unset")]
    pub onnxruntime: Option<PathBuf>,
}

/// What is kept no longer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// How long messages are kept, from when they were sent. Not set by default: for ever.
    #[serde(with = "optional_duration")]
    pub messages: Option<Duration>,
}

/// The workers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Worker {
    /// Sessions that are embedded and written together. Default: 64.
    pub batch_size: usize,
    /// How long a batch that is not full waits for more. Default: 20 ms.
    #[serde(with = "duration")]
    pub batch_wait: Duration,
    /// How long a claim lasts unless it is renewed: so long after a worker died, others take its jobs.
    /// Default: 10 s.
    #[serde(with = "duration")]
    pub lease: Duration,
    /// Attempts before a job is dead. Deletions go on. Default: 5.
    pub max_attempts: u32,
    /// How long a session waits after a first change, so that many edits make one embedding.
    /// Default: 300 ms.
    #[serde(with = "duration")]
    pub debounce: Duration,
    /// How long a worker that is told to stop may finish what it holds. Default: 20 s.
    #[serde(with = "duration")]
    pub shutdown_timeout: Duration,
    /// Jobs in flight.
    pub concurrency: Concurrency,
    /// How long jobs may take.
    pub time_limits: TimeLimits,
}

/// Jobs in flight in one worker process, by class.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Concurrency {
    /// Default: 16.
    pub delete: usize,
    /// Default: 64.
    pub live: usize,
    /// Default: 256.
    pub backfill: usize,
}

/// Time limits by kind of job. The defaults are those of [`guildex_worker::TimeLimits`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimeLimits {
    /// A step of indexing sessions: a batch that is tokenised, a call of the model, a call of the index.
    pub index_session: TimeLimit,
    /// A deletion in the index.
    pub delete: TimeLimit,
    /// The backfill of a channel.
    pub backfill: TimeLimit,
}

/// A soft limit and a hard one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeLimit {
    /// After this the attempt is given up.
    #[serde(with = "duration")]
    pub soft: Duration,
    /// After this the process ends.
    #[serde(with = "duration")]
    pub hard: Duration,
}

/// How failed jobs are retried.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// Delay before the second attempt; it doubles with each attempt. Default: 1 s.
    #[serde(with = "duration")]
    pub initial_delay: Duration,
    /// The longest delay between attempts. Default: 5 min.
    #[serde(with = "duration")]
    pub max_delay: Duration,
}

/// Searches.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Search {
    /// What ranks where a search does not say. Default: `hybrid`.
    pub mode: Mode,
    /// How long a search may take before it is an error. Default: 5 s.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Who answers while the index or the model is away. Default: `none`.
    pub fallback: Fallback,
    /// How the rankings by vectors and by words become one.
    pub fusion: Fusion,
}

/// A chunk scores `weight / (k + rank)` in each ranking. The defaults are those of [`guildex_index::Fusion`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fusion {
    /// How little the top of a ranking counts over what follows. Default: 2.
    pub k: f64,
    /// What the ranking by vectors counts. Default: 1.
    pub dense: f64,
    /// What the ranking by words counts. Default: 0.75.
    pub bm25: f64,
}

/// The log, on standard error.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// What is logged: a level, or directives such as `info,sqlx=warn`. Default: `info`.
    pub level: String,
    /// How it is written. Default: `text`.
    pub format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "data".into(),
            database: Database::default(),
            redis: Redis::default(),
            index: Index::default(),
            model: Model::default(),
            models: BTreeMap::new(),
            sessions: SessionsConfig::default(),
            optout: OptOutConfig::default(),
            retention: Retention::default(),
            worker: Worker::default(),
            retry: Retry::default(),
            dispatcher: SchedulerConfig::default(),
            search: Search::default(),
            log: Log::default(),
        }
    }
}

impl Default for Database {
    fn default() -> Self {
        Self { url: None, max_connections: 20 }
    }
}

impl Default for Redis {
    fn default() -> Self {
        Self { url: None, prefix: "guildex".into() }
    }
}

impl Default for Index {
    fn default() -> Self {
        Self {
            collection_prefix: "guildex".into(),
            preview: true,
            backend: Backend::Embedded,
            server: Server::default(),
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            url: None,
            http_url: None,
            api_key: None,
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            pool_size: 3,
            upsert_batch_size: 128,
            max_concurrent_upserts: 2,
            quantization: Quantization::None,
        }
    }
}

impl Default for Model {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "a constant, which no data reaches")]
        let name = "all-minilm-l6-v2-fp32".parse().expect("the default slug is one");
        Self { name, dir: None, instances: 0, max_batch_tokens: 512, max_tokens: 256, onnxruntime: None }
    }
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            batch_size: 64,
            batch_wait: Duration::from_millis(20),
            lease: Duration::from_secs(10),
            max_attempts: 5,
            debounce: Duration::from_millis(300),
            shutdown_timeout: Duration::from_secs(20),
            concurrency: Concurrency::default(),
            time_limits: TimeLimits::default(),
        }
    }
}

impl Default for TimeLimits {
    fn default() -> Self {
        let limit = |guildex_worker::TimeLimit { soft, hard }| TimeLimit { soft, hard };
        let guildex_worker::TimeLimits { index_session, delete, backfill } =
            guildex_worker::TimeLimits::default();
        Self { index_session: limit(index_session), delete: limit(delete), backfill: limit(backfill) }
    }
}

impl TimeLimits {
    /// The worker's limits.
    pub fn of_worker(&self) -> guildex_worker::TimeLimits {
        let limit = |limit: &TimeLimit| guildex_worker::TimeLimit { soft: limit.soft, hard: limit.hard };
        guildex_worker::TimeLimits {
            index_session: limit(&self.index_session),
            delete: limit(&self.delete),
            backfill: limit(&self.backfill),
        }
    }
}

impl Default for Concurrency {
    fn default() -> Self {
        Self { delete: 16, live: 64, backfill: 256 }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { initial_delay: Duration::from_secs(1), max_delay: Duration::from_mins(5) }
    }
}

impl Default for Search {
    fn default() -> Self {
        let SearchConfig { mode, fusion: _, timeout, fallback } = SearchConfig::default();
        Self { mode, timeout, fallback, fusion: Fusion::default() }
    }
}

impl Default for Fusion {
    fn default() -> Self {
        let guildex_index::Fusion { k, dense, bm25 } = guildex_index::Fusion::default();
        Self { k, dense, bm25 }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

impl Config {
    /// Postgres' URL, for a command that needs it.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] if nobody set it.
    pub fn database_url(&self) -> Result<&SecretUrl, ConfigError> {
        let variables = ["GUILDEX_DATABASE_URL", "DATABASE_URL"];
        self.database.url.as_ref().ok_or(ConfigError::Missing { key: "database.url", variables })
    }

    /// Redis' URL, for a command that needs it.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] if nobody set it.
    pub fn redis_url(&self) -> Result<&SecretUrl, ConfigError> {
        let variables = ["GUILDEX_REDIS_URL", "REDIS_URL"];
        self.redis.url.as_ref().ok_or(ConfigError::Missing { key: "redis.url", variables })
    }
}

impl Index {
    /// The Qdrant server's URL, for a command that needs it.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] if nobody set it.
    pub fn server_url(&self) -> Result<&SecretUrl, ConfigError> {
        let variables = ["GUILDEX_INDEX_SERVER_URL", "QDRANT_URL"];
        self.server.url.as_ref().ok_or(ConfigError::Missing { key: "index.server.url", variables })
    }
}

impl Search {
    /// How searches are answered.
    pub fn searches(&self) -> SearchConfig {
        let Fusion { k, dense, bm25 } = self.fusion;
        SearchConfig {
            mode: self.mode,
            fusion: guildex_index::Fusion { k, dense, bm25 },
            timeout: self.timeout,
            fallback: self.fallback,
        }
    }
}
