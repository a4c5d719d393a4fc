//! Switching the embedding model while the old one serves searches.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::samples::{MAKERS, samples};
use crate::world::World;

const FIRST_MODEL: &str = "all-minilm-l6-v2-fp32";
const QUESTION: &str = "stringing between printed towers";

/// Configuration of a second model: the same weights under another name.
fn second() -> String {
    let folder = std::env::var("GUILDEX_MODEL_DIR").expect("GUILDEX_MODEL_DIR: run scripts/test");
    format!("[models.second]\ndir = {folder:?}\n")
}

fn model<'a>(status: &'a Value, name: &str) -> &'a Value {
    status["models"].as_array().unwrap().iter().find(|model| model["model"] == name).unwrap_or(&Value::Null)
}

/// Full response to the query, as JSON.
#[track_caller]
fn search(world: &World, options: &[&str]) -> Value {
    let guild = MAKERS.to_string();
    let arguments = [&["search", "--guild", &guild, "--json", QUESTION], options].concat();
    world.ok(&arguments).json()
}

fn sessions(response: &Value) -> Vec<&str> {
    response["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| found["session_id"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn searches_continue_while_the_model_is_switched() {
    let world = World::with(&second()).await;
    world.import(samples());
    let up = world.up().await;
    world.wait_idle().await;
    let before = world.ok(&["status", "--json"]).json();
    let eligible = model(&before, FIRST_MODEL)["indexed"].as_u64().unwrap();
    assert!(eligible > 0, "{before}");

    let found = search(&world, &[]);
    let mut reindex = world.start(&["reindex", "--to", "second"]);
    let mut answered = BTreeSet::new();
    while !reindex.has_ended() {
        let response = search(&world, &[]);
        // Equal weights give equal results, and no collection is searched before it is complete.
        assert_eq!(sessions(&response), sessions(&found));
        answered.insert(response["model"].as_str().unwrap().to_owned());
    }
    assert!(answered.contains(FIRST_MODEL), "the old model did not serve meanwhile: {answered:?}");
    let after = search(&world, &[]);
    assert_eq!(
        (&after["model"], sessions(&after)),
        (&"second".into(), sessions(&found)),
        "{}",
        reindex.log()
    );

    let status = world.ok(&["status", "--json"]).json();
    assert_eq!(status["model"], "second");
    let second = model(&status, "second");
    assert_eq!(
        (&second["state"], &second["indexed"], &second["missing"]),
        (&"active".into(), &eligible.into(), &0.into())
    );
    assert_eq!(model(&status, FIRST_MODEL)["state"], "retired");

    world.ok(&["reindex", "drop-unused"]);
    assert_eq!(model(&world.ok(&["status", "--json"]).json(), FIRST_MODEL), &Value::Null);
    assert!(!world.path("d/index").join(format!("guildex_{FIRST_MODEL}")).exists());
    up.stop().await;
}

#[tokio::test]
async fn two_models_can_be_searched_and_compared() {
    let world = World::with(&second()).await;
    world.import(samples());
    world.settle();
    world.ok(&["reindex", "--to", "second", "--detach"]);
    world.settle();
    let [first, second] = [FIRST_MODEL, "second"].map(|model| search(&world, &["--model", model]));
    assert_eq!((&first["model"], &second["model"]), (&FIRST_MODEL.into(), &"second".into()));
    assert_eq!(sessions(&first), sessions(&second), "the same weights give other results");
    assert_eq!(search(&world, &[])["model"], FIRST_MODEL, "searches changed the model without a switch");
    let outcome = world.fails(&["search", "--guild", &MAKERS.to_string(), "--model", "third", QUESTION]);
    assert!(outcome.stderr.contains("third"), "{outcome}");
}

#[tokio::test]
async fn an_unconfigured_model_is_an_error() {
    let world = World::new().await;
    let outcome = world.fails(&["reindex", "--to", "no-such-model"]);
    assert!(outcome.stderr.contains("[models.no-such-model]"), "{outcome}");
    assert!(world.value::<i64>("SELECT count(*) FROM models").await == 0, "{outcome}");
}
