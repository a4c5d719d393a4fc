//! Sections of the configuration. Those of the other crates are those crates' own structs. A new field is a new key.

use std::path::PathBuf;
use std::time::Duration;

use guildex_embed::LocalConfig;
use guildex_index::ServerConfig;
use guildex_producer::{EnqueueConfig, OptOutConfig, SchedulerConfig, SessionsConfig};
use guildex_search::SearchConfig;
use guildex_types::config::{
    DAY, HOUR, SecretUrl, between, duration_between, optional_duration, scheme_of, unset,
};
use guildex_types::{ModelSlug, RetryPolicy};
use guildex_worker::WorkerConfig;
use serde::{Deserialize, Serialize};

use super::check;
use super::error::ConfigError;
use super::models::Models;

/// The whole configuration.
#[derive(Debug, Clone, Serialize, Deserialize, garde::Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of the embedded index, its lock file and its socket. Default: `data` in the working directory.
    #[garde(custom(check::folder))]
    pub data_dir: PathBuf,
    /// Postgres.
    #[garde(dive)]
    pub database: Database,
    /// Redis.
    #[garde(dive)]
    pub redis: Redis,
    /// The vector index.
    #[garde(dive)]
    pub index: Index,
    /// The embedding model of a new database, and settings of all local models.
    #[garde(dive)]
    pub model: Model,
    /// Further models, by name. Default: none.
    #[garde(dive)]
    pub models: Models,
    /// Grouping of messages into sessions.
    #[garde(dive)]
    pub sessions: SessionsConfig,
    /// Members and channels that are not stored.
    #[garde(skip)]
    pub optout: OptOutConfig,
    /// How long messages are kept.
    #[garde(dive)]
    pub retention: Retention,
    /// Workers, and the jobs that they run.
    #[garde(dive)]
    pub worker: WorkerSection,
    /// Retries of failed jobs.
    #[garde(dive)]
    pub retry: RetryPolicy,
    /// The scheduler.
    #[garde(dive)]
    pub dispatcher: SchedulerConfig,
    /// Searches.
    #[garde(dive)]
    pub search: SearchConfig,
    /// The log.
    #[garde(dive)]
    pub log: Log,
}

/// Section `database`: Postgres, the source of truth.
#[derive(Debug, Clone, Serialize, Deserialize, garde::Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// Address: `postgres://user:password@host:port/name`. Secret. Not set by default.
    #[serde(with = "unset")]
    #[garde(custom(scheme_of(&["postgres", "postgresql"])))]
    pub url: Option<SecretUrl>,
    /// Maximum connections of one process. Default: 20.
    // A lock takes one, and the work another.
    #[garde(custom(between(2..=1000)))]
    pub max_connections: u32,
}

/// Section `redis`: Redis, which delivers jobs to workers.
#[derive(Debug, Clone, Serialize, Deserialize, garde::Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// Address: `redis://user:password@host:port/number`. Secret. Not set by default.
    #[serde(with = "unset")]
    #[garde(custom(scheme_of(&["redis", "rediss"])))]
    pub url: Option<SecretUrl>,
    /// Prefix of all Redis keys. Each installation on a server needs its own. Default: `guildex`.
    #[garde(custom(check::prefix))]
    pub prefix: String,
}

/// Section `index`: the vector index.
#[derive(Debug, Clone, Serialize, Deserialize, garde::Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Index {
    /// Prefix of collection names; the model's slug follows. Default: `guildex`.
    #[garde(custom(check::prefix))]
    pub collection_prefix: String,
    /// Store a preview of the text in points, for other readers of the collection. Default: `true`.
    #[garde(skip)]
    pub preview: bool,
    /// Where vectors are stored. Default: `embedded`.
    #[garde(skip)]
    pub backend: Backend,
    /// The Qdrant server of the backend `server`.
    #[garde(dive)]
    pub server: ServerConfig,
}

/// Where vectors are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Qdrant's engine in this process, on `data_dir`, for one machine.
    Embedded,
    /// A Qdrant server, shared by any number of workers.
    Server,
}

/// Section `model`: the embedding model of a new database, and settings of all local models. Afterwards the database
/// stores which model is active.
#[derive(Debug, Clone, Serialize, Deserialize, garde::Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// Slug of the model, with its precision. Default: `all-minilm-l6-v2-fp32`.
    #[garde(skip)]
    pub name: ModelSlug,
    /// Folder of the model's files. Not set by default: the model is downloaded at first use.
    #[serde(with = "unset")]
    #[garde(skip)]
    pub dir: Option<PathBuf>,
    /// Instances of the model that run concurrently, with one thread each; 0 means one per core, up to eight.
    /// Default: 0.
    #[garde(custom(between(0..=256)))]
    pub instances: usize,
    /// Maximum tokens of one batch, including padding: longest text times number of texts. Default: 512.
    #[garde(custom(between(16..=65_536)), custom(|max: &usize, _| check::fits_text(*max, self.max_tokens)))]
    pub max_batch_tokens: usize,
    /// Maximum tokens of one text. Longer sessions are split into chunks. Default: 256.
    #[garde(custom(between(16..=8192)))]
    pub max_tokens: usize,
    /// Path of ONNX Runtime's shared library. Not set by default.
    #[serde(with = "unset")]
    #[garde(skip)]
    pub onnxruntime: Option<PathBuf>,
}

/// Section `retention`: how long messages are kept.
#[derive(Debug, Clone, Default, Serialize, Deserialize, garde::Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// How long messages are kept after they were sent. Not set by default: forever.
    #[serde(with = "optional_duration")]
    #[garde(custom(duration_between(HOUR..=100 * 365 * DAY)))]
    pub messages: Option<Duration>,
}

/// Section `worker`, whose keys apply partly when a job is enqueued and partly when it runs. Unknown keys are rejected
/// when the sources are read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerSection {
    /// Keys that apply when a job is enqueued.
    #[serde(flatten)]
    pub enqueue: EnqueueConfig,
    /// Keys that apply to a worker process.
    #[serde(flatten)]
    pub process: WorkerConfig,
}

/// Written out because the parts are flattened, which garde's derive does not know.
impl garde::Validate for WorkerSection {
    type Context = ();

    fn validate_into(&self, (): &(), parent: &mut dyn FnMut() -> garde::Path, report: &mut garde::Report) {
        self.enqueue.validate_into(&(), parent, report);
        self.process.validate_into(&(), parent, report);
    }
}

/// Section `log`: the log on standard error.
#[derive(Debug, Clone, Serialize, Deserialize, garde::Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Level, or directives such as `info,sqlx=warn`. Default: `info`.
    #[garde(custom(check::log_level))]
    pub level: String,
    /// Format of log lines. Default: `text`.
    #[garde(skip)]
    pub format: LogFormat,
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For humans.
    Text,
    /// One JSON object per line.
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
            models: Models::default(),
            sessions: SessionsConfig::default(),
            optout: OptOutConfig::default(),
            retention: Retention::default(),
            worker: WorkerSection::default(),
            retry: RetryPolicy::default(),
            dispatcher: SchedulerConfig::default(),
            search: SearchConfig::default(),
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
            server: ServerConfig::default(),
        }
    }
}

impl Default for Model {
    /// The defaults of [`LocalConfig`].
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "a constant, which no data reaches")]
        let name: ModelSlug = "all-minilm-l6-v2-fp32".parse().expect("the default slug is one");
        let LocalConfig { slug, max_batch_tokens, max_tokens, .. } = LocalConfig::new(name);
        Self { name: slug, dir: None, instances: 0, max_batch_tokens, max_tokens, onnxruntime: None }
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
    /// [`ConfigError::Missing`] if it is not set.
    pub fn database_url(&self) -> Result<&SecretUrl, ConfigError> {
        let variables = ["GUILDEX_DATABASE_URL", "DATABASE_URL"];
        self.database.url.as_ref().ok_or(ConfigError::Missing { key: "database.url", variables })
    }

    /// Redis' URL, for a command that needs it.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] if it is not set.
    pub fn redis_url(&self) -> Result<&SecretUrl, ConfigError> {
        let variables = ["GUILDEX_REDIS_URL", "REDIS_URL"];
        self.redis.url.as_ref().ok_or(ConfigError::Missing { key: "redis.url", variables })
    }
}

impl Index {
    /// The Qdrant server's URL, for a command that needs it.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] if it is not set.
    pub fn server_url(&self) -> Result<&SecretUrl, ConfigError> {
        let variables = ["GUILDEX_INDEX_SERVER_URL", "QDRANT_URL"];
        self.server.url.as_ref().ok_or(ConfigError::Missing { key: "index.server.url", variables })
    }
}
