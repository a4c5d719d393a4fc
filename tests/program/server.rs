//! Several workers on one Qdrant server, if `QDRANT_URL` names one.

use std::io::Write;

use guildex_index::{QdrantServer, ServerConfig, VectorIndex};
use uuid::Uuid;

use crate::export::{GUILD, three_channels};
use crate::points::{assert_consistent, assert_same, collection, points, points_in};
use crate::world::{Running, World};

const QUESTIONS: [&str; 4] = ["oak", "the price of bread", "who has seen the cat", "a walk along the river"];

/// A unique collection prefix on the server; its collections are deleted at the end.
struct PrefixedServer {
    index: QdrantServer,
    base: String,
}

impl PrefixedServer {
    fn find() -> Option<Self> {
        let Ok(url) = std::env::var("QDRANT_URL") else {
            // Bypasses the test runner's capture.
            let _ = writeln!(
                std::io::stderr(),
                "QDRANT_URL is not set: no workers on a Qdrant server are tested"
            );
            return None;
        };
        let api_key = std::env::var("QDRANT_API_KEY").ok().map(Into::into);
        let index =
            QdrantServer::connect(ServerConfig { url: url.parse().ok(), api_key, ..ServerConfig::default() })
                .unwrap();
        Some(Self { index, base: format!("test{}", Uuid::new_v4().simple()) })
    }

    fn toml(&self) -> String {
        format!("[index]\nbackend = \"server\"\ncollection = {:?}\n", self.base)
    }

    async fn clear(self) {
        self.index.drop_collection(&collection(&self.base)).await.unwrap();
    }
}

fn results(world: &World) -> Vec<Vec<String>> {
    let sessions = |question| {
        let found = world.search(GUILD, question);
        found.iter().map(|found| found["session_id"].as_str().unwrap().to_owned()).collect()
    };
    QUESTIONS.map(sessions).into()
}

/// Asserts that workers on the server index what the embedded engine indexes, although one is killed.
async fn share(workers: usize) {
    let Some(prefixed) = PrefixedServer::find() else { return };
    let embedded = World::new().await;
    embedded.import(&three_channels(&embedded.path("town"), 60));
    embedded.settle();

    let world = World::with(&prefixed.toml()).await;
    world.ok(&["init"]);
    let _dispatcher = world.start(&["dispatcher"]);
    let mut running: Vec<Running> = (0..workers).map(|_| world.start(&["worker"])).collect();
    world.import(&three_channels(&world.path("town"), 60));
    world.wait_for("SELECT count(*) > 5 FROM indexed_sessions").await;
    running.remove(0).kill();
    world.wait_idle().await;

    let shared = points_in(&prefixed.index, &collection(&prefixed.base), GUILD).await;
    assert_consistent(&world, &shared).await;
    assert_eq!(world.value::<i64>("SELECT count(*) FROM jobs WHERE state = 'dead'").await, 0);
    assert_same(&points(&embedded, GUILD).await, &shared);
    assert_eq!(results(&world), results(&embedded));
    world.ok(&["init", "--check"]);
    for worker in running {
        assert!(worker.stop().await.success());
    }
    prefixed.clear().await;
}

#[tokio::test]
async fn two_workers_share_a_server() {
    share(2).await;
}

#[tokio::test]
async fn four_workers_share_a_server() {
    share(4).await;
}

#[tokio::test]
async fn a_backup_of_a_server_restores_its_points() {
    let Some(prefixed) = PrefixedServer::find() else { return };
    let world = World::with(&prefixed.toml()).await;
    world.import(&three_channels(&world.path("town"), 12));
    world.settle();
    let (before, found) =
        (points_in(&prefixed.index, &collection(&prefixed.base), GUILD).await, results(&world));
    world.ok(&["backup", "copy"]);

    prefixed.index.drop_collection(&collection(&prefixed.base)).await.unwrap();
    let outcome = world.ok(&["restore", "copy"]);
    assert!(outcome.stdout.contains("12 sessions up to date, 0 to be indexed again"), "{outcome}");
    assert_same(&before, &points_in(&prefixed.index, &collection(&prefixed.base), GUILD).await);
    assert_eq!(results(&world), found);
    world.settle();
    prefixed.clear().await;
}

#[tokio::test]
async fn an_unreachable_server_is_reported_and_costs_no_attempts() {
    let unreachable =
        "[index]\nbackend = \"server\"\n[index.server]\nurl = \"http://127.0.0.1:9\"\n[search]\nfallback = ";
    let world = World::with(&format!("{unreachable} \"none\"")).await;
    world.import(&three_channels(&world.path("town"), 3));
    let up = world.start(&["up"]);
    let guild = GUILD.to_string();
    let outcome = world.fails(&["search", "--guild", &guild, "oak"]);
    assert!(outcome.stderr.contains("away"), "{outcome}");
    assert!(up.stop().await.success());
    assert_eq!(world.value::<i64>("SELECT count(*) FROM jobs WHERE attempts > 1 OR state = 'dead'").await, 0);

    // Without `up`, the search uses the configuration of this command.
    let answer =
        world.ok(&["search", "--guild", &guild, "--set", "search.fallback=postgres", "--json", "oak"]).json();
    assert_eq!(answer["degraded"], true, "{answer}");
}
