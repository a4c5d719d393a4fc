//! Checks of `guildex doctor` and their advice.

use std::net::TcpListener;

use serde_json::Value;

use crate::export::{GUILD, three_channels};
use crate::world::{Outcome, World};

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name} in {report}"))
}

/// Names of the failed checks.
fn failed(report: &Value) -> Vec<&str> {
    let checks = report["checks"].as_array().unwrap().iter();
    checks.filter(|check| check["outcome"] == "failed").map(|check| check["name"].as_str().unwrap()).collect()
}

/// Report with failures; asserts that each comes with advice.
#[track_caller]
fn unhealthy(outcome: &Outcome) -> Value {
    assert_eq!(outcome.status.code(), Some(1), "{outcome}");
    assert!(!outcome.stderr.contains("panicked"), "{outcome}");
    let shown = [&outcome.stdout, &outcome.stderr];
    assert!(!shown.iter().any(|text| text.contains("hunter2")), "a password is shown: {outcome}");
    let report = outcome.json();
    assert_eq!(report["healthy"], false);
    for name in failed(&report) {
        assert!(
            check(&report, name)["advice"].as_str().is_some_and(|advice| !advice.is_empty()),
            "{outcome}"
        );
    }
    report
}

#[tokio::test]
async fn a_healthy_installation_passes_with_and_without_a_process_that_owns_the_index() {
    let world = World::new().await;
    let fresh = world.ok(&["doctor", "--json"]).json();
    assert_eq!(check(&fresh, "index")["outcome"], "warning", "{fresh}");
    world.import(&three_channels(&world.path("town"), 3));
    world.settle();
    let text = world.ok(&["doctor"]);
    assert!(text.stdout.ends_with("no check failed\n") && text.stdout.starts_with("ok "), "{text}");
    let names = [
        "configuration",
        "data folder",
        "postgres",
        "schema",
        "postgres writes",
        "postgres notifies",
        "clocks",
        "jobs",
        "redis",
        "index",
        "collection all-minilm-l6-v2-fp32",
        "model all-minilm-l6-v2-fp32",
    ];
    let alone = world.ok(&["doctor", "--json"]).json();
    for name in names.into_iter().filter(|name| *name != "data folder" && *name != "redis") {
        assert_eq!(check(&alone, name)["outcome"], "ok", "{alone}");
    }
    assert!(
        check(&alone, "model all-minilm-l6-v2-fp32")["found"].as_str().unwrap().contains("384"),
        "{alone}"
    );

    let _up = world.up().await;
    let beside = world.ok(&["doctor", "--json"]).json();
    assert!(check(&beside, "index")["found"].as_str().unwrap().contains("guildex.sock"), "{beside}");
    // No test data is left.
    assert_eq!(world.value::<i64>("SELECT count(*) FROM guilds").await, 1);
    assert!(!world.search(GUILD, "oak").is_empty());
}

#[tokio::test]
async fn each_unreachable_server_is_reported_with_advice() {
    let world = World::new().await;
    let without = |setting: &[&str]| unhealthy(&world.run(&[&["doctor", "--json"], setting].concat()));

    let report = without(&["--set", "database.url=postgres://me:hunter2@127.0.0.1:9/x"]);
    assert_eq!(failed(&report), ["postgres"], "{report}");
    assert!(check(&report, "postgres")["advice"].as_str().unwrap().contains("DATABASE_URL"), "{report}");
    assert_eq!(check(&report, "jobs")["outcome"], "skipped");
    assert_ne!(check(&report, "redis")["outcome"], "failed");

    let report = without(&["--set", "redis.url=redis://:hunter2@127.0.0.1:9"]);
    assert_eq!(failed(&report), ["redis"], "{report}");

    let server = "index.server.url=http://127.0.0.1:9";
    let report =
        without(&["--set", "index.backend=server", "--set", server, "--set", "index.server.api_key=hunter2"]);
    assert_eq!(failed(&report), ["index"], "{report}");
    assert!(check(&report, "index")["advice"].as_str().unwrap().contains("QDRANT_URL"), "{report}");

    let report = without(&["--set", "model.dir=nowhere"]);
    assert_eq!(failed(&report), ["model all-minilm-l6-v2-fp32"], "{report}");
    let report = without(&["--set", "database.url=", "--set", "redis.url="]);
    assert_eq!(failed(&report), ["postgres", "redis"], "{report}");
}

#[tokio::test]
async fn servers_that_accept_connections_and_never_respond_do_not_block_other_checks() {
    let world = World::new().await;
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let settings = [
        format!("database.url=postgres://me:hunter2@127.0.0.1:{port}/x"),
        format!("redis.url=redis://:hunter2@127.0.0.1:{port}"),
        "index.backend=server".to_owned(),
        format!("index.server.url=http://127.0.0.1:{port}"),
    ];
    let mut arguments = vec!["doctor", "--json"];
    settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
    let report = unhealthy(&world.run(&arguments));
    assert_eq!(failed(&report), ["postgres", "redis", "index"], "{report}");
}

#[tokio::test]
async fn an_outdated_schema_and_unclaimed_jobs_are_reported() {
    let world = World::new().await;
    world.import(&three_channels(&world.path("town"), 3));
    sqlx::query("UPDATE jobs SET run_at = now() - interval '1 hour'").execute(&world.pool).await.unwrap();
    let report = world.ok(&["doctor", "--json"]).json();
    let advice = check(&report, "jobs")["advice"].as_str().unwrap();
    assert!(advice.contains("no dispatcher seems to run"), "{report}");

    sqlx::query("DROP TABLE _sqlx_migrations").execute(&world.pool).await.unwrap();
    let report = unhealthy(&world.run(&["doctor", "--json"]));
    assert!(check(&report, "schema")["advice"].as_str().unwrap().contains("guildex migrate"), "{report}");
}

#[tokio::test]
async fn a_collection_of_another_database_fails() {
    let world = World::new().await;
    world.import(&three_channels(&world.path("town"), 3));
    world.settle();
    sqlx::query("UPDATE database_identity SET id = gen_random_uuid()").execute(&world.pool).await.unwrap();
    let report = unhealthy(&world.run(&["doctor", "--json"]));
    assert_eq!(failed(&report), ["collection all-minilm-l6-v2-fp32"], "{report}");
}
