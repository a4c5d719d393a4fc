//! Jobs that hang or crash their process. The test binary is its own worker, restarted by the tests as by a supervisor until
//! no job is left.

use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{World, exchange, world};
use futures::FutureExt;
use futures::future::BoxFuture;
use guildex_embed::{EmbedError, Embedder, LocalConfig, LocalEmbedder, ModelRegistry, Passage, Tokenizer};
use guildex_index::EmbeddedIndex;
use guildex_producer::{Ingest, IngestConfig};
use guildex_queue::{Queues, testing};
use guildex_test_support::sync::wait_until;
use guildex_types::{ModelSlug, RetryPolicy};
use guildex_worker::{EXIT_HUNG, TimeLimit, TimeLimits, Worker, WorkerConfig, exit_hung};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

/// Hangs the model's thread.
const HANGS: &str = "mandrake";
/// Ends the process.
const KILLS: &str = "cyanide";

const DATABASE: &str = "GUILDEX_TEST_WORKER_DATABASE";
const PREFIX: &str = "GUILDEX_TEST_WORKER_PREFIX";
const FOLDER: &str = "GUILDEX_TEST_WORKER_FOLDER";

/// The real model, except for texts with these words.
struct FaultyModel {
    real: LocalEmbedder,
    hangs_since: Mutex<Option<Instant>>,
}

impl Embedder for FaultyModel {
    fn slug(&self) -> &ModelSlug {
        self.real.slug()
    }

    fn dimensions(&self) -> usize {
        self.real.dimensions()
    }

    fn tokenizer(&self) -> &Tokenizer {
        self.real.tokenizer()
    }

    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Vec<Vec<f32>>, EmbedError>> {
        self.real.embed(texts)
    }

    fn embed_within(
        &self,
        passages: Vec<Passage>,
        limit: Duration,
    ) -> BoxFuture<'_, Result<Vec<Vec<f32>>, EmbedError>> {
        let says = |word| passages.iter().any(|passage| passage.text.contains(word));
        if says(KILLS) {
            std::process::abort();
        }
        if says(HANGS) {
            self.hangs_since.lock().unwrap().get_or_insert_with(Instant::now);
            return async move {
                tokio::time::sleep(limit).await;
                Err(EmbedError::TimedOut(limit))
            }
            .boxed();
        }
        self.real.embed_within(passages, limit)
    }

    fn longest_call(&self) -> Option<Duration> {
        self.hangs_since.lock().unwrap().map(|since| since.elapsed())
    }

    fn truncated(&self) -> u64 {
        self.real.truncated()
    }
}

/// The worker process. Does nothing as a test.
#[tokio::test(flavor = "multi_thread")]
async fn worker() {
    let Ok(database) = std::env::var(DATABASE) else { return };
    let pool = PgPool::connect(&database).await.unwrap();
    let config = guildex_queue::Config { prefix: std::env::var(PREFIX).unwrap(), ..testing::config() };
    let load = || {
        LocalEmbedder::load(LocalConfig {
            source: Some(PathBuf::from(std::env::var_os("GUILDEX_MODEL_DIR").unwrap())).into(),
            onnx_runtime: Some(PathBuf::from(std::env::var_os("ORT_DYLIB_PATH").unwrap())),
            instances: 1,
            ..LocalConfig::new("all-minilm-l6-v2-fp32".parse().unwrap())
        })
    };
    let real = tokio::task::spawn_blocking(load).await.unwrap().unwrap();
    let model: Arc<dyn Embedder> = Arc::new(FaultyModel { real, hangs_since: Mutex::default() });
    let limit = TimeLimit { soft: Duration::from_secs(1), hard: Duration::from_secs(3) };
    let worker = Worker {
        name: format!("process {}", std::process::id()),
        ingest: Ingest::new(pool, IngestConfig::default()),
        queues: Queues::connect(&config).await.unwrap(),
        models: Arc::new(ModelRegistry::preloaded([model])),
        index: Arc::new(
            EmbeddedIndex::open(PathBuf::from(std::env::var_os(FOLDER).unwrap()).as_path()).unwrap(),
        ),
        collection_prefix: "test".to_owned(),
        previews: true,
        retry: RetryPolicy::new(Duration::from_millis(1), Duration::from_millis(10)),
        config: WorkerConfig {
            lease: Duration::from_secs(3),
            time_limits: TimeLimits { index_session: limit, delete: limit, backfill: limit },
            ..WorkerConfig::default()
        },
        on_hang: Arc::new(exit_hung),
    };
    worker.run(CancellationToken::new()).await;
}

/// Restarts a worker until no job is left. Returns the exit statuses.
async fn supervise(world: &World) -> Vec<ExitStatus> {
    let folder = tempfile::tempdir().unwrap();
    let (database, prefix) = world.addresses();
    let start = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "hang::worker", "--nocapture"])
            .envs([(DATABASE, &database), (PREFIX, &prefix)])
            .env(FOLDER, folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut ends = Vec::new();
    loop {
        let mut worker = start();
        let mut end = None;
        wait_until("a worker's exit or no unfinished job", async || {
            end = worker.try_wait().unwrap();
            end.is_some() || world.count("state IN ('pending', 'queued', 'running')").await == 0
        })
        .await;
        let Some(end) = end else {
            worker.kill().unwrap();
            worker.wait().unwrap();
            return ends;
        };
        ends.push(end);
    }
}

async fn ingest_sessions(world: &World, bad: &str) {
    for day in 1..=5 {
        let text = if day == 3 { format!("the {bad} is here") } else { "does the glue hold".to_owned() };
        world.ingest(&exchange(day, &text)).await;
    }
    world.allow_attempts(4).await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_hung_model_ends_the_process_and_only_its_job_becomes_dead(pool: PgPool) {
    world(pool, async |world| {
        ingest_sessions(world, HANGS).await;
        let ends = supervise(world).await;
        assert!(!ends.is_empty(), "no process ended");
        assert!(ends.iter().all(|end| end.code() == Some(i32::from(EXIT_HUNG))), "{ends:?}");
        assert_eq!(world.count("state = 'completed'").await, 4);
        assert_eq!(world.count("state = 'dead' AND attempts = 4").await, 1);
        let history = world.errors_of_dead_job().await;
        assert!(history.iter().any(|error| error.contains("soft limit")), "{history:?}");
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_job_that_crashes_its_process_is_quarantined_and_becomes_dead(pool: PgPool) {
    world(pool, async |world| {
        ingest_sessions(world, KILLS).await;
        let ends = supervise(world).await;
        assert_eq!(ends.len(), 4, "one exit for each attempt: {ends:?}");
        assert!(ends.iter().all(|end| end.code().is_none()), "{ends:?}");
        assert_eq!(world.count("state = 'completed'").await, 4);
        let history = world.errors_of_dead_job().await;
        assert_eq!(history.len(), 4);
        assert!(history.iter().all(|error| error.contains("lease")), "{history:?}");
    })
    .await;
}
