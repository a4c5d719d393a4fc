//! Searches among many sessions: how long one takes, and how many a second there are when several ask at once.
//!
//! Sessions, words and vectors are made up, as many as are wanted: words are as common as in a language, and a guild
//! holds its share of the sessions. The question's embedding and the join with Postgres are part of a search.

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

use crate::measure::{Cost, median, percentile, resident_mib};
use crate::{BenchError, Report, Scratch, Servers, round};

const BASE: &str = "bench";
/// Sessions made at a time.
const PAGE: i64 = 256;
/// Guilds that share the sessions; a search stays in one.
const GUILDS: i64 = 10;
/// Words of the language.
const WORDS: f64 = 20_000.0;
/// Those who ask at once, where the searches a second are counted.
const ASKERS: usize = 8;

/// How much to measure.
#[derive(Debug, Clone)]
pub struct Search {
    /// Numbers of sessions, each measured in turn.
    pub sessions: Vec<i64>,
    /// Searches of a run.
    pub searches: usize,
    /// Runs of each mode.
    pub runs: usize,
}

/// Opens the index in a folder, or on a server.
pub type OpenIndex<'a> =
    &'a (dyn Fn(&std::path::Path) -> Result<Arc<dyn VectorIndex>, guildex_index::Error> + Sync);

/// Makes the sessions and searches them, in each mode.
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
        "{} searches of a guild in {GUILDS}, the question's embedding included; medians of {} runs",
        options.searches, options.runs
    );
    let mut report = Report::new(
        "search",
        about,
        &["sessions", "mode", "p50 ms", "p99 ms", "searches/s", "made/s", "resident MiB", "peak MiB"],
    );
    for &count in &options.sessions {
        Scratch::with(servers, async |scratch| {
            guildex_store::migrate(&scratch.pool).await?;
            let index = open(&scratch.path("index"))?;
            at_size(&scratch.pool, index, embedder, options, count, &mut report).await
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
    let name = CollectionName::new(BASE, &slug)?;
    index.ensure(&Collection { name: name.clone(), dims: embedder.dimensions() }).await?;
    index.bulk_load(&name, BulkLoad::Begin).await?;
    let begun = Instant::now();
    fill(pool, index.as_ref(), &name, embedder.as_ref(), count).await?;
    index.bulk_load(&name, BulkLoad::End).await?;
    let made = count as f64 / begun.elapsed().as_secs_f64();

    let searcher = Searcher {
        pool: pool.clone(),
        models: Arc::new(ModelRegistry::preloaded([embedder.clone()])),
        index: index.clone(),
        collection_prefix: BASE.to_owned(),
        config: SearchConfig::default(),
    };
    for (mode, called) in [(Mode::Dense, "dense"), (Mode::Sparse, "sparse"), (Mode::Hybrid, "hybrid")] {
        let (mut p50, mut p99, mut rates) = (Vec::new(), Vec::new(), Vec::new());
        // The first, which opens what is closed, is not counted.
        for run in 0..=options.runs {
            let mut times = one_by_one(&searcher, mode, options.searches).await?;
            let rate = at_once(&searcher, mode, options.searches).await?;
            if run > 0 {
                p50.extend(percentile(&mut times, 50));
                p99.extend(percentile(&mut times, 99));
                rates.push(rate);
            }
        }
        let of =
            |values: Vec<f64>, decimals| median(values).map_or(Value::Null, |value| round(value, decimals));
        let (resident, peak) = (resident_mib(), Cost::of_self().peak_mib);
        report.row([
            json!(count),
            json!(called),
            of(p50, 1),
            of(p99, 1),
            of(rates, 0),
            round(made, 0),
            round(resident, 0),
            round(peak, 0),
        ]);
    }
    index.drop_collection(&name).await?;
    Ok(())
}

/// Milliseconds of each search.
async fn one_by_one(searcher: &Searcher, mode: Mode, count: usize) -> Result<Vec<f64>, BenchError> {
    let mut times = Vec::with_capacity(count);
    for number in 0..count {
        let request = request(mode, number)?;
        let begun = Instant::now();
        searcher.search(&request).await?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

/// Searches a second while several ask.
async fn at_once(searcher: &Searcher, mode: Mode, count: usize) -> Result<f64, BenchError> {
    let begun = Instant::now();
    stream::iter(0..count)
        .map(|number| async move {
            searcher.search(&request(mode, number)?).await?;
            Ok::<_, BenchError>(())
        })
        .buffer_unordered(ASKERS)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(count as f64 / begun.elapsed().max(Duration::from_micros(1)).as_secs_f64())
}

fn request(mode: Mode, number: usize) -> Result<SearchRequest, BenchError> {
    let guild = GuildId::try_from(1 + number as i64 % GUILDS)?;
    let question = words(&mut StdRng::seed_from_u64(0x5eed ^ number as u64), 8);
    Ok(SearchRequest { mode: Some(mode), limit: 10, ..SearchRequest::new(guild, question) })
}

/// Words as common as in a language: the nth about 1/n as often as the first (Zipf's law).
fn words(random: &mut StdRng, count: usize) -> String {
    let words = (0..count).map(|_| format!("w{}", WORDS.powf(random.random::<f64>()) as usize));
    words.collect::<Vec<_>>().join(" ")
}

async fn fill(
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
            .map(|number| Ok((Place::of(number)?, words(&mut random, 60))))
            .collect::<Result<Vec<_>, InvalidId>>()?;
        store(pool, embedder.slug(), &made).await?;
        let points = made
            .iter()
            .map(|(place, text)| {
                place.point(vector(&mut random, embedder.dimensions()), embedder.slug(), text)
            })
            .collect::<Result<Vec<_>, InvalidId>>()?;
        index.upsert(name, points).await?;
    }
    sqlx::query("ANALYZE").execute(pool).await?;
    Ok(())
}

fn vector(random: &mut StdRng, dimensions: usize) -> Vec<f32> {
    (0..dimensions).map(|_| random.random::<f32>() - 0.5).collect()
}

/// Where a made-up session of four messages stands: one channel a guild.
struct Place {
    guild: GuildId,
    channel: ChannelId,
    first: MessageId,
}

impl Place {
    fn of(number: i64) -> Result<Self, InvalidId> {
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

async fn store(pool: &PgPool, model: &ModelSlug, made: &[(Place, String)]) -> Result<(), BenchError> {
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
    .bind(made.iter().map(|(place, _)| place.guild.get()).collect::<Vec<_>>())
    .bind(made.iter().map(|(place, _)| place.first.get()).collect::<Vec<_>>())
    .bind(made.iter().map(|(place, _)| place.session().get()).collect::<Vec<Uuid>>())
    .bind(made.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>())
    .bind(model.as_str())
    .execute(pool)
    .await?;
    Ok(())
}
