//! An isolated environment for each test: a database, a Redis prefix and a data folder.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use guildex_producer::{Ingest, IngestConfig};
use guildex_queue::{Queues, testing};
pub use guildex_test_support::servers::{execute_on, signal};
pub use guildex_test_support::sync::wait_until;
use serde_json::Value;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tempfile::TempDir;
use url::Url;
use uuid::Uuid;

/// The program under test.
const GUILDEX: &str = env!("CARGO_BIN_EXE_guildex");

/// A test's environment. Removed when dropped, also after a panic.
pub struct World {
    folder: TempDir,
    /// Address of the server.
    postgres: Url,
    database: String,
    redis: String,
    prefix: String,
    pub pool: PgPool,
}

impl World {
    /// An environment with an up-to-date schema and no data.
    pub async fn new() -> Self {
        Self::with("").await
    }

    /// An environment with the configuration `toml`.
    pub async fn with(toml: &str) -> Self {
        Self::on(&postgres(), &redis_url(), toml).await
    }

    /// An environment on these servers, with the configuration `toml`.
    pub async fn on(postgres: &Url, redis: &str, toml: &str) -> Self {
        let name = Uuid::new_v4().simple().to_string();
        let database = format!("guildex_test_{name}");
        execute_on(postgres, &format!("CREATE DATABASE {database}")).await.unwrap();
        let options: PgConnectOptions = postgres.as_str().parse().unwrap();
        let pool = PgPoolOptions::new()
            .max_connections(5)
            .connect_with(options.database(&database))
            .await
            .expect("the new database");
        // The path of a Unix socket is limited to about 100 bytes.
        let folder = tempfile::Builder::new().prefix("gx").tempdir_in("/tmp").unwrap();
        let world = Self {
            folder,
            postgres: postgres.clone(),
            database,
            redis: redis.to_owned(),
            prefix: format!("test-{name}"),
            pool,
        };
        // Written even if empty, so that no other configuration is found.
        fs::write(world.path("guildex.toml"), toml).unwrap();
        world.ok(&["migrate"]);
        world
    }

    /// Path in the environment's folder, the program's working directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        let output = self.command(arguments).output().unwrap();
        Outcome {
            command: arguments.join(" "),
            status: output.status,
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs the program and asserts success.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> Outcome {
        let outcome = self.run(arguments);
        assert!(outcome.status.success(), "{outcome}");
        outcome
    }

    /// Runs the program and asserts that it fails with an error, not a panic.
    #[track_caller]
    pub fn fails(&self, arguments: &[&str]) -> Outcome {
        let outcome = self.run(arguments);
        assert_eq!(outcome.status.code(), Some(1), "{outcome}");
        assert!(!outcome.stderr.contains("panicked"), "{outcome}");
        outcome
    }

    /// Imports a file or folder.
    #[track_caller]
    pub fn import(&self, path: &Path) -> Outcome {
        self.ok(&["import", path.to_str().unwrap()])
    }

    /// Runs `up` until no job is left.
    #[track_caller]
    pub fn settle(&self) -> Outcome {
        let outcome = self.ok(&["up", "--until-idle"]);
        assert!(!outcome.stderr.contains("panicked"), "{outcome}");
        outcome
    }

    /// Results of `search`, as JSON, best first.
    #[track_caller]
    pub fn search(&self, guild: i64, query: &str) -> Vec<Value> {
        let outcome = self.ok(&["search", "--guild", &guild.to_string(), "--json", query]);
        outcome.json()["results"].as_array().unwrap().clone()
    }

    /// Starts the program.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let log = self.path(&format!("{}.log", Uuid::new_v4().simple()));
        let child = self
            .command(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Running { child, command: arguments.join(" "), log }
    }

    /// Starts `up` and waits until it answers searches.
    pub async fn up(&self) -> Running {
        let mut up = self.start(&["up"]);
        // A killed process leaves its socket file: only a connection proves that one listens.
        let socket = self.path("d/guildex.sock");
        wait_until("`up` answers", || {
            up.assert_alive();
            let answers = std::os::unix::net::UnixStream::connect(&socket).is_ok();
            async move { answers }
        })
        .await;
        up
    }

    /// Value of a query.
    pub async fn value<T>(&self, sql: &'static str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// Waits until a statement gives `true`.
    pub async fn wait_for(&self, sql: &'static str) {
        wait_until(sql, || async { self.value::<bool>(sql).await }).await;
    }

    /// Waits until no job is left.
    pub async fn wait_idle(&self) {
        self.wait_for("SELECT NOT EXISTS (SELECT FROM jobs WHERE state IN ('pending', 'queued', 'running'))")
            .await;
    }

    /// Writer of messages, as a bot uses it.
    pub fn ingest(&self) -> Ingest {
        Ingest::new(self.pool.clone(), IngestConfig::default())
    }

    /// Queues of this environment.
    pub async fn queues(&self) -> Queues {
        let (url, prefix) = (self.redis.clone(), self.prefix.clone());
        let config = guildex_queue::Config { url, prefix, ..testing::config() };
        Queues::connect(&config).await.expect("Redis at REDIS_URL")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(GUILDEX);
        // The model is the machine's; all other configuration is the environment's.
        let inherited = |name: &str| !name.starts_with("GUILDEX_") || name == "GUILDEX_MODEL_DIR";
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .envs(std::env::vars().filter(|(name, _)| inherited(name)))
            .env("DATABASE_URL", self.database_url())
            .env("REDIS_URL", &self.redis)
            .env("GUILDEX_REDIS_PREFIX", &self.prefix)
            .env("GUILDEX_DATA_DIR", self.path("d"));
        command
    }

    fn database_url(&self) -> String {
        let mut url = self.postgres.clone();
        url.set_path(&self.database);
        url.into()
    }
}

impl Drop for World {
    /// Runs on a separate thread, because the test's thread may be panicking or inside a runtime.
    fn drop(&mut self) {
        let (postgres, database) = (self.postgres.clone(), self.database.clone());
        let (url, prefix) = (self.redis.clone(), self.prefix.clone());
        let clean = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let config = guildex_queue::Config { url, prefix, ..testing::config() };
                if let Ok(queues) = Queues::connect(&config).await {
                    let _ = testing::purge(&queues).await;
                }
                let drop = format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)");
                let _ = execute_on(&postgres, &drop).await;
            });
        };
        let _ = std::thread::spawn(clean).join();
    }
}

/// Exit status and output of the program.
pub struct Outcome {
    command: String,
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, status, stdout, stderr } = self;
        write!(f, "guildex {command}: {status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

/// A background process, killed when dropped.
pub struct Running {
    child: Child,
    command: String,
    log: PathBuf,
}

impl Running {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops it gracefully.
    pub async fn stop(self) -> ExitStatus {
        signal(self.id(), "TERM");
        self.end().await
    }

    /// Waits until it exits.
    pub async fn end(mut self) -> ExitStatus {
        let mut ended = None;
        wait_until("the process ends", || {
            ended = self.child.try_wait().unwrap();
            let stopped = ended.is_some();
            async move { stopped }
        })
        .await;
        assert!(!self.log().contains("panicked"), "{}", self.log());
        ended.unwrap()
    }

    /// `kill -STOP`.
    pub fn freeze(&self) {
        signal(self.id(), "STOP");
    }

    /// `kill -CONT`.
    pub fn wake(&self) {
        signal(self.id(), "CONT");
    }

    /// Processor time used so far.
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        // Parsed after the name, which may contain spaces: state is field 3, user and system time are 14 and 15.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks: u64 =
            fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(10 * ticks)
    }

    /// True once it has exited.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn assert_alive(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("guildex {} ended with {status}:\n{}", self.command, self.log());
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("guildex {}, as far as it came:\n{}", self.command, self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Server shared by all tests.
pub fn redis_url() -> String {
    std::env::var("REDIS_URL").expect("REDIS_URL is unset: run scripts/test")
}

/// Server shared by all tests.
pub fn postgres() -> Url {
    std::env::var("DATABASE_URL").expect("DATABASE_URL is unset: run scripts/test").parse().unwrap()
}
