//! The benchmarks run, and tell of what they measured. What they find is no matter for a test.

use serde_json::json;

use crate::export::{CHANNEL, export, message, minute, write};
use crate::world::World;

#[tokio::test]
async fn every_way_to_embed_is_measured_beside_the_default_call() {
    let world = World::new().await;
    let said: Vec<_> = (0..12)
        .map(|n| message(minute(n), 1 + n % 2, &format!("the {n}th kettle of this week boils over again")))
        .collect();
    write(world.path("exports/help.json"), &export(CHANNEL, &said));

    let command = ["bench", "embed", "--exports", "exports", "--texts", "4", "--runs", "1", "--threads", "1"];
    let report = world.ok(&[&command[..], &["--json"]].concat()).json();
    let rows: Vec<_> =
        report["rows"].as_array().unwrap().iter().filter(|row| row["weights"] != "int8").collect();
    let ways: Vec<_> = rows.iter().map(|row| row["way"].as_str().unwrap()).collect();
    assert_eq!(
        ways,
        [
            "ours",
            "fastembed, one text a batch",
            "fastembed, batches of 32",
            "fastembed, as it is (batches of 256)",
            "matrices alone"
        ]
    );
    for row in &rows[..4] {
        assert!(row["texts/s"].as_u64().is_some() && row["peak MiB"].as_u64() > Some(0), "{row}");
    }
    assert_eq!(rows[3]["x fastembed 256"], json!(1.0));
    assert!(rows[0]["% of GEMM"].as_u64().is_some(), "{}", rows[0]);
    assert!(rows[4]["GFLOP/s"].as_u64() > Some(0), "{}", rows[4]);

    std::fs::create_dir(world.path("empty")).unwrap();
    let refused = world.fails(&["bench", "embed", "--exports", "empty"]);
    assert!(refused.stderr.contains("no *.json"), "{refused}");
}
