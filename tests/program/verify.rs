//! `guildex verify`: Postgres compared with the index.

use serde_json::Value;

use crate::samples::samples;
use crate::world::{Outcome, World};

async fn settled() -> World {
    let world = World::new().await;
    world.import(samples());
    world.settle();
    world
}

/// Removes records of some indexed sessions, and changes messages of others.
async fn corrupt(world: &World) {
    for spoil in [
        "DELETE FROM indexed_sessions WHERE session_id IN (SELECT session_id FROM indexed_sessions ORDER BY 1 LIMIT 2)",
        "UPDATE indexed_sessions SET content_hash = 'x'
         WHERE session_id = (SELECT session_id FROM indexed_sessions ORDER BY 1 LIMIT 1)",
    ] {
        sqlx::query(spoil).execute(&world.pool).await.unwrap();
    }
}

fn of_kind(report: &Value, kind: &str) -> u64 {
    let models = report["models"].as_array().unwrap();
    let guilds = models.iter().flat_map(|model| model["guilds"].as_array().unwrap());
    guilds.filter_map(|guild| guild["differences"][kind]["count"].as_u64()).sum()
}

#[track_caller]
fn differs(outcome: &Outcome) {
    assert_eq!(outcome.status.code(), Some(1), "{outcome}");
    let report = outcome.json();
    assert_eq!(report["differences"], 3, "{outcome}");
    assert_eq!((of_kind(&report, "missing"), of_kind(&report, "wrong_hash")), (2, 1), "{outcome}");
}

#[tokio::test]
async fn the_exit_status_says_whether_postgres_and_the_index_differ() {
    let world = settled().await;
    let consistent = world.ok(&["verify"]);
    assert!(consistent.stdout.contains("Postgres and the index agree"), "{consistent}");
    corrupt(&world).await;
    differs(&world.run(&["verify", "--json"]));
    let differing = world.fails(&["verify", "--examples", "1"]);
    assert!(differing.stdout.contains("Postgres and the index differ in 3 places"), "{differing}");
    assert!(
        differing.stdout.contains("  missing: guild ") && differing.stdout.contains("verify --repair"),
        "{differing}"
    );

    let repairing = world.fails(&["verify", "--repair"]);
    assert!(repairing.stdout.contains("enqueued 3 repair jobs"), "{repairing}");
    let during = world.ok(&["verify", "--json"]).json();
    assert_eq!((&during["differences"], &during["in_progress"]), (&0.into(), &3.into()), "{during}");
    world.settle();
    let repaired = world.ok(&["verify", "--json"]).json();
    assert_eq!((&repaired["differences"], &repaired["in_progress"]), (&0.into(), &0.into()), "{repaired}");
}

#[tokio::test]
async fn the_process_that_owns_the_index_verifies_and_repairs_for_others() {
    let world = settled().await;
    let alone = world.ok(&["verify", "--json"]).json();
    let up = world.up().await;
    assert_eq!(world.ok(&["verify", "--json"]).json(), alone);
    corrupt(&world).await;
    differs(&world.run(&["verify", "--json"]));
    let nothing = world.ok(&["verify", "--guild", "4711", "--json"]).json();
    assert_eq!(nothing["models"][0]["guilds"][0]["points"], 0, "{nothing}");
    world.ok(&["verify", "--repair", "--wait"]);
    let repaired = world.ok(&["verify", "--json"]).json();
    assert_eq!((&repaired["differences"], &repaired["in_progress"]), (&0.into(), &0.into()), "{repaired}");
    assert!(up.stop().await.success());
}

#[tokio::test]
async fn a_verification_that_cannot_run_reports_no_differences() {
    let world = World::new().await;
    world.import(samples());
    let no_index = world.run(&["verify"]);
    assert_eq!(no_index.status.code(), Some(2), "{no_index}");
    assert!(no_index.stderr.contains("there is no index in"), "{no_index}");
    let no_database = world.run(&["verify", "--set", "database.url=postgres://user@127.0.0.1:9/x"]);
    assert_eq!(no_database.status.code(), Some(2), "{no_database}");
    let nonsense = world.run(&["verify", "--set", "worker.lease=soon"]);
    assert_eq!(nonsense.status.code(), Some(2), "{nonsense}");
}

#[tokio::test]
async fn a_lost_index_is_rebuilt_by_a_repair() {
    let world = settled().await;
    let before = world.ok(&["verify", "--json"]).json();
    std::fs::remove_dir_all(world.path("d/index")).unwrap();
    world.run(&["verify", "--repair"]);
    world.settle();
    assert_eq!(world.ok(&["verify", "--json"]).json(), before);
}
