//! Backing up and restoring the index.

use std::fs;

use serde_json::Value;

use crate::samples::{MAKERS, samples};
use crate::world::World;

const QUESTION: &str = "stringing between printed towers";

fn sessions(world: &World) -> Vec<String> {
    let found = world.search(MAKERS, QUESTION);
    found.iter().map(|found| found["session_id"].as_str().unwrap().to_owned()).collect()
}

fn missing(status: &Value) -> u64 {
    status["models"].as_array().unwrap().iter().map(|model| model["missing"].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn a_restored_index_gives_the_same_results_without_reembedding() {
    let world = World::new().await;
    world.import(samples());
    world.settle();
    let before = sessions(&world);
    // Served by the process that owns the index.
    let up = world.up().await;
    world.ok(&["backup", "copy"]);
    let outcome = world.fails(&["restore", "copy"]);
    assert!(outcome.stderr.contains("stop"), "{outcome}");
    up.stop().await;

    fs::remove_dir_all(world.path("d/index")).unwrap();
    let outcome = world.ok(&["restore", "copy"]);
    let points: i64 = world.value("SELECT count(*) FROM indexed_sessions").await;
    assert!(
        outcome.stdout.contains(&format!("{points} sessions up to date, 0 to be indexed again, 0 deleted")),
        "{outcome}"
    );
    assert_eq!(sessions(&world), before);
    assert_eq!(missing(&world.ok(&["status", "--json"]).json()), 0);
    world.settle();
    assert_eq!(sessions(&world), before);
}

#[tokio::test]
async fn messages_deleted_after_a_backup_stay_deleted_after_its_restore() {
    let world = World::new().await;
    world.import(samples());
    world.settle();
    world.ok(&["backup", "copy"]);
    let found = world.search(MAKERS, QUESTION);
    let (channel, session) = (&found[0]["channel_id"], found[0]["session_id"].as_str().unwrap().to_owned());
    let channel = channel.as_str().unwrap().parse().unwrap();
    let messages: Vec<i64> = sqlx::query_scalar(
        "SELECT m.id FROM messages m JOIN sessions s ON s.guild_id = m.guild_id AND s.channel_id = m.channel_id
         AND s.first_message_id = m.first_message_id WHERE s.id = $1::uuid",
    )
    .bind(&session)
    .fetch_all(&world.pool)
    .await
    .unwrap();
    let ids: Vec<_> = messages.iter().map(|id| (*id).try_into().unwrap()).collect();
    world.ingest().delete(MAKERS.try_into().unwrap(), channel, &ids).await.unwrap();
    world.settle();

    let outcome = world.ok(&["restore", "copy"]);
    assert!(outcome.stdout.contains("1 deleted ones removed"), "{outcome}");
    assert!(!sessions(&world).contains(&session));
    world.settle();
    assert!(!sessions(&world).contains(&session));
    assert_eq!(missing(&world.ok(&["status", "--json"]).json()), 0);
}

#[tokio::test]
async fn an_unusable_backup_is_rejected_and_changes_nothing() {
    let world = World::new().await;
    world.import(samples());
    world.settle();
    world.ok(&["backup", "copy"]);
    let before = sessions(&world);

    let outcome = world.fails(&["backup", "copy"]);
    assert!(outcome.stderr.contains("not empty"), "{outcome}");
    let outcome = world.fails(&["restore", "nowhere"]);
    assert!(outcome.stderr.contains("no whole backup"), "{outcome}");

    let books = world.path("copy/guildex_all-minilm-l6-v2-fp32.books.jsonl");
    let sound = fs::read(&books).unwrap();
    fs::write(&books, &sound[..sound.len() / 2]).unwrap();
    let outcome = world.fails(&["restore", "copy"]);
    assert!(outcome.stderr.contains("not as they were written"), "{outcome}");
    fs::write(&books, sound).unwrap();

    let stranger = World::new().await;
    stranger.ok(&["init"]);
    let copy = world.path("copy");
    let outcome = stranger.fails(&["restore", copy.to_str().unwrap()]);
    assert!(outcome.stderr.contains("another database"), "{outcome}");
    assert_eq!(sessions(&world), before);
}
