//! A server beyond the contract: faults, concurrent clients, settings, long filters, snapshots. Faults are injected
//! into the stand-in; the other tests also run on a real server if `QDRANT_URL` names one.
#![cfg(feature = "server")]

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::*;
use futures::FutureExt;
use futures::future::{join_all, try_join_all};
use guildex_index::{
    BulkLoad, Collection, Difference, Ensured, Error, Mode, QdrantServer, Quantization, Scope, ServerConfig,
    VectorIndex,
};
use guildex_test_support::qdrant::{Fault, StandIn};
use qdrant_client::qdrant::{
    CreateCollectionBuilder, CreateFieldIndexCollectionBuilder, DeleteFieldIndexCollectionBuilder, Distance,
    FieldType, HnswConfigDiffBuilder, OptimizersConfigDiffBuilder, StrictModeConfigBuilder,
    UpdateCollectionBuilder, VectorParamsBuilder, VectorsConfigBuilder,
};
use qdrant_client::{Payload, Qdrant};
use uuid::Uuid;

fn collection() -> Collection {
    Collection { name: format!("t{}", Uuid::new_v4().simple()).parse().unwrap(), dims: DIMS }
}

async fn ready(server: &StandIn) -> (QdrantServer, Collection) {
    let (index, collection) = (server.index(), collection());
    index.ensure(&collection).await.unwrap();
    (index, collection)
}

fn chunks(count: i64) -> Vec<Chunk<'static>> {
    (1..=count).map(|first| Chunk { first, ..Chunk::default() }).collect()
}

async fn write(index: &QdrantServer, collection: &Collection, chunks: &[Chunk<'_>]) -> Result<(), Error> {
    index.upsert(&collection.name, chunks.iter().map(Chunk::point).collect()).await
}

fn is_unavailable(outcome: Result<(), Error>) {
    let error = outcome.expect_err("the server was available");
    assert!(error.is_unavailable(), "{error:?}");
}

#[tokio::test]
async fn every_call_to_an_unreachable_server_is_unavailable() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let key = "hunter2".to_owned();
    let config = ServerConfig {
        url: format!("http://{port}").parse().ok(),
        api_key: Some(key.into()),
        ..ServerConfig::default()
    };
    let index = QdrantServer::connect(config).unwrap();
    let (collection, scope) = (collection(), Scope::guild(guild(7)));
    let folder = tempfile::tempdir().unwrap();
    let name = &collection.name;
    for outcome in [
        index.ping().await,
        index.ensure(&collection).await.map(drop),
        index.update_in_place(&collection).await.map(drop),
        index.drop_collection(name).await,
        index.snapshot(name, folder.path()).await,
        write(&index, &collection, &chunks(1)).await,
        index.delete_below(name, guild(7), &[(chunks(1)[0].session(), revision(1))]).await,
        index.search(name, &scope, dense_query(&[1.0; DIMS], 1)).await.map(drop),
        index.scroll(name, guild(7), None, 1).await.map(drop),
        index.guilds(name).await.map(drop),
    ] {
        let error = outcome.as_ref().expect_err("the server was available");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        is_unavailable(outcome);
    }
}

#[tokio::test]
async fn a_single_failure_is_retried() {
    let server = StandIn::start().await;
    let (index, collection) = ready(&server).await;
    for fault in [Fault::Unavailable, Fault::Reset, Fault::ResetAfter] {
        let before = server.faults.calls("upsert");
        server.faults.next("upsert", [fault]);
        write(&index, &collection, &chunks(3)).await.unwrap();
        assert_eq!(server.faults.calls("upsert"), before + 2, "{fault:?}");
        assert_eq!(index.count(&collection.name, guild(7)).await.unwrap(), 3);
    }
}

#[tokio::test]
async fn calls_succeed_after_a_server_recovers() {
    let server = StandIn::start().await;
    let (index, collection) = ready(&server).await;
    write(&index, &collection, &chunks(1)).await.unwrap();
    for fault in [Fault::Unavailable, Fault::Reset, Fault::Busy, Fault::Unauthenticated] {
        for method in ["upsert", "count"] {
            server.faults.always(method, fault);
        }
        is_unavailable(write(&index, &collection, &chunks(2)).await);
        is_unavailable(index.count(&collection.name, guild(7)).await.map(drop));
        for method in ["upsert", "count"] {
            server.faults.always(method, Fault::None);
        }
        write(&index, &collection, &chunks(1)).await.unwrap();
        assert_eq!(index.count(&collection.name, guild(7)).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn an_internal_server_error_is_not_unavailability() {
    let server = StandIn::start().await;
    let (index, collection) = ready(&server).await;
    server.faults.always("upsert", Fault::Broken);
    let broken = write(&index, &collection, &chunks(1)).await.unwrap_err();
    assert!(matches!(broken, Error::Engine(_)) && !broken.is_unavailable(), "{broken:?}");
}

#[tokio::test]
async fn a_slow_call_times_out() {
    let server = StandIn::start().await;
    let (_, collection) = ready(&server).await;
    let hasty = ServerConfig { timeout: Duration::from_millis(300), ..server.config() };
    let index = QdrantServer::connect(hasty).unwrap();
    server.faults.always("count", Fault::Slow);
    is_unavailable(index.count(&collection.name, guild(7)).await.map(drop));
    server.faults.always("health_check", Fault::Slow);
    is_unavailable(index.ping().await);
}

#[tokio::test]
async fn a_broken_connection_fails_the_waiting_call() {
    let server = StandIn::start().await;
    let (index, collection) = ready(&server).await;
    server.faults.always("count", Fault::Slow);
    let cut_twice = async {
        // The call and its retry.
        for calls in 1..=2 {
            server.faults.until_slow(calls).await;
            server.faults.cut();
        }
    };
    let (outcome, ()) = futures::join!(index.count(&collection.name, guild(7)), cut_twice);
    is_unavailable(outcome.map(drop));
}

#[tokio::test]
async fn concurrent_deletions_are_limited() {
    let server = StandIn::start().await;
    let (_, collection) = ready(&server).await;
    let index = QdrantServer::connect(ServerConfig { pool_size: 1, ..server.config() }).unwrap();
    server.faults.always("delete", Fault::Slow);
    let deleted = [(chunks(1)[0].session(), revision(2))];
    let removals =
        join_all((1..=40).map(|number| index.delete_below(&collection.name, guild(number), &deleted)));
    let watched = async {
        server.faults.until_slow(16).await;
        // Sent over the same connection after all deletions that were sent.
        index.count(&collection.name, guild(7)).await.unwrap();
        assert_eq!(server.faults.calls("delete"), 16);
    };
    tokio::select! {
        ended = removals => panic!("the stand-in did not respond: {ended:?}"),
        () = watched => {}
    }
}

#[tokio::test]
async fn a_full_disk_between_two_requests_loses_no_points() {
    let server = StandIn::start().await;
    let (_, collection) = ready(&server).await;
    let small = ServerConfig { upsert_batch_size: 2, max_concurrent_upserts: 1, ..server.config() };
    let index = QdrantServer::connect(small).unwrap();
    // The first of three requests succeeds; the second and its retry fail.
    server.faults.next("upsert", [Fault::None, Fault::Full, Fault::Full]);
    let full = write(&index, &collection, &chunks(5)).await.unwrap_err();
    assert!(matches!(full, Error::Full(_)) && full.is_unavailable(), "{full:?}");
    assert!(full.to_string().contains("No space left on device"), "{full}");
    assert_eq!(index.count(&collection.name, guild(7)).await.unwrap(), 2);

    write(&index, &collection, &chunks(5)).await.unwrap();
    assert_eq!(index.count(&collection.name, guild(7)).await.unwrap(), 5);
}

#[tokio::test]
async fn an_old_server_version_is_rejected_and_a_replaced_one_accepted() {
    let server = StandIn::start().await;
    let (index, collection) = (server.index(), collection());
    for old in ["1.15.5", "0.9.1"] {
        server.faults.set_version(old);
        for rejected in [index.ping().await, index.ensure(&collection).await.map(drop)] {
            let rejected = rejected.unwrap_err();
            let message = rejected.to_string();
            assert!(message.contains(old) && message.contains("1.16"), "{message}");
        }
    }
    server.faults.set_version("1.16.0");
    index.ping().await.unwrap();
    assert_eq!(index.ensure(&collection).await.unwrap(), Ensured::Created);
}

#[tokio::test]
async fn a_collection_created_before_a_lost_connection_is_completed() {
    let server = StandIn::start().await;
    let (index, collection) = (server.index(), collection());
    server.faults.next("create", [Fault::ResetAfter]);
    is_unavailable(index.ensure(&collection).await.map(drop));
    server
        .faults
        .next("create_field_index", [Fault::None, Fault::None, Fault::Unavailable, Fault::Unavailable]);
    is_unavailable(index.ensure(&collection).await.map(drop));
    assert_eq!(index.ensure(&collection).await.unwrap(), Ensured::Existing);
    assert_eq!(index.differences(&collection).await.unwrap(), []);
}

#[tokio::test]
async fn a_collection_recreated_by_another_client_is_read_again() {
    let server = StandIn::start().await;
    let (index, other, collection) = (server.index(), server.index(), collection());
    index.ensure(&collection).await.unwrap();
    write(&index, &collection, &chunks(1)).await.unwrap();
    other.drop_collection(&collection.name).await.unwrap();
    let outcome = write(&index, &collection, &chunks(1)).await;
    assert!(matches!(outcome, Err(Error::NoCollection(_))), "{outcome:?}");

    let wider = Collection { dims: DIMS + 1, ..collection.clone() };
    write(&other, &collection, &chunks(1)).await.unwrap_err();
    other.ensure(&collection).await.unwrap();
    write(&index, &collection, &chunks(1)).await.unwrap();
    other.drop_collection(&wider.name).await.unwrap();
    other.ensure(&wider).await.unwrap();
    for _ in 0..2 {
        let rejected = write(&index, &wider, &chunks(1)).await;
        assert!(matches!(rejected, Err(Error::Vector { expected: 5, given: DIMS })), "{rejected:?}");
    }
    let wide = Chunk { dense: vec![1.0; DIMS + 1], ..Chunk::default() };
    write(&index, &wider, &[wide]).await.unwrap();
}

#[tokio::test]
async fn guilds_beyond_one_response_are_all_listed() {
    let server = StandIn::start().await;
    let (index, collection) = ready(&server).await;
    let chunks: Vec<_> = (1..=10_500).map(|guild| Chunk { guild, ..Chunk::default() }).collect();
    upsert(&index, &collection, &chunks).await;
    let expected: Vec<_> = (1..=10_500).map(guild).collect();
    assert_eq!(index.guilds(&collection.name).await.unwrap(), expected);
    assert_eq!(server.faults.calls("facet"), 2);
}

/// Set in a child process that connects to a server behind TLS: the URLs for gRPC and HTTP.
const BEHIND_TLS: &str = "GUILDEX_INDEX_BEHIND_TLS";

#[tokio::test]
async fn a_server_behind_tls_is_used_if_its_certificate_is_trusted() {
    if let Ok(places) = std::env::var(BEHIND_TLS) {
        let (url, http_url) = places.split_once(' ').unwrap();
        let config = ServerConfig {
            url: url.parse().ok(),
            http_url: http_url.parse().ok(),
            ..ServerConfig::default()
        };
        return println!("server is {}", outcome_of_use(config).await);
    }
    let (server, certificate) = StandIn::start_with_tls().await;
    let dir = tempfile::tempdir().unwrap();
    let trusted = dir.path().join("trusted.pem");
    std::fs::write(&trusted, certificate).unwrap();
    let other = dir.path().join("other.pem");
    std::fs::write(&other, StandIn::start_with_tls().await.1).unwrap();
    let config = server.config();
    let [grpc, http] = [&config.url, &config.http_url].map(|url| url.as_ref().unwrap().expose());
    for (certificates, outcome) in [(trusted, "server is used"), (other, "server is unavailable")] {
        // In a child process, since the variable would affect other tests.
        let child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "server::a_server_behind_tls_is_used_if_its_certificate_is_trusted",
                "--exact",
                "--nocapture",
            ])
            .env(BEHIND_TLS, format!("{grpc} {http}"))
            .env("SSL_CERT_FILE", certificates)
            .output()
            .await
            .unwrap();
        let stdout = String::from_utf8_lossy(&child.stdout);
        assert!(stdout.contains(outcome), "{stdout} {}", String::from_utf8_lossy(&child.stderr));
    }
}

async fn outcome_of_use(config: ServerConfig) -> &'static str {
    let (index, collection) = (QdrantServer::connect(config).unwrap(), collection());
    match index.ensure(&collection).await {
        Err(error) if error.is_unavailable() => return "unavailable",
        ensured => assert_eq!(ensured.unwrap(), Ensured::Created),
    }
    upsert(&index, &collection, &chunks(3)).await;
    let folder = tempfile::tempdir().unwrap();
    index.snapshot(&collection.name, folder.path()).await.unwrap();
    index.drop_collection(&collection.name).await.unwrap();
    index.restore(&collection, folder.path()).await.unwrap();
    assert_eq!(index.count(&collection.name, guild(7)).await.unwrap(), 3);
    "used"
}

/// A server and the name of an unused collection.
struct TestServer {
    config: ServerConfig,
    index: QdrantServer,
    /// The plain client of Qdrant.
    raw: Qdrant,
    collection: Collection,
}

impl TestServer {
    fn new(config: ServerConfig) -> Self {
        let key = std::env::var("QDRANT_API_KEY").ok();
        let raw = Qdrant::from_url(server::url_of(&config)).api_key(key).skip_compatibility_check();
        Self {
            index: QdrantServer::connect(config.clone()).unwrap(),
            raw: raw.timeout(config.timeout).build().unwrap(),
            config,
            collection: collection(),
        }
    }

    async fn count(&self) -> usize {
        self.index.count(&self.collection.name, guild(7)).await.unwrap()
    }
}

/// Runs a test on the stand-in and, if there is one, on a real server; drops the collection afterwards.
async fn on_each_server(test: impl AsyncFn(&TestServer)) {
    let stand_in = StandIn::start().await;
    let real = server::from_env().map(|server| server.config);
    for config in [Some(stand_in.config()), real].into_iter().flatten() {
        let server = TestServer::new(config);
        let outcome = std::panic::AssertUnwindSafe(test(&server)).catch_unwind().await;
        server.index.drop_collection(&server.collection.name).await.unwrap();
        if let Err(panic) = outcome {
            eprintln!("on {}", server::url_of(&server.config));
            std::panic::resume_unwind(panic);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_ensures_create_a_collection_once() {
    on_each_server(async |server| {
        let indexes: Vec<_> = (0..6).map(|_| QdrantServer::connect(server.config.clone()).unwrap()).collect();
        let made = indexes.iter().map(async |index| {
            let ensured = index.ensure(&server.collection).await?;
            // Strict mode rejects filters without a payload index.
            assert_eq!(index.count(&server.collection.name, guild(7)).await?, 0);
            index
                .delete_messages(&server.collection.name, guild(7), &[9.try_into().unwrap()], revision(2))
                .await?;
            Ok::<_, Error>(ensured)
        });
        let made = try_join_all(made).await.unwrap();
        assert_eq!(made.iter().filter(|made| **made == Ensured::Created).count(), 1, "{made:?}");
        assert_eq!(server.index.differences(&server.collection).await.unwrap(), []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_upserts_keep_the_highest_revision() {
    on_each_server(async |server| {
        server.index.ensure(&server.collection).await.unwrap();
        let base = (1 << 53) - 4;
        let at = |number: i64| {
            let chunks = (1..=20).map(|first| Chunk { first, revision: base + number, ..Chunk::default() });
            chunks.collect::<Vec<_>>()
        };
        // Each point gets its revisions in another order.
        let writers = (0..9).map(|number| {
            let index = QdrantServer::connect(ServerConfig { upsert_batch_size: 3, ..server.config.clone() })
                .unwrap();
            async move { write(&index, &server.collection, &at(number)).await.unwrap() }
        });
        let deleter = async {
            for limit in 1..9 {
                let old: Vec<_> =
                    at(0).iter().map(|chunk| (chunk.session(), revision(base + limit))).collect();
                server.index.delete_below(&server.collection.name, guild(7), &old).await.unwrap();
            }
        };
        futures::join!(join_all(writers), deleter);
        let stored = all(&server.index, &server.collection, guild(7)).await;
        assert_eq!(stored.len(), 20);
        for point in stored {
            assert_eq!(point.payload.revision, revision(base + 8));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revisions_above_float_precision_are_distinguished() {
    on_each_server(async |server| {
        server.index.ensure(&server.collection).await.unwrap();
        let name = &server.collection.name;
        for base in [(1 << 53) + 2, (1 << 60) + 1, i64::MAX - 3] {
            let at = |number| Chunk { revision: base + number, ..Chunk::default() };
            for (number, stays) in [(1, 1), (0, 1), (2, 2), (-1, 2), (2, 2)] {
                write(&server.index, &server.collection, &[at(number)]).await.unwrap();
                let stored = all(&server.index, &server.collection, guild(7)).await;
                assert_eq!(stored[0].payload.revision, revision(base + stays), "{base} + {number}");
            }
            let message = [700.try_into().unwrap()];
            for (below, left) in [(2, 1), (3, 0)] {
                server.index.delete_messages(name, guild(7), &message, revision(base + below)).await.unwrap();
                assert_eq!(server.count().await, left, "{base} + {below}");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_with_thousands_of_values_are_accepted() {
    on_each_server(async |server| {
        server.index.ensure(&server.collection).await.unwrap();
        let name = &server.collection.name;
        let chunks = chunks(1_500);
        upsert(&server.index, &server.collection, &chunks).await;
        let scope = Scope::guild(guild(7)).only((1..=20_000).map(channel).collect());
        for mode in [Mode::Dense, Mode::Sparse, Mode::Hybrid] {
            let mut query = query(mode, &[1.0, 0.0, 0.0, 0.0], "hello");
            query.limit = usize::MAX;
            query.filter.authors = Some((1..=5_000).map(|id| id.try_into().unwrap()).collect());
            assert_eq!(server.index.search(name, &scope, query).await.unwrap().len(), 1_000, "{mode:?}");
        }

        // Each session has another limit, half of them too low to match.
        let sessions: Vec<_> = chunks
            .iter()
            .map(|chunk| (chunk.session(), revision(if chunk.first % 2 == 0 { 1 } else { chunk.first + 1 })))
            .collect();
        server.index.delete_below(name, guild(7), &sessions).await.unwrap();
        assert_eq!(server.count().await, 750);
        let messages: Vec<_> = (1..=1_400).map(|id| id.try_into().unwrap()).collect();
        server.index.delete_messages(name, guild(7), &messages, revision(2)).await.unwrap();
        assert_eq!(server.count().await, 50);
    })
    .await;
}

fn names(differences: &[Difference]) -> BTreeSet<&str> {
    differences.iter().map(|difference| difference.what.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_settings_are_reported_and_updated_in_place() {
    on_each_server(async |server| {
        server.index.ensure(&server.collection).await.unwrap();
        upsert(&server.index, &server.collection, &chunks(5)).await;
        let name = server.collection.name.as_str();
        let change = UpdateCollectionBuilder::new(name)
            .hnsw_config(HnswConfigDiffBuilder::default().m(16).payload_m(8))
            .optimizers_config(OptimizersConfigDiffBuilder::default().indexing_threshold(1))
            .strict_mode_config(StrictModeConfigBuilder::default().enabled(false).max_query_limit(5));
        server.raw.update_collection(change).await.unwrap();
        let tenant = CreateFieldIndexCollectionBuilder::new(name, "guild_id", FieldType::Keyword).wait(true);
        server.raw.create_field_index(tenant).await.unwrap();
        let number =
            CreateFieldIndexCollectionBuilder::new(name, "session_id", FieldType::Integer).wait(true);
        server.raw.create_field_index(number).await.unwrap();
        let missing = DeleteFieldIndexCollectionBuilder::new(name, "end_time").wait(true);
        server.raw.delete_field_index(missing).await.unwrap();

        let found = server.index.differences(&server.collection).await.unwrap();
        for expected in [
            "graph links (m)",
            "graph links in a guild (payload_m)",
            "indexing threshold (KiB)",
            "strict mode enabled",
            "strict mode max_query_limit",
            "payload index guild_id",
            "payload index session_id",
            "payload index end_time",
        ] {
            assert!(names(&found).contains(expected), "{expected} is not among {found:#?}");
        }
        let fatal: Vec<_> = found.iter().filter(|found| found.fatal).cloned().collect();
        assert_eq!(names(&fatal), BTreeSet::from(["payload index session_id", "payload index end_time"]));

        assert_eq!(server.index.update_in_place(&server.collection).await.unwrap(), []);
        assert_eq!(server.index.differences(&server.collection).await.unwrap(), []);
        assert_eq!(server.index.update_in_place(&server.collection).await.unwrap(), []);
        let deleted = [(chunks(1)[0].session(), revision(2))];
        server.index.delete_below(&server.collection.name, guild(7), &deleted).await.unwrap();
        assert_eq!(server.count().await, 4);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_be_updated_are_rejected() {
    on_each_server(async |server| {
        let mut vectors = VectorsConfigBuilder::default();
        vectors.add_named_vector_params("dense", VectorParamsBuilder::new(DIMS as u64, Distance::Dot));
        let other = CreateCollectionBuilder::new(server.collection.name.as_str()).vectors_config(vectors);
        server.raw.create_collection(other).await.unwrap();
        let rejected = server.index.ensure(&server.collection).await;
        assert!(matches!(&rejected, Err(Error::Mismatch { .. })), "{rejected:?}");
        let left = server.index.update_in_place(&server.collection).await.unwrap();
        assert_eq!(names(&left), BTreeSet::from(["vectors dense", "modifier of vectors bm25"]));
        assert!(left.iter().all(|left| left.fatal));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_bulk_load_is_reported_and_ended() {
    on_each_server(async |server| {
        server.index.ensure(&server.collection).await.unwrap();
        let name = &server.collection.name;
        server.index.bulk_load(name, BulkLoad::Begin).await.unwrap();
        upsert(&server.index, &server.collection, &chunks(10)).await;
        let left_over = server.index.differences(&server.collection).await.unwrap();
        assert_eq!(names(&left_over), BTreeSet::from(["indexing threshold (KiB)"]));
        assert_eq!(server.index.update_in_place(&server.collection).await.unwrap(), []);

        server.index.bulk_load(name, BulkLoad::Begin).await.unwrap();
        for _ in 0..2 {
            server.index.bulk_load(name, BulkLoad::End).await.unwrap();
            assert_eq!(server.index.differences(&server.collection).await.unwrap(), []);
        }
        assert_eq!(server.count().await, 10);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_switches_atomically_and_names_one_collection() {
    on_each_server(async |server| {
        server.index.ensure(&server.collection).await.unwrap();
        upsert(&server.index, &server.collection, &chunks(1)).await;
        let other = collection();
        server.index.ensure(&other).await.unwrap();
        let alias = format!("alias-{}", other.name);
        let seen = async || {
            let count = server.raw.count(qdrant_client::qdrant::CountPointsBuilder::new(&alias).exact(true));
            count.await.map(|found| found.result.unwrap().count)
        };
        assert!(seen().await.is_err());
        for (target, count) in [(&server.collection, 1), (&other, 0), (&other, 0), (&server.collection, 1)] {
            server.index.set_alias(&alias, &target.name).await.unwrap();
            assert_eq!(seen().await.unwrap(), count);
        }
        let unknown = server.index.set_alias(&alias, &collection().name).await;
        assert!(matches!(unknown, Err(Error::NoCollection(_))), "{unknown:?}");
        assert_eq!(seen().await.unwrap(), 1);
        server.index.drop_collection(&other.name).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quantization_does_not_change_exact_results() {
    on_each_server(async |server| {
        server.index.ensure(&server.collection).await.unwrap();
        let mut noise = noise(5);
        let chunks: Vec<_> = (1..=200)
            .map(|first| Chunk { first, dense: noise.by_ref().take(DIMS).collect(), ..Chunk::default() })
            .collect();
        upsert(&server.index, &server.collection, &chunks).await;
        let scope = Scope::guild(guild(7));
        let new_query = |exact| {
            let mut query = dense_query(&[0.3, -0.2, 0.9, 0.1], 20);
            query.exact = exact;
            query
        };
        let name = &server.collection.name;
        let expected = server.index.search(name, &scope, new_query(true)).await.unwrap();

        for quantization in [Quantization::Scalar, Quantization::Binary, Quantization::None] {
            let config = ServerConfig { quantization, ..server.config.clone() };
            let index = QdrantServer::connect(config).unwrap();
            let found = index.differences(&server.collection).await.unwrap();
            assert_eq!(names(&found), BTreeSet::from(["quantization"]), "{quantization:?}");
            assert_eq!(index.ensure(&server.collection).await.unwrap(), Ensured::Existing);
            assert_eq!(index.update_in_place(&server.collection).await.unwrap(), []);
            index.optimize(name).await.unwrap();
            assert_eq!(index.search(name, &scope, new_query(true)).await.unwrap(), expected);
            // All candidates are rescored with the original vectors.
            assert_eq!(
                index.search(name, &scope, new_query(false)).await.unwrap(),
                expected,
                "{quantization:?}"
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_leaves_no_files_on_the_server_and_restores_settings() {
    on_each_server(async |server| {
        let name = &server.collection.name;
        server.index.ensure(&server.collection).await.unwrap();
        upsert(&server.index, &server.collection, &chunks(30)).await;
        let folder = tempfile::tempdir().unwrap();
        server.index.snapshot(name, folder.path()).await.unwrap();
        let kept = async || server.raw.list_snapshots(name.as_str()).await.unwrap().snapshot_descriptions;
        assert_eq!(kept().await, []);

        let twin = Collection { name: collection().name, ..server.collection.clone() };
        for target in [&server.collection, &twin] {
            server.index.restore(target, folder.path()).await.unwrap();
            assert_eq!(server.index.differences(target).await.unwrap(), []);
            assert_eq!(server.index.identity(&target.name).await.unwrap(), None);
            assert_eq!(server.index.count(&target.name, guild(7)).await.unwrap(), 30);
        }
        let left = server.raw.list_snapshots(twin.name.as_str()).await.unwrap().snapshot_descriptions;
        server.index.drop_collection(&twin.name).await.unwrap();
        assert_eq!((kept().await, left), (vec![], vec![]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn points_of_other_programs_are_rejected_without_a_panic() {
    on_each_server(async |server| {
        server.index.ensure(&server.collection).await.unwrap();
        let foreign: Payload = serde_json::json!({ "guild_id": "7", "text": "private" }).try_into().unwrap();
        let dense = std::collections::HashMap::from([("dense".to_owned(), vec![1.0_f32; DIMS])]);
        let bm25 = qdrant_client::qdrant::Vector::from(vec![(1_u32, 1.0_f32)]);
        let mut vectors = qdrant_client::qdrant::NamedVectors::default();
        for (name, data) in dense {
            vectors.vectors.insert(name, data.into());
        }
        vectors.vectors.insert("bm25".to_owned(), bm25);
        let id = Uuid::new_v4().to_string();
        let point = qdrant_client::qdrant::PointStruct::new(id.clone(), vectors, foreign);
        let request =
            qdrant_client::qdrant::UpsertPointsBuilder::new(server.collection.name.as_str(), [point]);
        server.raw.upsert_points(request.wait(true)).await.unwrap();

        let scope = Scope::guild(guild(7));
        let search = server.index.search(&server.collection.name, &scope, dense_query(&[1.0; DIMS], 3)).await;
        let scroll = server.index.scroll(&server.collection.name, guild(7), None, 3).await;
        for rejected in [search.map(drop), scroll.map(drop)] {
            let rejected = rejected.unwrap_err();
            assert!(matches!(rejected, Error::Payload(_)), "{rejected:?}");
            assert!(!rejected.to_string().contains("private"));
        }
    })
    .await;
}
