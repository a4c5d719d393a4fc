//! `guildex forget`, `opt-out` and retention, down to the points in the index.

use chrono::{DateTime, TimeDelta, Utc};
use guildex_store::channels::Channel;
use guildex_types::{Author, JobQueue, Links, Message, MessageKind, SearchText};
use serde_json::{Value, json};

use crate::export::{CHANNEL, GUILD, conversations, export, id, message, minute, reply, write};
use crate::points::{assert_consistent, points};
use crate::world::{World, wait_until};

/// The forgotten member: author 7 of [`message`].
const MEMBER: i64 = 907;
/// A word that only this member uses.
const SECRET: &str = "flowerpot";

/// A conversation of members 1 and 7 at some hour, in which 7 is_secret the secret.
fn conversation(hour: i64) -> Vec<Value> {
    let first = message(minute(60 * hour), 1, "how do I get into the workshop on Sunday");
    let secret = reply(minute(60 * hour + 1), 7, "the spare key lies under the turquoise flowerpot", &first);
    let last = reply(minute(60 * hour + 2), 1, "wonderful, I shall be there at nine o'clock", &secret);
    vec![first, secret, last]
}

/// Imports and indexes two channels and a thread of the first, each with the secret, and other conversations.
fn world_with_secrets(world: &World) -> Vec<Value> {
    let said = conversation(2_000);
    let help = [conversations(4, 5).concat(), said.clone()].concat();
    write(world.path("talk/help.json"), &export(CHANNEL, &help));
    write(world.path("talk/shop.json"), &export(CHANNEL + 1, &conversation(2_100)));
    let mut thread = export(CHANNEL + 2, &conversation(2_200));
    thread["channel"]["type"] = "GuildPublicThread".into();
    thread["channel"]["categoryId"] = CHANNEL.to_string().into();
    thread["channel"]["category"] = "channel-1".into();
    write(world.path("talk/thread.json"), &thread);
    world.import(&world.path("talk"));
    world.settle();
    said
}

/// Number of channels in which a search shows the secret.
fn shown(world: &World) -> usize {
    let found = world.search(GUILD, SECRET);
    found.iter().filter(|found| found["preview"].as_str().unwrap().contains(SECRET)).count()
}

/// Number of points with the secret in their preview, or with one of the member's messages.
async fn in_points(world: &World) -> usize {
    let member = MEMBER.try_into().unwrap();
    let is_secret = |point: &guildex_index::Point| {
        point.payload.preview.as_ref().unwrap().as_str().contains(SECRET)
            || point.payload.author_ids.contains(&member)
    };
    points(world, GUILD).await.values().filter(|point| is_secret(point)).count()
}

/// Runs a command beside a worker until its receipt is completed; returns the receipt.
async fn forget(world: &World, arguments: &[&str]) -> Value {
    let up = world.up().await;
    let guild = GUILD.to_string();
    let outcome = world.ok(&[&["forget", "--guild", &guild, "--json"], arguments].concat());
    assert!(up.stop().await.success());
    outcome.json()
}

fn numbers(receipt: &Value) -> (u64, u64, u64) {
    let number = |key: &str| receipt[key].as_u64().unwrap();
    let time = |key: &str| receipt[key].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    assert!(time("asked_at") <= time("completed_at"), "{receipt}");
    (number("messages"), number("sessions"), number("points"))
}

#[tokio::test]
async fn a_forgotten_member_is_erased_from_rows_and_points_and_imports_do_not_restore_it() {
    let world = World::new().await;
    world_with_secrets(&world);
    assert_eq!((shown(&world), in_points(&world).await), (3, 3), "the secret is not indexed");

    let receipt = forget(&world, &["--user", "907"]).await;
    assert_eq!(numbers(&receipt), (3, 3, 3));
    assert_eq!((&receipt["scope"], &receipt["member_id"]), (&json!("member"), &json!("907")));
    let after = async || {
        assert_eq!((shown(&world), in_points(&world).await), (0, 0));
        let with_secret = "SELECT (SELECT count(*) FROM messages WHERE text LIKE '%flowerpot%')
                           + (SELECT count(*) FROM users WHERE 'member7' IN (username, display_name))";
        assert_eq!(world.value::<i64>(with_secret).await, 0);
        assert_consistent(&world, &points(&world, GUILD).await).await;
    };
    after().await;
    let kept = world.search(GUILD, "workshop on Sunday");
    assert!(kept[0]["preview"].as_str().unwrap().contains("workshop"), "messages of others are lost");

    world.import(&world.path("talk"));
    world.settle();
    after().await;
    assert_eq!(numbers(&forget(&world, &["--user", "907"]).await), (0, 0, 0));
}

#[tokio::test]
async fn forgetting_a_channel_forgets_its_threads() {
    let world = World::new().await;
    world_with_secrets(&world);
    let parent: i64 = world.value("SELECT count(*) FROM channels WHERE parent_id IS NOT NULL").await;
    assert_eq!(parent, 1, "there is no thread");
    let receipt = forget(&world, &["--channel", &CHANNEL.to_string()]).await;
    let (messages, sessions, removed) = numbers(&receipt);
    assert!(messages > 6 && sessions == 7 && removed >= 7, "{receipt}");

    world.import(&world.path("talk"));
    world.settle();
    assert_eq!((shown(&world), in_points(&world).await), (1, 1), "the other channel has its message");
    assert_eq!(world.value::<i64>("SELECT count(*) FROM messages").await, 3);
    assert_eq!(world.value::<i64>("SELECT count(*) FROM channels WHERE name <> ''").await, 1);
    assert_consistent(&world, &points(&world, GUILD).await).await;
}

#[tokio::test]
async fn forgetting_a_guild_removes_all_points() {
    let world = World::new().await;
    world_with_secrets(&world);
    let rejected = world.fails(&["forget", "--guild", &GUILD.to_string(), "--all"]);
    assert!(rejected.stderr.contains("--yes"), "{rejected}");
    assert_eq!(shown(&world), 3);

    let receipt = forget(&world, &["--all", "--yes"]).await;
    assert_eq!(receipt["scope"], "guild");
    world.import(&world.path("talk"));
    world.settle();
    assert!(world.search(GUILD, SECRET).is_empty());
    assert!(points(&world, GUILD).await.is_empty());
    let left = "SELECT (SELECT count(*) FROM messages) + (SELECT count(*) FROM sessions WHERE deleted_at IS NULL)
                       + (SELECT count(*) FROM indexed_sessions) + (SELECT count(*) FROM guilds WHERE name <> '')";
    assert_eq!(world.value::<i64>(left).await, 0);
}

#[tokio::test]
async fn messages_are_forgotten_by_id_alone_and_the_receipt_is_readable() {
    let world = World::new().await;
    let said = world_with_secrets(&world);
    let in_thread = id(&conversation(2_100)[1]);
    let up = world.up().await;
    let [one, two, unseen] = [id(&said[1]), in_thread, 77].map(|id| id.to_string());
    let outcome =
        world.ok(&["forget", "--guild", &GUILD.to_string(), "--message", &one, &two, "--message", &unseen]);
    for line in ["forgotten  3 messages of guild", "messages   2\n", "sessions   2\n", "points     2\n"] {
        assert!(outcome.stdout.contains(line), "{outcome}");
    }
    assert!(!outcome.stdout.contains("not yet"), "{outcome}");
    assert!(up.stop().await.success());
    assert_eq!((shown(&world), in_points(&world).await), (1, 1), "the thread has its message");
}

#[tokio::test]
async fn forgetting_without_a_worker_says_so_and_completes_once_one_runs() {
    let world = World::new().await;
    world_with_secrets(&world);
    let waiting = world.start(&["forget", "--guild", &GUILD.to_string(), "--user", "907"]);
    wait_until("it says that it waits for a worker", || {
        let log = waiting.log();
        async move { log.contains("waiting for workers") && log.contains("no worker seems to run") }
    })
    .await;
    assert_eq!(shown(&world), 0, "a search finds it before a worker runs");
    assert!(in_points(&world).await > 0, "the points were removed already");
    let stopped = waiting.stop().await;
    assert_eq!(stopped.code(), Some(130));

    world.settle();
    assert_eq!(in_points(&world).await, 0);
    let again = world.ok(&["forget", "--guild", &GUILD.to_string(), "--user", "907", "--json"]).json();
    assert_eq!(numbers(&again), (0, 0, 0));
    let detached =
        world.ok(&["forget", "--guild", &GUILD.to_string(), "--channel", &CHANNEL.to_string(), "--detach"]);
    assert!(detached.stdout.contains("completed  not yet"), "{detached}");
}

#[tokio::test]
async fn a_member_who_opts_out_is_forgotten_and_not_stored_until_opting_in() {
    let world = World::new().await;
    world_with_secrets(&world);
    let guild = GUILD.to_string();
    let up = world.up().await;
    let receipt = world.ok(&["opt-out", "--guild", &guild, "--user", "907", "--json"]).json();
    assert_eq!(numbers(&receipt), (3, 3, 3));
    assert_eq!(store_message(&world, Utc::now() + TimeDelta::hours(1)).await, 0);
    let undone = world.ok(&["opt-in", "--guild", &guild, "--user", "907"]);
    assert!(undone.stdout.contains("new messages are stored again"), "{undone}");
    assert_eq!(store_message(&world, Utc::now() - TimeDelta::hours(1)).await, 0);
    assert_eq!(store_message(&world, Utc::now() + TimeDelta::hours(1)).await, 1);
    world.wait_idle().await;
    assert!(up.stop().await.success());
    assert_eq!(shown(&world), 1);
}

/// Stores one more message of the member, long enough to be indexed alone; returns how many were stored.
async fn store_message(world: &World, at: DateTime<Utc>) -> usize {
    let channel = Channel {
        guild_id: GUILD.try_into().unwrap(),
        guild_name: "Test".to_owned(),
        id: CHANNEL.try_into().unwrap(),
        name: "channel-1".to_owned(),
        parent_id: None,
    };
    let message = Message {
        guild_id: channel.guild_id,
        channel_id: channel.id,
        id: crate::export::snowflake(at, 7).try_into().unwrap(),
        author: Author::member(MEMBER.try_into().unwrap(), "member7".to_owned()),
        kind: MessageKind::Conversation,
        sent_at: at,
        edited_at: None,
        links: Links::default(),
        text: SearchText::from_parts([
            "the key is no longer under the turquoise flowerpot but in the letter box beside the door",
        ]),
    };
    world.ingest().messages(&channel, &[message], JobQueue::Live).await.unwrap().new
}

#[tokio::test]
async fn messages_older_than_the_retention_period_are_deleted() {
    let world = World::with("retention.messages = \"24h\"").await;
    let recent = Utc::now() - TimeDelta::hours(1);
    let fresh =
        message(recent, 1, "a message of today that is long enough to be in the index by itself, I hope");
    let old = conversation(0);
    world.import(&write(
        world.path("old.json"),
        &export(CHANNEL, &[old.clone(), vec![fresh.clone()]].concat()),
    ));
    assert_eq!(world.value::<i64>("SELECT count(*) FROM messages").await, 1, "an expired message is stored");

    // Stored before the configuration changed.
    world.ok(&["import", "--set", "retention.messages=", world.path("old.json").to_str().unwrap()]);
    assert_eq!(world.value::<i64>("SELECT count(*) FROM messages").await, 4);
    world.settle();
    assert_eq!(shown(&world), 0);
    assert_eq!(world.value::<i64>("SELECT count(*) FROM messages WHERE deleted_at IS NULL").await, 1);
    let points = points(&world, GUILD).await;
    let left: Vec<i64> =
        points.values().flat_map(|point| &point.payload.message_ids).map(|id| id.get()).collect();
    assert_eq!(left, [id(&fresh)]);
    assert_consistent(&world, &points).await;
}
