//! Benchmarks run and report their figures. Tests do not judge the figures.

use serde_json::{Value, json};

use crate::export::{CHANNEL, conversations, export, message, minute, write};
use crate::world::World;

/// Rows of a benchmark's report; asserts that the named figures are above zero.
#[track_caller]
fn rows(world: &World, arguments: &[&str], figures: &[&str]) -> Vec<Value> {
    let outcome = world.ok(&[&["bench"], arguments, &["--json"]].concat());
    let report = outcome.json();
    assert_eq!(report["bench"], arguments[0]);
    let rows = report["rows"].as_array().unwrap().clone();
    for (row, figure) in rows.iter().flat_map(|row| figures.iter().map(move |figure| (row, figure))) {
        assert!(row[figure].as_f64().is_some_and(|value| value > 0.0), "{figure} of {row}");
    }
    rows
}

#[tokio::test]
async fn queue_reports_each_number_of_workers() {
    let world = World::new().await;
    let figures = ["enqueued/s", "completed/s", "cpu ms/job", "peak MiB/worker", "statements/job"];
    let rows = rows(&world, &["queue", "--jobs", "300", "--runs", "1", "--workers", "1,2"], &figures);
    assert_eq!(rows.iter().map(|row| row["workers"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn the_pipeline_is_measured_against_the_model_alone_or_with_a_hash_embedder() {
    let world = World::new().await;
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples");
    let figures = ["messages", "sessions", "points", "sessions/s", "wall ms/message", "peak MiB"];
    let arguments = ["pipeline", "--exports", samples, "--runs", "1"];
    let with_model = rows(&world, &arguments, &[&figures[..], &["model only, points/s", "share %"]].concat());
    assert_eq!(with_model.len(), 2, "the run and the median");
    let hashed = rows(&world, &[&arguments[..], &["--hashed"]].concat(), &figures);
    assert_eq!(hashed[0]["share %"], Value::Null);
    assert_eq!(hashed[0]["sessions"], with_model[0]["sessions"]);
}

#[tokio::test]
async fn freshness_reports_times_until_recorded_and_found() {
    let world = World::new().await;
    let talk = conversations(7, 60).concat();
    let file = write(world.path("talk.json"), &export(CHANNEL, &talk));
    let arguments = ["freshness", "--exports", file.to_str().unwrap(), "--rate", "5", "--seconds", "4"];
    let rows = rows(&world, &arguments, &["messages", "p50 ms", "p99 ms", "max ms"]);
    assert_eq!((&rows[0]["until"], &rows[1]["until"]), (&"recorded".into(), &"found by search".into()));
}

#[tokio::test]
async fn search_reports_each_mode() {
    let world = World::new().await;
    let arguments = ["search", "--sessions", "200", "--searches", "10", "--runs", "1"];
    let rows = rows(&world, &arguments, &["p50 ms", "p99 ms", "searches/s", "resident MiB"]);
    assert_eq!(
        rows.iter().map(|row| row["mode"].as_str().unwrap()).collect::<Vec<_>>(),
        ["dense", "sparse", "hybrid"]
    );
}

#[tokio::test]
async fn a_folder_without_exports_is_an_error() {
    let world = World::new().await;
    let empty = world.path("empty");
    std::fs::create_dir(&empty).unwrap();
    let rejected = world.fails(&["bench", "freshness", "--exports", empty.to_str().unwrap()]);
    assert!(rejected.stderr.contains("contains no usable export"), "{rejected}");
}

#[tokio::test]
async fn each_embedding_method_is_compared_with_the_default_call() {
    let world = World::new().await;
    let said: Vec<_> = (0..12)
        .map(|n| message(minute(n), 1 + n % 2, &format!("the {n}th kettle of this week boils over again")))
        .collect();
    write(world.path("exports/help.json"), &export(CHANNEL, &said));

    let command = ["bench", "embed", "--exports", "exports", "--texts", "4", "--runs", "1", "--threads", "1"];
    let report = world.ok(&[&command[..], &["--json"]].concat()).json();
    let rows: Vec<_> =
        report["rows"].as_array().unwrap().iter().filter(|row| row["weights"] != "int8").collect();
    let methods: Vec<_> = rows.iter().map(|row| row["method"].as_str().unwrap()).collect();
    assert_eq!(
        methods,
        [
            "ours",
            "fastembed, single texts",
            "fastembed, batches of 32",
            "fastembed default (batches of 256)",
            "matrix products"
        ]
    );
    for row in &rows[..4] {
        assert!(row["texts/s"].as_u64().is_some() && row["peak MiB"].as_u64() > Some(0), "{row}");
    }
    assert_eq!(rows[3]["x fastembed 256"], json!(1.0));
    assert!(rows[0]["% of GEMM"].as_u64().is_some(), "{}", rows[0]);
    assert!(rows[4]["GFLOP/s"].as_u64() > Some(0), "{}", rows[4]);

    std::fs::create_dir(world.path("empty")).unwrap();
    let rejected = world.fails(&["bench", "embed", "--exports", "empty"]);
    assert!(rejected.stderr.contains("no *.json"), "{rejected}");
}
