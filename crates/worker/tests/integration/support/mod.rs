//! A guild with its services, and a model and an index that can be observed, blocked and made to fail.
#![allow(dead_code, reason = "each test binary uses its part")]

mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use guildex_embed::{EmbedError, Embedder, LocalConfig, LocalEmbedder, ModelRegistry, Tokenizer};
use guildex_index::{CollectionName, EmbeddedIndex, Error, Point, VectorIndex};
use guildex_producer::{EnqueueConfig, Ingest, IngestConfig};
use guildex_producer::{Scheduler, SchedulerConfig};
use guildex_queue::Queues;
use guildex_queue::testing::{self, with_queues};
use guildex_store::channels::Channel;
use guildex_store::status::ModelStatus;
use guildex_store::{models, search, status};
use guildex_test_support::TEST_TIMEOUT as TIMEOUT;
use guildex_test_support::index::{InterceptedIndex, Interceptor};
use guildex_test_support::sync::Gate;
use guildex_types::{
    Author, ChannelId, GuildId, JobQueue, Links, Message, MessageId, MessageKind, ModelSlug, RetryPolicy,
    Revision, SearchText, SessionId,
};
use guildex_worker::{Worker, WorkerConfig};
use sqlx::postgres::PgListener;
use sqlx::{FromRow, PgPool};
pub use steps::{Step, Steps};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub const MAX_ATTEMPTS: i32 = 3;

fn minute(day: i64, number: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(day) + TimeDelta::minutes(number)
}

/// Id of a day's message.
fn id(day: i64, number: i64) -> MessageId {
    (100 * day + number).try_into().unwrap()
}

/// A day's message, sent in the minute of its number. Days are too far apart to share a session.
pub fn new_message(day: i64, number: i64, author: i64, text: &str) -> Message {
    Message {
        guild_id: 1.try_into().unwrap(),
        channel_id: 9.try_into().unwrap(),
        id: id(day, number),
        author: Author::member(author.try_into().unwrap(), format!("author {author}")),
        kind: MessageKind::Conversation,
        sent_at: minute(day, number),
        edited_at: None,
        links: Links::default(),
        text: SearchText::from_parts([text]),
    }
}

pub fn reply(day: i64, to: i64, message: Message) -> Message {
    Message { links: Links { reply_to: Some(id(day, to)), ..message.links }, ..message }
}

pub fn edited(later: i64, text: &str, message: &Message) -> Message {
    let edited_at = Some(message.sent_at + TimeDelta::minutes(later));
    Message { edited_at, text: SearchText::from_parts([text]), ..message.clone() }
}

/// A day's question and answer: a session.
pub fn exchange(day: i64, question: &str) -> [Message; 2] {
    [new_message(day, 1, 1, question), reply(day, 1, new_message(day, 2, 2, "I think so, but try it first"))]
}

/// One call of the model, between two ticks of a clock that ticks at every start and end.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    pub texts: Vec<String>,
    pub began: usize,
    pub ended: usize,
}

/// The real model, observed.
pub struct Model {
    slug: ModelSlug,
    real: &'static LocalEmbedder,
    /// Every call passes this gate.
    pub calls: Gate,
    clock: AtomicUsize,
    embeddings: Mutex<Vec<Embedding>>,
    failing_word: OnceLock<&'static str>,
    panic_word: OnceLock<&'static str>,
    held: OnceLock<&'static str>,
    steps: Arc<Steps>,
    fake_vectors: AtomicBool,
}

impl Model {
    /// One model for all tests of a process: loading takes a second.
    fn load(slug: ModelSlug, steps: Arc<Steps>) -> Self {
        static REAL: OnceLock<LocalEmbedder> = OnceLock::new();
        let variable =
            |name| std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: run scripts/test"));
        let real = REAL.get_or_init(|| {
            LocalEmbedder::load(LocalConfig {
                source: Some(PathBuf::from(variable("GUILDEX_MODEL_DIR"))).into(),
                onnx_runtime: Some(PathBuf::from(variable("ORT_DYLIB_PATH"))),
                instances: 1,
                ..LocalConfig::new("all-minilm-l6-v2-fp32".parse().unwrap())
            })
            .unwrap()
        });
        Self {
            slug,
            real,
            calls: Gate::default(),
            clock: AtomicUsize::new(0),
            embeddings: Mutex::default(),
            failing_word: OnceLock::new(),
            panic_word: OnceLock::new(),
            held: OnceLock::new(),
            steps,
            fake_vectors: AtomicBool::new(false),
        }
    }

    /// Returns pseudorandom vectors from now on, for tests with thousands of sessions.
    pub fn use_fake_vectors(&self) {
        self.fake_vectors.store(true, Ordering::SeqCst);
    }

    /// Fails every call with this word in a text.
    pub fn fail_on(&self, word: &'static str) {
        self.failing_word.set(word).unwrap();
    }

    /// Panics in every call with this word in a text.
    pub fn panic_on(&self, word: &'static str) {
        self.panic_word.set(word).unwrap();
    }

    /// Blocks calls with this word in a text, and no others.
    pub fn block_on(&self, word: &'static str) {
        self.held.set(word).unwrap();
        self.calls.close();
    }

    /// Successful calls.
    pub fn embeddings(&self) -> Vec<Embedding> {
        self.embeddings.lock().unwrap().clone()
    }

    /// Embedded texts.
    pub fn texts(&self) -> Vec<String> {
        self.embeddings().into_iter().flat_map(|call| call.texts).collect()
    }

    async fn observed(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EmbedError> {
        let began = self.clock.fetch_add(1, Ordering::SeqCst);
        let has = |word: &OnceLock<&str>| word.get().map(|word| texts.iter().any(|text| text.contains(word)));
        if has(&self.held) != Some(false) && !texts.is_empty() {
            self.calls.pass().await;
        }
        assert!(has(&self.panic_word) != Some(true), "a panic expected by the test");
        if has(&self.failing_word) == Some(true) {
            return Err(EmbedError::Model("the model rejects the text".to_owned()));
        }
        if !texts.is_empty() {
            self.steps.pass(Step::Embedding, Vec::new).await;
        }
        let vectors = if self.fake_vectors.load(Ordering::SeqCst) {
            texts.iter().map(|text| fake_vector(text, self.real.dimensions())).collect()
        } else {
            self.real.embed(texts.clone()).await?
        };
        let ended = self.clock.fetch_add(1, Ordering::SeqCst);
        if !texts.is_empty() {
            self.embeddings.lock().unwrap().push(Embedding { texts, began, ended });
        }
        Ok(vectors)
    }
}

/// A unit vector that depends on the text alone.
fn fake_vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut state = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u32 << 24) as f32 - 0.5
    };
    let vector: Vec<f32> = std::iter::repeat_with(&mut next).take(dimensions).collect();
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.into_iter().map(|x| x / length).collect()
}

impl Embedder for Model {
    fn slug(&self) -> &ModelSlug {
        &self.slug
    }

    fn dimensions(&self) -> usize {
        self.real.dimensions()
    }

    fn tokenizer(&self) -> &Tokenizer {
        self.real.tokenizer()
    }

    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Vec<Vec<f32>>, EmbedError>> {
        self.observed(texts).boxed()
    }

    fn truncated(&self) -> u64 {
        self.real.truncated()
    }
}

/// Calls that the index rejects, and how many of them.
pub enum Fault {
    Upserts(usize),
    Removals(usize),
}

/// Faults of the index, and steps that wait at its calls.
pub struct Faults {
    /// Every upsert passes this gate.
    pub upserts: Gate,
    pub steps: Arc<Steps>,
    failing_upserts: AtomicUsize,
    failing_removals: AtomicUsize,
    /// Fails all calls as unavailable.
    pub unavailable: AtomicBool,
    /// Number of failed calls.
    pub rejected: AtomicUsize,
}

impl Faults {
    fn new(steps: Arc<Steps>) -> Self {
        Self {
            upserts: Gate::default(),
            steps,
            failing_upserts: AtomicUsize::new(0),
            failing_removals: AtomicUsize::new(0),
            unavailable: AtomicBool::new(false),
            rejected: AtomicUsize::new(0),
        }
    }

    pub fn reject(&self, fault: Fault) {
        match fault {
            Fault::Upserts(times) => self.failing_upserts.store(times, Ordering::SeqCst),
            Fault::Removals(times) => self.failing_removals.store(times, Ordering::SeqCst),
        }
    }

    fn fail(&self, left: &AtomicUsize) -> Result<(), Error> {
        if self.unavailable.load(Ordering::SeqCst) {
            self.rejected.fetch_add(1, Ordering::SeqCst);
            return Err(Error::Unavailable("connection refused".to_owned()));
        }
        let exhausted =
            left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err();
        if exhausted {
            return Ok(());
        }
        self.rejected.fetch_add(1, Ordering::SeqCst);
        Err(Error::Engine("rejected by the test".to_owned()))
    }
}

#[async_trait]
impl Interceptor for Faults {
    async fn upsert(
        &self,
        index: &EmbeddedIndex,
        collection: &CollectionName,
        points: Vec<Point>,
    ) -> Result<(), Error> {
        self.upserts.pass().await;
        self.fail(&self.failing_upserts)?;
        let sessions: BTreeSet<SessionId> = points.iter().map(|point| point.payload.session_id).collect();
        let sessions = || sessions.iter().copied().collect();
        self.steps.pass(Step::Upserting, sessions).await;
        index.upsert(collection, points).await?;
        self.steps.pass(Step::Upserted, sessions).await;
        Ok(())
    }

    async fn delete_below(
        &self,
        index: &EmbeddedIndex,
        collection: &CollectionName,
        guild: GuildId,
        sessions: &[(SessionId, Revision)],
    ) -> Result<(), Error> {
        self.fail(&self.failing_removals)?;
        index.delete_below(collection, guild, sessions).await?;
        let sessions = || sessions.iter().map(|(session, _)| *session).collect();
        self.steps.pass(Step::Recording, sessions).await;
        Ok(())
    }

    async fn delete_messages(
        &self,
        index: &EmbeddedIndex,
        collection: &CollectionName,
        guild: GuildId,
        messages: &[MessageId],
        below: Revision,
    ) -> Result<(), Error> {
        self.fail(&self.failing_removals)?;
        index.delete_messages(collection, guild, messages, below).await
    }
}

/// The index, with faults.
pub type FaultyIndex = InterceptedIndex<Faults>;

/// Prefix of collection names.
const PREFIX: &str = "test";

/// Model and index of a worker.
pub struct WorkerServices {
    models: Arc<ModelRegistry>,
    index: Arc<FaultyIndex>,
}

impl WorkerServices {
    pub fn worker(&self, pool: PgPool, queues: Queues) -> Worker {
        Worker {
            name: "worker".to_owned(),
            ingest: Ingest::new(pool, ingest_config()),
            queues,
            models: self.models.clone(),
            index: self.index.clone(),
            collection_prefix: PREFIX.to_owned(),
            previews: true,
            retry: RetryPolicy::new(Duration::from_millis(1), Duration::from_millis(10)),
            config: WorkerConfig {
                recheck_delay: Some(Duration::from_millis(100)),
                ..WorkerConfig::default()
            },
            on_hang: Arc::new(|| panic!("an operation hangs")),
        }
    }
}

fn ingest_config() -> IngestConfig {
    let enqueue = EnqueueConfig { debounce: Duration::ZERO, max_attempts: MAX_ATTEMPTS as u32 };
    IngestConfig { enqueue, ..IngestConfig::default() }
}

/// A guild with one channel and all services but the workers.
pub struct World {
    pub pool: PgPool,
    pub queues: Queues,
    pub ingest: Ingest,
    /// The active model.
    pub model: Arc<Model>,
    /// Another model, without a collection at first.
    pub next: Arc<Model>,
    models: Arc<ModelRegistry>,
    pub index: Arc<FaultyIndex>,
    collection: CollectionName,
    changes: tokio::sync::Mutex<PgListener>,
    channel: Channel,
}

/// Runs a test with its own database, queues and index.
pub async fn world(pool: PgPool, test: impl AsyncFnOnce(&World)) {
    with_queues(|queues| async move {
        let world = World::new(pool, queues).await;
        let stop = CancellationToken::new();
        let config =
            SchedulerConfig { poll_interval: Duration::from_millis(20), ..SchedulerConfig::default() };
        let dispatcher = Scheduler::new(world.pool.clone(), world.queues.clone(), config);
        let dispatching = tokio::spawn({
            let stop = stop.clone();
            async move { dispatcher.run(stop).await }
        });
        test(&world).await;
        stop.cancel();
        dispatching.await.unwrap();
    })
    .await;
}

/// A running worker.
pub struct Running {
    pub stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    /// Stops the worker and waits for its end.
    pub async fn stop(self) {
        self.stop.cancel();
        timeout(TIMEOUT, self.task).await.expect("the worker stops").unwrap();
    }
}

#[derive(Debug, FromRow)]
pub struct JobRow {
    pub kind: String,
    pub state: String,
    pub attempts: i32,
    pub error: Option<String>,
}

impl World {
    async fn new(pool: PgPool, queues: Queues) -> Self {
        // Notifies of every change to jobs, and rejects records of outdated revisions.
        sqlx::raw_sql(
            "CREATE FUNCTION notify_change() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_notify('test_changes', ''); RETURN NULL; END $$;
             CREATE TRIGGER notify_change AFTER INSERT OR UPDATE OR DELETE ON jobs EXECUTE FUNCTION notify_change();
             CREATE FUNCTION check_record() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN
                 IF NEW.indexed_revision <> (SELECT revision FROM sessions WHERE id = NEW.session_id) THEN
                     RAISE 'a stale record';
                 END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER check_record BEFORE INSERT OR UPDATE OF indexed_revision ON indexed_sessions
             FOR EACH ROW EXECUTE FUNCTION check_record();",
        )
        .execute(&pool)
        .await
        .unwrap();
        let mut changes = PgListener::connect_with(&pool).await.unwrap();
        changes.listen("test_changes").await.unwrap();

        let slug = |text: &str| text.parse::<ModelSlug>().unwrap();
        let steps = Arc::new(Steps::default());
        let load = async |name| {
            let (slug, steps) = (slug(name), steps.clone());
            Arc::new(tokio::task::spawn_blocking(|| Model::load(slug, steps)).await.unwrap())
        };
        let (model, next) = (load("all-minilm-l6-v2-fp32").await, load("next-model").await);
        let index = Arc::new(FaultyIndex::open(Faults::new(steps.clone())));
        let collection = CollectionName::new(PREFIX, model.slug()).unwrap();
        let ready = [model.clone() as Arc<dyn Embedder>, next.clone()];
        let models = Arc::new(ModelRegistry::preloaded(ready));
        models::ensure_active(&pool, model.slug(), model.dimensions()).await.unwrap();
        let channel = Channel {
            guild_id: 1.try_into().unwrap(),
            guild_name: "Makers".to_owned(),
            id: 9.try_into().unwrap(),
            name: "help".to_owned(),
            parent_id: None,
        };
        Self {
            ingest: Ingest::new(pool.clone(), ingest_config()),
            pool,
            queues,
            model,
            next,
            models,
            index,
            collection,
            changes: tokio::sync::Mutex::new(changes),
            channel,
        }
    }

    pub fn guild(&self) -> GuildId {
        self.channel.guild_id
    }

    pub async fn ingest(&self, messages: &[Message]) {
        self.ingest_as(JobQueue::Live, messages).await;
    }

    pub async fn ingest_as(&self, class: JobQueue, messages: &[Message]) {
        self.ingest.messages(&self.channel, messages, class).await.unwrap();
    }

    /// Deletes messages of a day.
    pub async fn delete(&self, day: i64, numbers: &[i64]) {
        let ids: Vec<MessageId> = numbers.iter().map(|number| id(day, *number)).collect();
        self.ingest.delete(self.guild(), ChannelId::try_from(9).unwrap(), &ids).await.unwrap();
    }

    pub fn services(&self) -> WorkerServices {
        WorkerServices { models: self.models.clone(), index: self.index.clone() }
    }

    pub fn worker(&self, pool: PgPool, queues: Queues) -> Worker {
        self.services().worker(pool, queues)
    }

    pub fn start_worker(&self) -> Running {
        self.start(self.worker(self.pool.clone(), self.queues.clone()))
    }

    pub fn start(&self, worker: Worker) -> Running {
        let stop = CancellationToken::new();
        let until = stop.clone();
        Running { stop, task: tokio::spawn(async move { worker.run(until).await }) }
    }

    /// Waits for changes of jobs until the condition holds.
    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let mut changes = self.changes.lock().await;
        let wait = async {
            while !holds().await {
                changes.recv().await.unwrap();
            }
        };
        if timeout(TIMEOUT, wait).await.is_err() {
            panic!("timed out waiting for {what}: {:?}", self.jobs().await);
        }
    }

    /// Waits until no job is unfinished.
    pub async fn until_idle(&self) {
        let unfinished = "state IN ('pending', 'queued', 'running')";
        self.until("the end of all jobs", async || self.count(unfinished).await == 0).await;
    }

    /// Waits until no task of any worker is left.
    pub async fn until_no_task_runs(&self) {
        let wait = async {
            while Arc::strong_count(&self.index) > 1 || Arc::strong_count(&self.models) > 1 {
                tokio::task::yield_now().await;
            }
        };
        timeout(TIMEOUT, wait).await.expect("all tasks end");
    }

    /// Expires all leases.
    pub async fn expire_leases(&self) {
        sqlx::query(
            "UPDATE jobs SET lease_expires_at = now() - interval '1 second' WHERE lease_expires_at IS NOT NULL",
        )
        .execute(&self.pool)
        .await
        .unwrap();
    }

    /// Number of jobs that match a condition.
    pub async fn count(&self, condition: &str) -> i64 {
        let query = format!("SELECT count(*) FROM jobs WHERE {condition}");
        sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_one(&self.pool).await.unwrap()
    }

    pub async fn jobs(&self) -> Vec<JobRow> {
        sqlx::query_as("SELECT kind, state, attempts, error FROM jobs ORDER BY id")
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    /// Errors of the only dead job's attempts.
    pub async fn errors_of_dead_job(&self) -> Vec<String> {
        sqlx::query_scalar(
            "SELECT attempt->>'error' FROM jobs, jsonb_array_elements(attempts_log) AS attempt WHERE state = 'dead'",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    /// Sets the maximum number of attempts of all jobs.
    pub async fn allow_attempts(&self, attempts: i32) {
        sqlx::query("UPDATE jobs SET max_attempts = $1").bind(attempts).execute(&self.pool).await.unwrap();
    }

    /// URL of the database and prefix in Redis, for another process.
    pub fn addresses(&self) -> (String, String) {
        let queue = testing::layout(&self.queues, JobQueue::Live).active_jobs_list();
        let prefix = queue.split_once(":live").unwrap().0.to_owned();
        let mut url = url::Url::parse(&std::env::var("DATABASE_URL").unwrap()).unwrap();
        url.set_path(self.pool.connect_options().get_database().unwrap());
        (url.into(), prefix)
    }

    pub async fn points(&self) -> Vec<Point> {
        self.points_in(&self.collection).await
    }

    /// The active model's collection.
    pub fn collection(&self) -> &CollectionName {
        &self.collection
    }

    /// The active model.
    pub fn model_slug(&self) -> &ModelSlug {
        self.model.slug()
    }

    /// Points of the next model; none without a collection.
    pub async fn points_of_next(&self) -> Vec<Point> {
        let collection = CollectionName::new(PREFIX, self.next.slug()).unwrap();
        match self.index.identity(&collection).await {
            Err(Error::NoCollection(_)) => Vec::new(),
            _ => self.points_in(&collection).await,
        }
    }

    async fn points_in(&self, collection: &CollectionName) -> Vec<Point> {
        self.index.scroll(collection, self.guild(), None, 1_000).await.unwrap().points
    }

    /// Status of a model.
    pub async fn status_of(&self, model: &Model) -> ModelStatus {
        let all = status::models(&self.pool, self.ingest.enqueuer().eligibility()).await.unwrap();
        all.into_iter().find(|status| status.model == *model.slug()).unwrap()
    }

    pub async fn previews(&self) -> Vec<String> {
        self.points()
            .await
            .into_iter()
            .map(|point| point.payload.preview.unwrap().as_str().to_owned())
            .collect()
    }

    /// Number of sessions that a search would show.
    pub async fn searchable(&self) -> usize {
        let hits: Vec<_> = self
            .points()
            .await
            .iter()
            .map(|point| (point.payload.session_id, point.payload.revision))
            .collect();
        search::show(&self.pool, self.guild(), None, &hits, self.model.slug()).await.unwrap().len()
    }

    /// Asserts that index, records and sessions agree: every eligible session is recorded at its latest revision, and the
    /// points match the records and the sessions' live messages. Returns the number of indexed sessions.
    pub async fn assert_consistent(&self) -> usize {
        let sessions: Vec<(sqlx::types::Uuid, i64)> = sqlx::query_as(
            "SELECT id, revision FROM sessions WHERE deleted_at IS NULL
             AND (message_count >= 2 OR (message_count = 1 AND word_count >= 12))",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        let records: Vec<(sqlx::types::Uuid, i64, i64, i32)> = sqlx::query_as(
            "SELECT session_id, indexed_revision, point_revision, points FROM indexed_sessions WHERE model = $1",
        )
        .bind(self.model.slug().as_str())
        .fetch_all(&self.pool)
        .await
        .unwrap();
        let recorded: BTreeSet<_> = records.iter().map(|(id, indexed, ..)| (*id, *indexed)).collect();
        assert_eq!(recorded, sessions.into_iter().collect(), "records differ from sessions");

        let mut stored: BTreeMap<_, (i32, BTreeSet<i64>)> = BTreeMap::new();
        for Point { payload, .. } in self.points().await {
            let (count, messages) =
                stored.entry((payload.session_id.get(), payload.revision.get())).or_default();
            *count += 1;
            messages.extend(payload.message_ids.iter().map(|id| id.get()));
        }
        let recorded_points: BTreeMap<_, _> =
            records.iter().map(|(id, _, points, count)| ((*id, *points), *count)).collect();
        let counts: BTreeMap<_, _> = stored.iter().map(|(key, (count, _))| (*key, *count)).collect();
        assert_eq!(counts, recorded_points, "points differ from records");
        for ((session, _), (_, messages)) in &stored {
            let live: Vec<i64> = sqlx::query_scalar(
                "SELECT m.id FROM messages m JOIN sessions s ON m.first_message_id = s.first_message_id
                 WHERE s.id = $1 AND m.deleted_at IS NULL",
            )
            .bind(session)
            .fetch_all(&self.pool)
            .await
            .unwrap();
            assert_eq!(*messages, live.into_iter().collect(), "a point holds other messages");
        }
        stored.len()
    }
}
