//! A guild, its servers, and parts that can be watched, held up and made to fail.
#![allow(dead_code, reason = "each test binary uses its part")]

mod moments;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use guildex_embed::{EmbedError, Embedder, LocalConfig, LocalEmbedder, Models, Tokenizer};
use guildex_index::{
    CollectionName, Collections, EdgeIndex, Error, Hit, Mark, Page, Point, Query, Scope, VectorIndex, Which,
};
use guildex_producer::{Ingest, IngestConfig};
use guildex_producer::{Scheduler, SchedulerConfig};
use guildex_queue::Queues;
use guildex_queue::testing::{self, with_queues};
use guildex_store::channels::Channel;
use guildex_store::status::ModelStatus;
use guildex_store::{models, search, status};
use guildex_types::{
    Author, ChannelId, GuildId, JobQueue, Links, Message, MessageId, MessageKind, ModelSlug, PointId,
    Revision, SearchText, SessionId,
};
use guildex_worker::{Worker, WorkerConfig};
pub use moments::{Moment, Moments};
use sqlx::postgres::PgListener;
use sqlx::{FromRow, PgPool};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Long enough for a busy machine; a test that works does not wait for it.
const PATIENCE: Duration = Duration::from_secs(60);
pub const MAX_ATTEMPTS: i32 = 3;

fn minute(day: i64, number: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(day) + TimeDelta::minutes(number)
}

/// The id of a day's message.
fn id(day: i64, number: i64) -> MessageId {
    (100 * day + number).try_into().unwrap()
}

/// A day's message, sent in the minute of its number. Days are too far apart to share a session.
pub fn say(day: i64, number: i64, author: i64, text: &str) -> Message {
    Message {
        guild_id: 1.try_into().unwrap(),
        channel_id: 9.try_into().unwrap(),
        id: id(day, number),
        author: Author { id: author.try_into().unwrap(), name: format!("author {author}"), is_bot: false },
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

/// A day's question, and its answer: a session.
pub fn exchange(day: i64, question: &str) -> [Message; 2] {
    [say(day, 1, 1, question), reply(day, 1, say(day, 2, 2, "I think so, but try it first"))]
}

/// Where those who pass can be held up, and counted.
pub struct Gate {
    open: watch::Sender<bool>,
    held_up: watch::Sender<usize>,
}

impl Gate {
    fn new() -> Self {
        Self { open: watch::Sender::new(true), held_up: watch::Sender::new(0) }
    }

    pub fn close(&self) {
        self.open.send_replace(false);
    }

    pub fn open(&self) {
        self.open.send_replace(true);
    }

    async fn pass(&self) {
        if !*self.open.borrow() {
            self.held_up.send_modify(|count| *count += 1);
            self.open.subscribe().wait_for(|open| *open).await.unwrap();
        }
    }

    /// Until so many were held up.
    pub async fn until_waiting(&self, count: usize) {
        let mut held_up = self.held_up.subscribe();
        timeout(PATIENCE, held_up.wait_for(|held_up| *held_up >= count))
            .await
            .expect("somebody at the gate")
            .unwrap();
    }
}

/// One call of the model, between two ticks of a clock that ticks at every beginning and end.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    pub texts: Vec<String>,
    pub begun: usize,
    pub ended: usize,
}

/// The real model, watched.
pub struct Model {
    slug: ModelSlug,
    real: &'static LocalEmbedder,
    /// Every call passes here.
    pub calls: Gate,
    clock: AtomicUsize,
    embeddings: Mutex<Vec<Embedding>>,
    poison: OnceLock<&'static str>,
    explosive: OnceLock<&'static str>,
    held: OnceLock<&'static str>,
    moments: Arc<Moments>,
    cheap: AtomicBool,
}

impl Model {
    /// One model for all tests of a process: loading takes a second.
    fn load(slug: ModelSlug, moments: Arc<Moments>) -> Self {
        static REAL: OnceLock<LocalEmbedder> = OnceLock::new();
        let variable =
            |name| std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: run scripts/test"));
        let real = REAL.get_or_init(|| {
            LocalEmbedder::load(LocalConfig {
                source: Some(PathBuf::from(variable("GUILDEX_MODEL_DIR"))).into(),
                onnx_runtime: Some(PathBuf::from(variable("ORT_DYLIB_PATH"))),
                sessions: 1,
                ..LocalConfig::new("all-minilm-l6-v2-fp32".parse().unwrap())
            })
            .unwrap()
        });
        Self {
            slug,
            real,
            calls: Gate::new(),
            clock: AtomicUsize::new(0),
            embeddings: Mutex::default(),
            poison: OnceLock::new(),
            explosive: OnceLock::new(),
            held: OnceLock::new(),
            moments,
            cheap: AtomicBool::new(false),
        }
    }

    /// From now on vectors are drawn by lot from the text, for tests that are about thousands of sessions.
    pub fn make_cheap(&self) {
        self.cheap.store(true, Ordering::SeqCst);
    }

    /// Every call with such a word in a text fails.
    pub fn poison(&self, word: &'static str) {
        self.poison.set(word).unwrap();
    }

    /// Every call with such a word in a text panics.
    pub fn explode(&self, word: &'static str) {
        self.explosive.set(word).unwrap();
    }

    /// Calls with such a word in a text, and no others, are held up.
    pub fn hold(&self, word: &'static str) {
        self.held.set(word).unwrap();
        self.calls.close();
    }

    /// The calls that ended well.
    pub fn embeddings(&self) -> Vec<Embedding> {
        self.embeddings.lock().unwrap().clone()
    }

    /// What was embedded.
    pub fn texts(&self) -> Vec<String> {
        self.embeddings().into_iter().flat_map(|call| call.texts).collect()
    }

    async fn watched(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EmbedError> {
        let begun = self.clock.fetch_add(1, Ordering::SeqCst);
        let has = |word: &OnceLock<&str>| word.get().map(|word| texts.iter().any(|text| text.contains(word)));
        if has(&self.held) != Some(false) && !texts.is_empty() {
            self.calls.pass().await;
        }
        assert!(has(&self.explosive) != Some(true), "as told");
        if has(&self.poison) == Some(true) {
            return Err(EmbedError::Model("it chokes".to_owned()));
        }
        if !texts.is_empty() {
            self.moments.pass(Moment::Embedding, Vec::new).await;
        }
        let vectors = if self.cheap.load(Ordering::SeqCst) {
            texts.iter().map(|text| drawn_by_lot(text, self.real.dimensions())).collect()
        } else {
            self.real.embed(texts.clone()).await?
        };
        let ended = self.clock.fetch_add(1, Ordering::SeqCst);
        if !texts.is_empty() {
            self.embeddings.lock().unwrap().push(Embedding { texts, begun, ended });
        }
        Ok(vectors)
    }
}

/// A vector of length 1 that depends on the text alone.
fn drawn_by_lot(text: &str, dimensions: usize) -> Vec<f32> {
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
        self.watched(texts).boxed()
    }

    fn truncated(&self) -> u64 {
        self.real.truncated()
    }
}

/// What the index is to refuse, and how often.
pub enum Fault {
    Upserts(usize),
    Removals(usize),
}

/// The real index, watched.
pub struct View {
    real: EdgeIndex,
    /// Every upsert passes here.
    pub upserts: Gate,
    pub moments: Arc<Moments>,
    failing_upserts: AtomicUsize,
    failing_removals: AtomicUsize,
    /// Whether it answers nobody.
    pub away: AtomicBool,
    /// How many calls were refused.
    pub refused: AtomicUsize,
    /// Outlives the index in it.
    _folder: TempDir,
}

impl View {
    fn open(moments: Arc<Moments>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            real: EdgeIndex::open(folder.path()).unwrap(),
            upserts: Gate::new(),
            moments,
            failing_upserts: AtomicUsize::new(0),
            failing_removals: AtomicUsize::new(0),
            away: AtomicBool::new(false),
            refused: AtomicUsize::new(0),
            _folder: folder,
        }
    }

    pub fn refuse(&self, fault: Fault) {
        match fault {
            Fault::Upserts(times) => self.failing_upserts.store(times, Ordering::SeqCst),
            Fault::Removals(times) => self.failing_removals.store(times, Ordering::SeqCst),
        }
    }

    fn fail(&self, left: &AtomicUsize) -> Result<(), Error> {
        if self.away.load(Ordering::SeqCst) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(Error::Unavailable("nobody answers".to_owned()));
        }
        let spent =
            left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err();
        if spent {
            return Ok(());
        }
        self.refused.fetch_add(1, Ordering::SeqCst);
        Err(Error::Engine("it refuses".to_owned()))
    }
}

impl VectorIndex for View {
    fn collections(&self) -> &dyn Collections {
        self.real.collections()
    }

    fn upsert<'a>(
        &'a self,
        collection: &'a CollectionName,
        points: Vec<Point>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            self.upserts.pass().await;
            self.fail(&self.failing_upserts)?;
            let sessions: BTreeSet<SessionId> = points.iter().map(|point| point.payload.session_id).collect();
            let sessions = || sessions.iter().copied().collect();
            self.moments.pass(Moment::Upserting, sessions).await;
            self.real.upsert(collection, points).await?;
            self.moments.pass(Moment::Upserted, sessions).await;
            Ok(())
        }
        .boxed()
    }

    fn delete_below<'a>(
        &'a self,
        collection: &'a CollectionName,
        guild: GuildId,
        sessions: &'a [(SessionId, Revision)],
    ) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            self.fail(&self.failing_removals)?;
            self.real.delete_below(collection, guild, sessions).await?;
            let sessions = || sessions.iter().map(|(session, _)| *session).collect();
            self.moments.pass(Moment::Recording, sessions).await;
            Ok(())
        }
        .boxed()
    }

    fn delete_messages<'a>(
        &'a self,
        collection: &'a CollectionName,
        guild: GuildId,
        messages: &'a [MessageId],
        below: Revision,
    ) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            self.fail(&self.failing_removals)?;
            self.real.delete_messages(collection, guild, messages, below).await
        }
        .boxed()
    }

    fn search<'a>(
        &'a self,
        collection: &'a CollectionName,
        scope: &'a Scope,
        query: Query,
    ) -> BoxFuture<'a, Result<Vec<Hit>, Error>> {
        self.real.search(collection, scope, query)
    }

    fn scroll<'a>(
        &'a self,
        collection: &'a CollectionName,
        guild: GuildId,
        after: Option<PointId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, Error>> {
        self.real.scroll(collection, guild, after, limit)
    }

    fn marks<'a>(
        &'a self,
        collection: &'a CollectionName,
        guild: GuildId,
        which: Which<'a>,
    ) -> BoxFuture<'a, Result<Vec<Mark>, Error>> {
        self.real.marks(collection, guild, which)
    }

    fn count<'a>(
        &'a self,
        collection: &'a CollectionName,
        guild: GuildId,
    ) -> BoxFuture<'a, Result<usize, Error>> {
        self.real.count(collection, guild)
    }

    fn guilds<'a>(&'a self, collection: &'a CollectionName) -> BoxFuture<'a, Result<Vec<GuildId>, Error>> {
        self.real.guilds(collection)
    }
}

/// What the names of collections begin with.
const BASE: &str = "test";

/// What a worker is made of, but for its connections.
pub struct Parts {
    models: Arc<Models>,
    view: Arc<View>,
}

impl Parts {
    pub fn worker(&self, pool: PgPool, queues: Queues) -> Worker {
        Worker {
            name: "worker".to_owned(),
            ingest: Ingest::new(pool, ingest_config()),
            queues,
            models: self.models.clone(),
            index: self.view.clone(),
            base: BASE.to_owned(),
            config: WorkerConfig {
                backoff_base: Duration::from_millis(1),
                backoff_max: Duration::from_millis(10),
                second_look: Duration::from_millis(100),
                ..WorkerConfig::default()
            },
            last_resort: Arc::new(|| panic!("something hangs")),
        }
    }
}

fn ingest_config() -> IngestConfig {
    IngestConfig { debounce: Duration::ZERO, max_attempts: MAX_ATTEMPTS as u32, ..IngestConfig::default() }
}

/// A guild with one channel, and all that works for it but the workers.
pub struct World {
    pub pool: PgPool,
    pub queues: Queues,
    pub ingest: Ingest,
    /// The active model.
    pub model: Arc<Model>,
    /// Another, which has no collection yet.
    pub next: Arc<Model>,
    models: Arc<Models>,
    pub view: Arc<View>,
    collection: CollectionName,
    changes: tokio::sync::Mutex<PgListener>,
    channel: Channel,
}

/// Runs a test in a world of its own.
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

/// A worker that runs.
pub struct Running {
    pub stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    /// Tells it to stop, and waits until it has.
    pub async fn stop(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.task).await.expect("a worker that stops").unwrap();
    }
}

#[derive(Debug, FromRow)]
pub struct JobRow {
    pub kind: String,
    pub state: String,
    pub attempts: i32,
    pub error: Option<String>,
}

/// Looks again and again until it is so.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if timeout(PATIENCE, looking).await.is_err() {
        panic!("waited in vain for {what}");
    }
}

impl World {
    async fn new(pool: PgPool, queues: Queues) -> Self {
        // Tells of every change to the ledger, and refuses to have a session recorded as it no longer is.
        sqlx::raw_sql(
            "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_notify('test_changes', ''); RETURN NULL; END $$;
             CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON jobs EXECUTE FUNCTION tell();
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
        let moments = Arc::new(Moments::default());
        let load = async |name| {
            let (slug, moments) = (slug(name), moments.clone());
            Arc::new(tokio::task::spawn_blocking(|| Model::load(slug, moments)).await.unwrap())
        };
        let (model, next) = (load("all-minilm-l6-v2-fp32").await, load("next-model").await);
        let view = Arc::new(View::open(moments.clone()));
        let collection = CollectionName::new(BASE, model.slug()).unwrap();
        let ready = [model.clone() as Arc<dyn Embedder>, next.clone()];
        let models = Arc::new(Models::ready(ready));
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
            view,
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

    pub fn parts(&self) -> Parts {
        Parts { models: self.models.clone(), view: self.view.clone() }
    }

    pub fn worker(&self, pool: PgPool, queues: Queues) -> Worker {
        self.parts().worker(pool, queues)
    }

    pub fn start_worker(&self) -> Running {
        self.start(self.worker(self.pool.clone(), self.queues.clone()))
    }

    pub fn start(&self, worker: Worker) -> Running {
        let stop = CancellationToken::new();
        let until = stop.clone();
        Running { stop, task: tokio::spawn(async move { worker.run(until).await }) }
    }

    /// The same queues for a worker that does not wait when it is told to stop.
    pub async fn impatient_queues(&self) -> Queues {
        let queue = testing::layout(&self.queues, JobQueue::Live).active_jobs_list();
        let prefix = queue.split_once(":live").unwrap().0.to_owned();
        let config = guildex_queue::Config { prefix, stop_grace: Duration::ZERO, ..testing::config() };
        Queues::connect(&config).await.unwrap()
    }

    /// Waits until the ledger's changes have made something true.
    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let mut changes = self.changes.lock().await;
        let wait = async {
            while !holds().await {
                changes.recv().await.unwrap();
            }
        };
        if timeout(PATIENCE, wait).await.is_err() {
            panic!("waited in vain for {what}: {:?}", self.jobs().await);
        }
    }

    /// Until nothing is left to do.
    pub async fn settle(&self) {
        let unfinished = "state IN ('pending', 'queued', 'running')";
        self.until("the end of all jobs", async || self.count(unfinished).await == 0).await;
    }

    /// Until no task of any worker is left.
    pub async fn until_nobody_works(&self) {
        let wait = async {
            while Arc::strong_count(&self.view) > 1 || Arc::strong_count(&self.models) > 1 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, wait).await.expect("workers that leave nothing running");
    }

    /// All leases are over.
    pub async fn lapse(&self) {
        sqlx::query(
            "UPDATE jobs SET lease_expires_at = now() - interval '1 second' WHERE lease_expires_at IS NOT NULL",
        )
        .execute(&self.pool)
        .await
        .unwrap();
    }

    /// How many jobs there are of which `condition` holds.
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

    /// The errors of the one dead job's attempts.
    pub async fn dead_history(&self) -> Vec<String> {
        sqlx::query_scalar(
            "SELECT attempt->>'error' FROM jobs, jsonb_array_elements(attempts_log) AS attempt WHERE state = 'dead'",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    /// Gives all jobs more attempts than most tests use up.
    pub async fn allow_attempts(&self, attempts: i32) {
        sqlx::query("UPDATE jobs SET max_attempts = $1").bind(attempts).execute(&self.pool).await.unwrap();
    }

    /// The database and the corner of Redis, for another process.
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

    /// The points for the next model; none where it has no collection.
    pub async fn points_of_next(&self) -> Vec<Point> {
        let collection = CollectionName::new(BASE, self.next.slug()).unwrap();
        match self.view.collections().identity(&collection).await {
            Err(Error::NoCollection(_)) => Vec::new(),
            _ => self.points_in(&collection).await,
        }
    }

    async fn points_in(&self, collection: &CollectionName) -> Vec<Point> {
        self.view.scroll(collection, self.guild(), None, 1_000).await.unwrap().points
    }

    /// How a model stands.
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

    /// How many sessions a search may show by the points that there are.
    pub async fn shown(&self) -> usize {
        let hits: Vec<_> = self
            .points()
            .await
            .iter()
            .map(|point| (point.payload.session_id, point.payload.revision))
            .collect();
        search::show(&self.pool, self.guild(), None, &hits, self.model.slug()).await.unwrap().len()
    }

    /// Makes sure that index, books and truth agree: every session that is worth it is recorded at its latest
    /// revision, and the points are those of the books and tell of the session's live messages. Returns how many
    /// sessions are indexed.
    pub async fn in_step(&self) -> usize {
        let truth: Vec<(sqlx::types::Uuid, i64)> = sqlx::query_as(
            "SELECT id, revision FROM sessions WHERE deleted_at IS NULL
             AND (message_count >= 2 OR (message_count = 1 AND word_count >= 12))",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        let books: Vec<(sqlx::types::Uuid, i64, i64, i32)> = sqlx::query_as(
            "SELECT session_id, indexed_revision, point_revision, points FROM indexed_sessions WHERE model = $1",
        )
        .bind(self.model.slug().as_str())
        .fetch_all(&self.pool)
        .await
        .unwrap();
        let recorded: BTreeSet<_> = books.iter().map(|(id, indexed, ..)| (*id, *indexed)).collect();
        assert_eq!(recorded, truth.into_iter().collect(), "the books are not the truth");

        let mut stored: BTreeMap<_, (i32, BTreeSet<i64>)> = BTreeMap::new();
        for Point { payload, .. } in self.points().await {
            let (count, messages) =
                stored.entry((payload.session_id.get(), payload.revision.get())).or_default();
            *count += 1;
            messages.extend(payload.message_ids.iter().map(|id| id.get()));
        }
        let noted: BTreeMap<_, _> =
            books.iter().map(|(id, _, points, count)| ((*id, *points), *count)).collect();
        let counts: BTreeMap<_, _> = stored.iter().map(|(key, (count, _))| (*key, *count)).collect();
        assert_eq!(counts, noted, "the points are not those of the books");
        for ((session, _), (_, messages)) in &stored {
            let live: Vec<i64> = sqlx::query_scalar(
                "SELECT m.id FROM messages m JOIN sessions s ON m.first_message_id = s.first_message_id
                 WHERE s.id = $1 AND m.deleted_at IS NULL",
            )
            .bind(session)
            .fetch_all(&self.pool)
            .await
            .unwrap();
            assert_eq!(*messages, live.into_iter().collect(), "a point tells of other messages");
        }
        stored.len()
    }
}
