//! Benchmarks writes and searches: `cargo bench -p guildex-index --features embedded,server --bench index -- POINTS`
//! (default 10,000), on the embedded engine or on the server that `QDRANT_URL` names. On a server, searches are also
//! compared with the plain client's dense search.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

#[path = "../tests/integration/support/mod.rs"]
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use guildex_index::{
    BulkLoad, Collection, EmbeddedIndex, Filter, Fusion, Mode, Query, Scope, VectorIndex, bm25,
};
use qdrant_client::Qdrant;
use qdrant_client::qdrant::{Condition, Filter as ServerFilter, QueryPointsBuilder};
use support::server::PrefixedServer;
use support::{Chunk, guild, noise};

const DIMS: usize = 384;
const BATCH: usize = 64;
const QUERIES: u64 = 200;

#[tokio::main]
async fn main() {
    let count = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(10_000);
    let collection = Collection { name: "bench".parse().unwrap(), dims: DIMS };
    match support::server::from_env() {
        Some(server) => {
            let prefixed = server.prefixed();
            load_and_search(&prefixed, &collection, count).await;
            plain_client(support::server::url_of(&server.config), &prefixed, &collection).await;
            prefixed.clear().await;
        }
        None => {
            let dir = tempfile::tempdir().unwrap();
            let index = EmbeddedIndex::open(dir.path()).unwrap();
            load_and_search(&index, &collection, count).await;
            open_and_close(index, dir.path(), &collection).await;
        }
    }
}

async fn load_and_search(index: &dyn VectorIndex, collection: &Collection, count: usize) {
    index.ensure(collection).await.unwrap();
    let texts: Vec<String> = (0..count).map(text).collect();
    let mut points: Vec<_> = (0..count).map(|n| chunk(n, &texts[n]).point()).collect();

    index.bulk_load(&collection.name, BulkLoad::Begin).await.unwrap();
    let started = Instant::now();
    while !points.is_empty() {
        let batch = points.split_off(points.len().saturating_sub(BATCH));
        index.upsert(&collection.name, batch).await.unwrap();
    }
    rate("points/s in batches of 64, one after another", count, started.elapsed());
    searches(index, collection, "before optimize").await;

    let started = Instant::now();
    index.bulk_load(&collection.name, BulkLoad::End).await.unwrap();
    println!("{:>10.0} ms to optimize", millis(started.elapsed()));
    searches(index, collection, "after optimize").await;

    let again: Vec<_> = (0..count.min(16 * BATCH)).map(|n| chunk(n, &texts[n]).point()).collect();
    let started = Instant::now();
    let batches = again.chunks(BATCH).map(|batch| index.upsert(&collection.name, batch.to_vec()));
    futures::future::try_join_all(batches).await.unwrap();
    rate("points/s written again by 16 at once", again.len(), started.elapsed());
}

async fn open_and_close(index: EmbeddedIndex, dir: &Path, collection: &Collection) {
    let started = Instant::now();
    drop(index);
    println!("{:>10.1} ms to close", millis(started.elapsed()));
    let started = Instant::now();
    let index = EmbeddedIndex::open(dir).unwrap();
    index.ensure(collection).await.unwrap();
    println!("{:>10.1} ms to open", millis(started.elapsed()));
    drop(index);
    println!("{:>10.1} MiB on disk", size(dir) as f64 / 1024.0 / 1024.0);
}

/// Times the plain client's search for the ten nearest dense vectors.
async fn plain_client(url: &str, prefixed: &PrefixedServer, collection: &Collection) {
    let key = std::env::var("QDRANT_API_KEY").ok();
    let client = Qdrant::from_url(url).api_key(key).skip_compatibility_check().build().unwrap();
    let name = prefixed.name(&collection.name);
    let mut times = vec![];
    for seed in 0..QUERIES {
        let request = QueryPointsBuilder::new(name.as_str())
            .query(noise(seed ^ 0xabcd).take(DIMS).collect::<Vec<f32>>())
            .using("dense")
            .filter(ServerFilter::must([Condition::matches("guild_id", "1".to_owned())]))
            .limit(10)
            .with_payload(true);
        let started = Instant::now();
        assert_eq!(client.query(request).await.unwrap().result.len(), 10);
        times.push(started.elapsed());
    }
    spread(times, "the server's own search by dense vectors");
}

/// Times searches of each mode in a guild with nine tenths of the points.
async fn searches(index: &dyn VectorIndex, collection: &Collection, when: &str) {
    let mut found = 0;
    for (mode, exact) in
        [(Mode::Dense, true), (Mode::Dense, false), (Mode::Sparse, false), (Mode::Hybrid, false)]
    {
        let mut times = vec![];
        for seed in 0..QUERIES {
            let query = Query {
                dense: noise(seed ^ 0xabcd).take(DIMS).collect(),
                bm25: bm25::query(&text(seed as usize), bm25::Language::None),
                mode,
                fusion: Fusion::default(),
                filter: Filter::default(),
                min_score: None,
                limit: 10,
                exact,
            };
            let started = Instant::now();
            let hits = index.search(&collection.name, &Scope::guild(guild(1)), query).await.unwrap();
            times.push(started.elapsed());
            found += hits.len();
        }
        spread(times, &format!("{mode:?}, exact {exact}, {when}"));
    }
    assert!(found > 0, "no hits");
}

fn spread(mut times: Vec<Duration>, what: &str) {
    times.sort_unstable();
    let at = |share: f64| millis(times[(share * (times.len() - 1) as f64) as usize]);
    println!("{:>10.2} ms median, {:.2} ms p99: {what}", at(0.5), at(0.99));
}

fn chunk(n: usize, text: &str) -> Chunk<'_> {
    let guild = if n.is_multiple_of(10) { 2 } else { 1 };
    let dense = noise(n as u64).take(DIMS).collect();
    Chunk {
        guild,
        channel: 1 + n as i64 % 20,
        first: 1 + n as i64,
        messages: 8,
        dense,
        text,
        ..Chunk::default()
    }
}

/// A text of sixty words, some common and some rare.
fn text(n: usize) -> String {
    noise(n as u64).take(60).map(|x| format!("word{} ", (5_000.0 * x.powi(4)) as u32)).collect()
}

fn rate(what: &str, count: usize, time: Duration) {
    println!("{:>10.0} {what}", count as f64 / time.as_secs_f64());
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.metadata().unwrap() {
            metadata if metadata.is_dir() => size(&entry.path()),
            metadata => metadata.len(),
        })
        .sum()
}
