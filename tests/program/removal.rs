//! Deletions and edits apply to every search from the moment they commit.

use chrono::{DateTime, Utc};
use guildex_producer::Ingest;
use guildex_store::channels::Channel;
use guildex_types::{Author, JobQueue, Links, Message, MessageId, MessageKind, SearchText};
use serde_json::Value;

use crate::export::{CHANNEL, GUILD, conversations, export, id, message, minute, reply, write};
use crate::points::{assert_consistent, points};
use crate::world::World;

const SECRET: &str = "the spare key lies under the turquoise flowerpot";

/// A world in which one of several conversations contains the secret, and that conversation.
async fn world_with_a_secret() -> (World, Vec<Value>) {
    let world = World::new().await;
    let first = message(minute(60_000), 1, "how do I get into the workshop on Sunday");
    let secret = reply(minute(60_001), 2, SECRET, &first);
    let last = reply(minute(60_002), 1, "wonderful, I shall be there at nine o'clock", &secret);
    let said = vec![first, secret, last];
    let messages = [conversations(4, 5).concat(), said.clone()].concat();
    world.import(&write(world.path("talk.json"), &export(CHANNEL, &messages)));
    world.settle();
    assert!(shows(&world, "flowerpot"), "the secret is not found to begin with");
    (world, said)
}

/// True if a search for the secret shows a text with this word.
fn shows(world: &World, word: &str) -> bool {
    world.search(GUILD, SECRET).iter().any(|found| found["preview"].as_str().unwrap().contains(word))
}

/// True if a point's preview contains this word, or a point lists the message.
async fn is_in_points(world: &World, word: &str, message: i64) -> bool {
    points(world, GUILD).await.values().any(|point| {
        point.payload.preview.as_ref().unwrap().as_str().contains(word)
            || point.payload.message_ids.iter().any(|id| id.get() == message)
    })
}

async fn delete(ingest: &Ingest, messages: &[&Value]) -> usize {
    let ids: Vec<MessageId> = messages.iter().map(|m| id(m).try_into().unwrap()).collect();
    ingest.delete(GUILD.try_into().unwrap(), CHANNEL.try_into().unwrap(), &ids).await.unwrap()
}

/// Stores an edit as a bot would.
async fn edit(ingest: &Ingest, message: &Value, at: DateTime<Utc>, text: &str) {
    let channel = Channel {
        guild_id: GUILD.try_into().unwrap(),
        guild_name: "Test".to_owned(),
        id: CHANNEL.try_into().unwrap(),
        name: "channel-1".to_owned(),
        parent_id: None,
    };
    let author = &message["author"];
    let message = Message {
        guild_id: channel.guild_id,
        channel_id: channel.id,
        id: id(message).try_into().unwrap(),
        author: Author::member(
            author["id"].as_str().unwrap().parse().unwrap(),
            author["name"].as_str().unwrap().to_owned(),
        ),
        kind: MessageKind::Conversation,
        sent_at: message["timestamp"].as_str().unwrap().parse().unwrap(),
        edited_at: Some(at),
        links: Links::default(),
        text: SearchText::from_parts([text]),
    };
    let done = ingest.messages(&channel, &[message], JobQueue::Live).await.unwrap();
    assert_eq!(done.edited, 1);
}

#[tokio::test]
async fn a_deleted_message_is_hidden_before_any_job_runs() {
    let (world, said) = world_with_a_secret().await;
    assert_eq!(delete(&world.ingest(), &[&said[1]]).await, 1);
    assert!(is_in_points(&world, "flowerpot", id(&said[1])).await, "its point was removed already");
    assert!(!shows(&world, "flowerpot"));
    assert!(world.search(GUILD, SECRET).iter().all(|found| found["first_message_id"] != said[0]["id"]));

    world.settle();
    assert!(!shows(&world, "flowerpot"));
    assert!(shows(&world, "workshop on Sunday"), "the rest of the conversation is lost");
    assert!(!is_in_points(&world, "flowerpot", id(&said[1])).await);
    assert_consistent(&world, &points(&world, GUILD).await).await;
}

#[tokio::test]
async fn deletions_and_edits_apply_at_once_and_reach_the_index() {
    let (world, said) = world_with_a_secret().await;
    let up = world.up().await;
    let ingest = world.ingest();

    edit(&ingest, &said[1], minute(60_010), "the spare key lies in the crimson teapot").await;
    assert!(!shows(&world, "flowerpot"), "the text before the edit is shown");
    world.wait_idle().await;
    assert!(shows(&world, "crimson teapot"));
    assert!(!shows(&world, "flowerpot"));

    delete(&ingest, &[&said[1]]).await;
    assert!(!shows(&world, "teapot"));
    world.wait_idle().await;
    assert!(!shows(&world, "teapot"));
    assert!(shows(&world, "workshop on Sunday"), "the rest of the conversation is lost");

    delete(&ingest, &[&said[0], &said[2]]).await;
    assert!(!shows(&world, "workshop"));
    world.wait_idle().await;
    assert!(up.stop().await.success());
    for message in &said {
        assert!(!is_in_points(&world, "flowerpot", id(message)).await);
        assert!(!is_in_points(&world, "teapot", id(message)).await);
    }
    let points = points(&world, GUILD).await;
    assert_eq!(points.len(), 5, "the other conversations");
    assert_consistent(&world, &points).await;
    assert_eq!(world.value::<i64>("SELECT count(*) FROM jobs WHERE state <> 'completed'").await, 0);
}

#[tokio::test]
async fn an_edit_that_makes_a_session_ineligible_removes_it_from_the_index() {
    let world = World::new().await;
    let lone =
        message(minute(0), 1, "one message by itself is worth a place in the index if it is long enough");
    let ingest = world.ingest();
    world.import(&write(world.path("lone.json"), &export(CHANNEL, std::slice::from_ref(&lone))));
    world.settle();
    assert_eq!(points(&world, GUILD).await.len(), 1);
    edit(&ingest, &lone, minute(1), "never mind").await;
    world.settle();
    let left: i64 = world.value("SELECT count(*) FROM indexed_sessions").await;
    assert_eq!((points(&world, GUILD).await.len(), left), (0, 0));
}

#[tokio::test]
async fn a_session_whose_first_message_changes_leaves_no_points_under_its_old_id() {
    let world = World::new().await;
    let said = conversations(8, 1).concat();
    world.import(&write(world.path("late.json"), &export(CHANNEL, &said[1..])));
    world.settle();
    world.import(&write(world.path("all.json"), &export(CHANNEL, &said)));
    world.settle();
    let points = points(&world, GUILD).await;
    assert_eq!(points.len(), 1);
    assert_consistent(&world, &points).await;
    assert_eq!(world.search(GUILD, "oak")[0]["first_message_id"], said[0]["id"]);
}

#[tokio::test]
async fn an_import_restores_no_deleted_message_and_overwrites_no_newer_edit() {
    let (world, said) = world_with_a_secret().await;
    let ingest = world.ingest();
    delete(&ingest, &[&said[1]]).await;
    edit(&ingest, &said[2], minute(60_010), "wonderful, I shall be there at half past ten").await;
    world.import(&world.path("talk.json"));
    world.settle();
    assert!(!shows(&world, "flowerpot"));
    assert!(shows(&world, "half past ten") && !shows(&world, "nine o'clock"));
    let texts: Vec<String> = world.value("SELECT array_agg(text) FROM messages").await;
    assert!(texts.iter().all(|text| !text.contains("flowerpot")), "a tombstone has a text");
}
