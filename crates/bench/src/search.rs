//! Search latency and throughput among many sessions.
//!
//! Sessions, words and vectors are generated: words follow Zipf's law, and guilds share the sessions evenly. A search
//! includes the embedding of the query and the join with Postgres.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::DateTime;
use futures::{StreamExt, TryStreamExt, stream};
use guildex_embed::{Embedder, ModelRegistry};
use guildex_index::bm25::{self, Language};
use guildex_index::{BulkLoad, Collection, CollectionName, Mode, Payload, Point, VectorIndex};
use guildex_search::{SearchConfig, SearchRequest, Searcher};
use guildex_store::models;
use guildex_types::{ChannelId, GuildId, InvalidId, MessageId, ModelSlug, PointId, SessionId, UserId};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::measure::{Cost, Durations, median, resident_mib};
use crate::{BenchError, Report, Sandbox, Servers, round};

const PREFIX: &str = "bench";
/// Sessions generated per batch.
const PAGE: i64 = 256;
/// Number of guilds that share the sessions.
const GUILDS: i64 = 10;
/// Size of the vocabulary.
const WORDS: f64 = 20_000.0;
/// Concurrent searches when measuring throughput.
const CONCURRENCY: usize = 8;

/// Options of the benchmark.
#[derive(Debug, Clone)]
pub struct Search {
    /// Numbers of sessions to compare.
    pub sessions: Vec<i64>,
    /// Searches per run.
    pub searches: usize,
    /// Runs per mode.
    pub runs: usize,
}

/// Opens the index in a directory or on a server.
pub type OpenIndex<'a> =
    &'a (dyn Fn(&std::path::Path) -> Result<Arc<dyn VectorIndex>, guildex_index::Error> + Sync);

/// Generates the sessions and searches them in each mode.
///
/// # Errors
/// If a server, the index or the model fails.
pub async fn run(
    servers: &Servers,
    open: OpenIndex<'_>,
    embedder: &Arc<dyn Embedder>,
    options: &Search,
) -> Result<Report, BenchError> {
    let about = format!(
        "{} searches of one guild of {GUILDS}, including query embedding; medians of {} runs",
        options.searches, options.runs
    );
    let mut report = Report::new(
        "search",
        about,
        &["sessions", "mode", "p50 ms", "p99 ms", "searches/s", "stored/s", "resident MiB", "peak MiB"],
    );
    for &count in &options.sessions {
        Sandbox::with(servers, async |sandbox| {
            guildex_store::migrate(&sandbox.pool).await?;
            let index = open(&sandbox.path("index"))?;
            at_size(&sandbox.pool, index, embedder, options, count, &mut report).await
        })
        .await?;
    }
    Ok(report)
}

async fn at_size(
    pool: &PgPool,
    index: Arc<dyn VectorIndex>,
    embedder: &Arc<dyn Embedder>,
    options: &Search,
    count: i64,
    report: &mut Report,
) -> Result<(), BenchError> {
    let slug = embedder.slug().clone();
    models::ensure_active(pool, &slug, embedder.dimensions()).await?;
    let name = CollectionName::new(PREFIX, &slug)?;
    index.ensure(&Collection { name: name.clone(), dims: embedder.dimensions() }).await?;
    index.bulk_load(&name, BulkLoad::Begin).await?;
    let start = Instant::now();
    store_sessions(pool, index.as_ref(), &name, embedder.as_ref(), count).await?;
    index.bulk_load(&name, BulkLoad::End).await?;
    let stored = count as f64 / start.elapsed().as_secs_f64();

    let searcher = Searcher {
        pool: pool.clone(),
        models: Arc::new(ModelRegistry::preloaded([embedder.clone()])),
        index: index.clone(),
        collection_prefix: PREFIX.to_owned(),
        config: SearchConfig::default(),
    };
    for (mode, mode_name) in [(Mode::Dense, "dense"), (Mode::Sparse, "sparse"), (Mode::Hybrid, "hybrid")] {
        let (mut p50, mut p99, mut rates) = (Vec::new(), Vec::new(), Vec::new());
        // The first run warms up and is not counted.
        for run in 0..=options.runs {
            let times = latencies(&searcher, mode, options.searches).await?;
            let rate = throughput(&searcher, mode, options.searches).await?;
            if run > 0 {
                p50.extend(times.percentile_ms(50.0));
                p99.extend(times.percentile_ms(99.0));
                rates.push(rate);
            }
        }
        let median_of =
            |values: Vec<f64>, decimals| median(values).map_or(Value::Null, |value| round(value, decimals));
        let (resident, peak) = (resident_mib(), Cost::of_self().peak_mib);
        report.row([
            json!(count),
            json!(mode_name),
            median_of(p50, 1),
            median_of(p99, 1),
            median_of(rates, 0),
            round(stored, 0),
            round(resident, 0),
            round(peak, 0),
        ]);
    }
    index.drop_collection(&name).await?;
    Ok(())
}

/// Measures sequential searches.
async fn latencies(searcher: &Searcher, mode: Mode, count: usize) -> Result<Durations, BenchError> {
    let mut times = Durations::default();
    for number in 0..count {
        let request = request(mode, number)?;
        let start = Instant::now();
        searcher.search(&request).await?;
        times.record(start.elapsed());
    }
    Ok(times)
}

/// Searches per second with concurrent searches.
async fn throughput(searcher: &Searcher, mode: Mode, count: usize) -> Result<f64, BenchError> {
    let start = Instant::now();
    stream::iter(0..count)
        .map(|number| async move {
            searcher.search(&request(mode, number)?).await?;
            Ok::<_, BenchError>(())
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(count as f64 / start.elapsed().max(Duration::from_micros(1)).as_secs_f64())
}

fn request(mode: Mode, number: usize) -> Result<SearchRequest, BenchError> {
    let guild = GuildId::try_from(1 + number as i64 % GUILDS)?;
    let query = words(&mut StdRng::seed_from_u64(0x5eed ^ number as u64), 8);
    Ok(SearchRequest { mode: Some(mode), limit: 10, ..SearchRequest::new(guild, query) })
}

/// Random words by Zipf's law: the nth word is about 1/n as frequent as the first.
fn words(random: &mut StdRng, count: usize) -> String {
    let words = (0..count).map(|_| format!("w{}", WORDS.powf(random.random::<f64>()) as usize));
    words.collect::<Vec<_>>().join(" ")
}

async fn store_sessions(
    pool: &PgPool,
    index: &dyn VectorIndex,
    name: &CollectionName,
    embedder: &dyn Embedder,
    count: i64,
) -> Result<(), BenchError> {
    sqlx::query("INSERT INTO guilds (id, name) SELECT id, 'bench' FROM generate_series(1, $1::bigint) AS id")
        .bind(GUILDS)
        .execute(pool)
        .await?;
    sqlx::query("INSERT INTO channels (guild_id, id, name) SELECT id, id, 'bench' FROM guilds")
        .execute(pool)
        .await?;
    let mut random = StdRng::seed_from_u64(42);
    for from in (0..count).step_by(PAGE as usize) {
        let made = (from..count.min(from + PAGE))
            .map(|number| Ok((SessionIds::new(number)?, words(&mut random, 60))))
            .collect::<Result<Vec<_>, InvalidId>>()?;
        store(pool, embedder.slug(), &made).await?;
        let points = made
            .iter()
            .map(|(ids, text)| ids.point(vector(&mut random, embedder.dimensions()), embedder.slug(), text))
            .collect::<Result<Vec<_>, InvalidId>>()?;
        index.upsert(name, points).await?;
    }
    sqlx::query("ANALYZE").execute(pool).await?;
    Ok(())
}

fn vector(random: &mut StdRng, dimensions: usize) -> Vec<f32> {
    (0..dimensions).map(|_| random.random::<f32>() - 0.5).collect()
}

/// Ids of a generated session with four messages. Each guild has one channel.
struct SessionIds {
    guild: GuildId,
    channel: ChannelId,
    first: MessageId,
}

impl SessionIds {
    fn new(number: i64) -> Result<Self, InvalidId> {
        let guild = 1 + number % GUILDS;
        Ok(Self {
            guild: guild.try_into()?,
            channel: guild.try_into()?,
            first: (10 * number + 1).try_into()?,
        })
    }

    fn session(&self) -> SessionId {
        SessionId::new(self.guild, self.channel, self.first)
    }

    fn point(&self, dense: Vec<f32>, model: &ModelSlug, text: &str) -> Result<Point, InvalidId> {
        let Self { guild, channel, first } = *self;
        let payload = Payload {
            guild_id: guild,
            channel_id: channel,
            author_ids: (1..5).map(UserId::try_from).collect::<Result<_, _>>()?,
            message_ids: (0..4).map(|n| MessageId::try_from(first.get() + n)).collect::<Result<_, _>>()?,
            start_time: DateTime::UNIX_EPOCH,
            end_time: DateTime::UNIX_EPOCH,
            session_id: self.session(),
            chunk: 0,
            revision: 1.into(),
            message_count: 4,
            preview: None,
        };
        let id = PointId::new(guild, channel, first, model, 0);
        Ok(Point { id, dense, bm25: bm25::document(text, Language::None), payload })
    }
}

async fn store(pool: &PgPool, model: &ModelSlug, made: &[(SessionIds, String)]) -> Result<(), BenchError> {
    sqlx::query(
        "WITH made AS (SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::uuid[], $4::text[]) AS u (guild, first, id, text)),
         said AS (
             INSERT INTO messages (guild_id, channel_id, id, author_id, sent_at, text, words, first_message_id)
             SELECT guild, guild, first + n, 1 + n, '2025-01-01Z'::timestamptz + first * interval '1 second',
                    substr(text, 1 + n * (length(text) / 4), length(text) / 4), 15, first
             FROM made, generate_series(0, 3) AS n),
         sat AS (
             INSERT INTO sessions (id, guild_id, channel_id, first_message_id, revision, message_count, word_count,
                                   started_at, ended_at)
             SELECT id, guild, guild, first, 1, 4, 60, '2025-01-01Z', '2025-01-01Z' FROM made RETURNING id)
         INSERT INTO indexed_sessions (session_id, model, point_revision, indexed_revision, content_hash, point_ids)
         SELECT id, $5, 1, 1, '\\x07', ARRAY[gen_random_uuid()] FROM sat",
    )
    .bind(made.iter().map(|(ids, _)| ids.guild.get()).collect::<Vec<_>>())
    .bind(made.iter().map(|(ids, _)| ids.first.get()).collect::<Vec<_>>())
    .bind(made.iter().map(|(ids, _)| ids.session().get()).collect::<Vec<Uuid>>())
    .bind(made.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>())
    .bind(model.as_str())
    .execute(pool)
    .await?;
    Ok(())
}
