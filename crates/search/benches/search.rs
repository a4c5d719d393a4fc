//! How long a whole search takes, its question's embedding and the join with Postgres included: `cargo bench -p
//! guildex-search`, and behind `--` the number of sessions (default 10,000). Postgres is the one of `DATABASE_URL`, in
//! which a database of its own is made and dropped; the model is that of `GUILDEX_MODEL_DIR`; the index is the embedded
//! one, or the server that `QDRANT_URL` names. Vectors and words are made up.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use guildex_embed::{Embedder, LocalConfig, LocalEmbedder, Models};
use guildex_index::bm25::{self, Language};
use guildex_index::{
    Bulk, Collection, CollectionName, EdgeIndex, Mode, Payload, Point, QdrantServer, ServerConfig,
    VectorIndex,
};
use guildex_search::{Request, SearchConfig, Searcher};
use guildex_store::{MIGRATOR, models};
use guildex_types::{ChannelId, GuildId, MessageId, ModelSlug, PointId, SessionId};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use uuid::Uuid;

const BASE: &str = "bench";
const DIMENSIONS: usize = 384;
const BATCH: i64 = 256;
const QUERIES: usize = 300;
/// Sessions of one guild; a search stays in it.
const GUILDS: i64 = 10;
const WORDS: usize = 20_000;

#[tokio::main]
async fn main() {
    let count = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(10_000);
    let options: PgConnectOptions = std::env::var("DATABASE_URL").unwrap().parse().unwrap();
    let name = format!("guildex_bench_{}", Uuid::new_v4().simple());
    on_server(&options, &format!("CREATE DATABASE {name}")).await;
    let pool = PgPoolOptions::new().connect_with(options.clone().database(&name)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    run(&pool, folder.path(), count).await;
    pool.close().await;
    on_server(&options, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
}

async fn on_server(options: &PgConnectOptions, sql: &str) {
    let mut server = PgConnection::connect_with(options).await.unwrap();
    sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&mut server).await.unwrap();
}

async fn run(pool: &PgPool, folder: &std::path::Path, count: i64) {
    MIGRATOR.run(pool).await.unwrap();
    let embedder = tokio::task::spawn_blocking(load).await.unwrap();
    let slug = embedder.slug().clone();
    models::begin_with(pool, &slug, DIMENSIONS).await.unwrap();
    let index: Arc<dyn VectorIndex> = match std::env::var("QDRANT_URL") {
        Ok(url) => Arc::new(QdrantServer::connect(ServerConfig { url, ..ServerConfig::default() }).unwrap()),
        Err(_) => Arc::new(EdgeIndex::open(folder).unwrap()),
    };
    let name = CollectionName::new(BASE, &slug).unwrap();
    let collection = Collection { name: name.clone(), dims: DIMENSIONS };
    index.collections().ensure(&collection).await.unwrap();
    index.collections().bulk(&name, Bulk::Begin).await.unwrap();
    let started = Instant::now();
    fill(pool, index.as_ref(), &name, &slug, count).await;
    index.collections().bulk(&name, Bulk::End).await.unwrap();
    println!("{count} sessions in {GUILDS} guilds, made in {:.0} s", started.elapsed().as_secs_f64());

    let embed = times(QUERIES, async |n| drop(embedder.embed_query(question(n)).await.unwrap())).await;
    tell("embedding a question", embed);
    let models = Arc::new(Models::ready([embedder as Arc<dyn Embedder>]));
    let searcher = Searcher {
        pool: pool.clone(),
        models,
        index: index.clone(),
        base: BASE.to_owned(),
        config: SearchConfig::default(),
    };
    for mode in [Mode::Dense, Mode::Sparse, Mode::Hybrid] {
        let search = times(QUERIES, async |n| {
            let guild = GuildId::try_from(1 + n as i64 % GUILDS).unwrap();
            let request = Request { mode: Some(mode), limit: 10, ..Request::new(guild, question(n)) };
            searcher.search(&request).await.unwrap();
        });
        tell(&format!("a {mode:?} search"), search.await);
    }
    index.collections().drop_collection(&name).await.unwrap();
}

fn load() -> Arc<LocalEmbedder> {
    let config = LocalConfig::new("all-minilm-l6-v2-fp32".parse().unwrap());
    let folder = std::env::var_os("GUILDEX_MODEL_DIR").map(PathBuf::from);
    Arc::new(LocalEmbedder::load(LocalConfig { source: folder.into(), ..config }).unwrap())
}

async fn times(count: usize, mut work: impl AsyncFnMut(usize)) -> Vec<Duration> {
    let mut times = Vec::with_capacity(count);
    for n in 0..count {
        let started = Instant::now();
        work(n).await;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    times
}

fn tell(what: &str, times: Vec<Duration>) {
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1_000.0;
    println!("{what:<22} p50 {:>7.1} ms   p90 {:>7.1} ms   p99 {:>7.1} ms", at(50), at(90), at(99));
}

/// Words as common as in a language: the nth about 1/n as often as the first (Zipf's law).
fn words(random: &mut StdRng, count: usize) -> String {
    let word = |random: &mut StdRng| (WORDS as f64).powf(random.random::<f64>()) as usize;
    (0..count).map(|_| format!("w{}", word(random))).collect::<Vec<_>>().join(" ")
}

fn question(n: usize) -> String {
    words(&mut StdRng::seed_from_u64(0x5eed ^ n as u64), 8)
}

/// Sessions of four messages in one channel a guild, with made-up vectors.
async fn fill(pool: &PgPool, index: &dyn VectorIndex, name: &CollectionName, model: &ModelSlug, count: i64) {
    let mut random = StdRng::seed_from_u64(42);
    for guild in 1..=GUILDS {
        sqlx::query("INSERT INTO guilds (id, name) VALUES ($1, 'bench')")
            .bind(guild)
            .execute(pool)
            .await
            .unwrap();
        sqlx::query("INSERT INTO channels (guild_id, id, name) VALUES ($1, $1, 'bench')")
            .bind(guild)
            .execute(pool)
            .await
            .unwrap();
    }
    for from in (0..count).step_by(BATCH as usize) {
        let numbers: Vec<i64> = (from..count.min(from + BATCH)).collect();
        let texts: Vec<String> = numbers.iter().map(|_| words(&mut random, 60)).collect();
        store(pool, model, &numbers, &texts).await;
        let points =
            numbers.iter().zip(&texts).map(|(n, text)| point(&mut random, model, *n, text)).collect();
        index.upsert(name, points).await.unwrap();
    }
    sqlx::query("ANALYZE").execute(pool).await.unwrap();
}

fn place(number: i64) -> (GuildId, ChannelId, MessageId) {
    let guild = 1 + number % GUILDS;
    (guild.try_into().unwrap(), guild.try_into().unwrap(), (10 * number + 1).try_into().unwrap())
}

async fn store(pool: &PgPool, model: &ModelSlug, numbers: &[i64], texts: &[String]) {
    let places: Vec<_> = numbers.iter().map(|number| place(*number)).collect();
    let guilds: Vec<i64> = places.iter().map(|(guild, ..)| guild.get()).collect();
    let firsts: Vec<i64> = places.iter().map(|(.., first)| first.get()).collect();
    let sessions: Vec<Uuid> = places.iter().map(|(g, c, m)| SessionId::of(*g, *c, *m).get()).collect();
    sqlx::query(
        "WITH made AS (SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::uuid[], $4::text[]) AS u (guild, first, id, text)),
         said AS (
             INSERT INTO messages (guild_id, channel_id, id, author_id, author_name, sent_at, text, words, session_first)
             SELECT guild, guild, first + n, 1 + n, 'member', '2025-01-01Z'::timestamptz + first * interval '1 second',
                    substr(text, 1 + n * (length(text) / 4), length(text) / 4), 15, first
             FROM made, generate_series(0, 3) AS n),
         sat AS (
             INSERT INTO sessions (id, guild_id, channel_id, first_message_id, revision, message_count, word_count,
                                   started_at, ended_at)
             SELECT id, guild, guild, first, 1, 4, 60, '2025-01-01Z', '2025-01-01Z' FROM made RETURNING id)
         INSERT INTO indexed_sessions (session_id, model, point_revision, indexed_revision, content_hash, points)
         SELECT id, $5, 1, 1, '\\x07', 1 FROM sat",
    )
    .bind(guilds)
    .bind(firsts)
    .bind(sessions)
    .bind(texts)
    .bind(model.as_str())
    .execute(pool)
    .await
    .unwrap();
}

fn point(random: &mut StdRng, model: &ModelSlug, number: i64, text: &str) -> Point {
    let (guild_id, channel_id, first) = place(number);
    let at = chrono::DateTime::UNIX_EPOCH;
    Point {
        id: PointId::of(guild_id, channel_id, first, model, 0),
        dense: (0..DIMENSIONS).map(|_| random.random::<f32>() - 0.5).collect(),
        bm25: bm25::document(text, Language::None),
        payload: Payload {
            guild_id,
            channel_id,
            author_ids: (1..5).map(|n| n.try_into().unwrap()).collect(),
            message_ids: (0..4).map(|n| (first.get() + n).try_into().unwrap()).collect(),
            start_time: at,
            end_time: at,
            session_id: SessionId::of(guild_id, channel_id, first),
            chunk: 0,
            revision: 1.into(),
            message_count: 4,
            preview: None,
        },
    }
}
