//! Benchmarks a verification: `cargo bench -p guildex-consistency -- SESSIONS..` (default 10,000 and 100,000 sessions of
//! one guild, with one point each). It creates and drops a database on the server of `DATABASE_URL`, and uses the
//! embedded index.
//!
//! Reports time and anonymous memory of the process, without the mapped files of the index.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use guildex_consistency::verify::{Request, Verifier};
use guildex_document::content_hash;
use guildex_index::bm25::{self, Language};
use guildex_index::{Collection, CollectionName, EmbeddedIndex, Identity, Payload, Point, VectorIndex};
use guildex_producer::{Ingest, IngestConfig};
use guildex_store::{MIGRATOR, database_identity, models, sessions};
use guildex_types::{ChannelId, GuildId, MessageId, ModelSlug, PointId, SessionId};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use uuid::Uuid;

const BASE: &str = "bench";
const DIMENSIONS: usize = 8;
const BATCH: i64 = 1_000;

#[tokio::main]
async fn main() {
    let mut counts: Vec<i64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    if counts.is_empty() {
        counts = vec![10_000, 100_000];
    }
    let options: PgConnectOptions = std::env::var("DATABASE_URL").unwrap().parse().unwrap();
    for count in counts {
        let name = format!("guildex_bench_{}", Uuid::new_v4().simple());
        on_server(&options, &format!("CREATE DATABASE {name}")).await;
        let pool = PgPoolOptions::new().connect_with(options.clone().database(&name)).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        fill(&pool, folder.path(), count).await;
        compare(&pool, folder.path(), count).await;
        pool.close().await;
        on_server(&options, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
    }
}

async fn on_server(options: &PgConnectOptions, sql: &str) {
    let mut server = PgConnection::connect_with(options).await.unwrap();
    sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&mut server).await.unwrap();
}

/// Verifies once, with an index opened for it, as the command does.
async fn compare(pool: &PgPool, folder: &Path, count: i64) {
    let verifier = Verifier {
        ingest: Ingest::new(pool.clone(), IngestConfig::default()),
        index: Arc::new(EmbeddedIndex::open(folder).unwrap()),
        prefix: BASE.to_owned(),
    };
    // Opens the collection.
    let unknown_guild = Request { guild: Some(999.try_into().unwrap()), ..Request::default() };
    verifier.verify(&unknown_guild, &|_| {}).await.unwrap();
    let before = anonymous_memory();
    let (peak, ended) = (sample_memory(), Instant::now());
    let report = verifier.verify(&Request::default(), &|_| {}).await.unwrap();
    let took = ended.elapsed().as_secs_f64();
    let peak = peak();
    assert_eq!(report.differences, 0, "{report:?}");
    println!(
        "{count} points and sessions: {took:.1} s, {:.0} a second; memory {:.0} MiB before, {:.0} MiB at most",
        count as f64 / took,
        before as f64 / 1024.0,
        peak as f64 / 1024.0,
    );
}

/// Anonymous memory of the process, in KiB.
fn anonymous_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Samples the memory until the returned function is called, which returns the maximum.
fn sample_memory() -> impl FnOnce() -> u64 {
    let ended = Arc::new(AtomicBool::new(false));
    let watching = std::thread::spawn({
        let ended = ended.clone();
        move || {
            let mut most = 0;
            while !ended.load(Ordering::Relaxed) {
                most = most.max(anonymous_memory());
                std::thread::sleep(Duration::from_millis(5));
            }
            most
        }
    });
    move || {
        ended.store(true, Ordering::Relaxed);
        watching.join().unwrap()
    }
}

/// Sessions of four messages in one channel, with made-up vectors.
async fn fill(pool: &PgPool, folder: &Path, count: i64) {
    MIGRATOR.run(pool).await.unwrap();
    let model: ModelSlug = "model-fp32".parse().unwrap();
    models::ensure_active(pool, &model, DIMENSIONS).await.unwrap();
    for sql in [
        "INSERT INTO guilds (id, name) VALUES (1, 'bench')",
        "INSERT INTO channels (guild_id, id, name) VALUES (1, 1, 'bench')",
    ] {
        sqlx::query(sql).execute(pool).await.unwrap();
    }
    let index = EmbeddedIndex::open(folder).unwrap();
    let name = CollectionName::new(BASE, &model).unwrap();
    index.ensure(&Collection { name: name.clone(), dims: DIMENSIONS }).await.unwrap();
    let identity = Identity { database: database_identity(pool).await.unwrap(), index: Uuid::new_v4() };
    index.set_identity(&name, identity).await.unwrap();
    sqlx::query("UPDATE models SET index_id = $1").bind(identity.index).execute(pool).await.unwrap();
    for from in (0..count).step_by(BATCH as usize) {
        let firsts: Vec<i64> = (from..count.min(from + BATCH)).map(|number| 10 * number + 1).collect();
        store(pool, &model, &firsts).await;
        record_hashes(pool, &model, &firsts).await;
        index.upsert(&name, firsts.iter().map(|first| point(&model, *first)).collect()).await.unwrap();
    }
    sqlx::query("ANALYZE").execute(pool).await.unwrap();
}

fn place(first: i64) -> (GuildId, ChannelId, MessageId) {
    (1.try_into().unwrap(), 1.try_into().unwrap(), first.try_into().unwrap())
}

fn session(first: i64) -> SessionId {
    let (guild, channel, first) = place(first);
    SessionId::new(guild, channel, first)
}

async fn store(pool: &PgPool, model: &ModelSlug, firsts: &[i64]) {
    sqlx::query(
        "WITH made AS (SELECT * FROM UNNEST($1::bigint[], $2::uuid[]) AS u (first, id)),
         said AS (
             INSERT INTO messages (guild_id, channel_id, id, author_id, sent_at, text, words, first_message_id)
             SELECT 1, 1, first + n, 1 + n, '2025-01-01Z'::timestamptz + first * interval '1 second',
                    repeat('some words to be read ', 4), 20, first
             FROM made, generate_series(0, 3) AS n),
         sat AS (
             INSERT INTO sessions (id, guild_id, channel_id, first_message_id, revision, message_count, word_count,
                                   started_at, ended_at)
             SELECT id, 1, 1, first, 1, 4, 60, '2025-01-01Z', '2025-01-01Z' FROM made RETURNING id)
         INSERT INTO indexed_sessions (session_id, model, point_revision, indexed_revision, content_hash, point_ids)
         SELECT id, $3, 1, 1, '\\x07', ARRAY[gen_random_uuid()] FROM sat",
    )
    .bind(firsts)
    .bind(firsts.iter().map(|first| session(*first).get()).collect::<Vec<_>>())
    .bind(model.as_str())
    .execute(pool)
    .await
    .unwrap();
}

async fn record_hashes(pool: &PgPool, model: &ModelSlug, firsts: &[i64]) {
    let wanted: Vec<_> = firsts.iter().map(|first| (place(*first).0, session(*first))).collect();
    let loaded = sessions::load(pool, &wanted, model).await.unwrap();
    sqlx::query(
        "UPDATE indexed_sessions i SET content_hash = u.hash
         FROM UNNEST($1::uuid[], $2::bytea[]) AS u (id, hash) WHERE i.session_id = u.id",
    )
    .bind(loaded.iter().map(|session| session.id.get()).collect::<Vec<_>>())
    .bind(loaded.iter().map(|session| content_hash(session, model)).collect::<Vec<_>>())
    .execute(pool)
    .await
    .unwrap();
}

fn point(model: &ModelSlug, first: i64) -> Point {
    let (guild_id, channel_id, first_message) = place(first);
    let at = chrono::DateTime::UNIX_EPOCH;
    Point {
        id: PointId::new(guild_id, channel_id, first_message, model, 0),
        dense: (0..DIMENSIONS).map(|place| 1.0 / (1 + place) as f32).collect(),
        bm25: bm25::document("some words to be read", Language::None),
        payload: Payload {
            guild_id,
            channel_id,
            author_ids: vec![1.try_into().unwrap()],
            message_ids: (0..4).map(|n| (first + n).try_into().unwrap()).collect(),
            start_time: at,
            end_time: at,
            session_id: session(first),
            chunk: 0,
            revision: 1.into(),
            message_count: 4,
            preview: None,
        },
    }
}
