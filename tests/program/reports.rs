//! `guildex status` and `guildex eval sessions`.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::export::{CHANNEL, GUILD, conversations, export, write};
use crate::world::World;

#[tokio::test]
async fn the_status_counts_messages_sessions_and_jobs() {
    let world = World::new().await;
    assert!(world.ok(&["status"]).stdout.starts_with("no guilds yet"));
    let talk = conversations(7, 6);
    let messages = talk.concat();
    world.import(&write(world.path("talk.json"), &export(CHANNEL, &messages)));
    let row = || {
        let table = world.ok(&["status"]).stdout;
        let (guilds, models) = table.split_once("\n\n").unwrap();
        assert!(models.starts_with("no models yet") || models.contains("all-minilm-l6-v2-fp32"), "{table}");
        let lines: Vec<&str> = guilds.lines().collect();
        assert_eq!(lines.len(), 2, "{table}");
        for name in ["guild", "messages", "eligible", "indexed", "pending", "dead", "oldest pending"] {
            assert!(lines[0].contains(name), "{table}");
        }
        lines[1].split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let (guild, count) = (GUILD.to_string(), messages.len().to_string());
    assert_eq!(row()[..8], [&*guild, "Test", &count, "6", "6", "0", "6", "0"]);
    world.settle();
    assert_eq!(row(), [&*guild, "Test", &count, "6", "6", "6", "0", "0", "-"]);

    let one = world.ok(&["status", "--guild", &guild, "--json"]).json();
    assert_eq!(one["guilds"].as_array().unwrap().len(), 1);
    assert_eq!(one["guilds"][0]["guild_id"], guild);
    let none = world.ok(&["status", "--guild", "4711", "--json"]).json();
    assert_eq!(none["guilds"], json!([]));
    let model = &one["models"][0];
    assert_eq!(
        (&model["state"], &model["indexed"], &model["missing"]),
        (&json!("active"), &json!(6), &json!(0))
    );
    let rejected = world.fails(&["status", "--guild", "4711"]);
    assert!(rejected.stderr.contains("unknown guild 4711"), "{rejected}");
}

#[tokio::test]
async fn the_status_lists_processes_and_their_memory() {
    let world = World::new().await;
    assert!(world.ok(&["status"]).stdout.contains("no running processes"));
    let up = world.up().await;
    world.wait_for("SELECT count(*) = 1 FROM processes").await;
    let process = world.ok(&["status", "--json"]).json()["processes"][0].clone();
    assert_eq!(
        (&process["role"], &process["jobs"], &process["slots"]),
        (&json!("up"), &json!(0), &json!(336))
    );
    let (memory, peak) = (process["memory_bytes"].as_i64().unwrap(), process["peak_bytes"].as_i64().unwrap());
    assert!(1 << 20 < memory && memory <= peak, "{process}");
    assert!(world.ok(&["status"]).stdout.contains(" MiB"));
    world.wait_for("SELECT count(*) >= 5 FROM scheduler_tasks").await;
    let tasks = world.ok(&["status", "--json"]).json()["tasks"].clone();
    let dispatch = tasks.as_array().unwrap().iter().find(|task| task["name"] == "dispatch_live").unwrap();
    assert!(dispatch["error"].is_null() && dispatch["succeeded_at"].is_string(), "{dispatch}");
    assert!(world.ok(&["status"]).stdout.contains("dispatch_live"));
    up.stop().await;
    assert_eq!(
        world.value::<i64>("SELECT count(*) FROM processes").await,
        0,
        "a stopped process is still listed"
    );
}

/// Writes a channel's export and its annotations; with `wrong`, one message is in the wrong conversation.
fn annotated(world: &World, name: &str, channel: i64, wrong: bool) -> (PathBuf, PathBuf) {
    let mut talk = conversations(u64::try_from(channel % 100).unwrap(), 8);
    let exported = export(channel, &talk.concat());
    if wrong {
        let moved = talk[0].pop().unwrap();
        talk[1].push(moved);
    }
    let ids: Vec<Vec<&Value>> = talk.iter().map(|said| said.iter().map(|m| &m["id"]).collect()).collect();
    let gold = json!({
        "guild_id": GUILD.to_string(),
        "channel_id": channel.to_string(),
        "first_annotated_message_id": ids[0][0],
        "conversations": ids,
    });
    let exports = write(world.path(&format!("exports/{name}.json")), &exported);
    (exports, write(world.path(&format!("gold/{name}.json")), &gold))
}

#[tokio::test]
async fn an_evaluation_scores_each_channel_against_its_annotations() {
    let world = World::new().await;
    annotated(&world, "right", CHANNEL, false);
    let (_, wrong) = annotated(&world, "wrong", CHANNEL + 1, true);
    let evaluate = ["eval", "sessions", "--exports", "exports", "--annotations", "gold"];
    let report = world.ok(&[&evaluate[..], &["--json"]].concat()).json();
    let names: Vec<&Value> = report["channels"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
    assert_eq!(names, ["right", "wrong"]);
    let [right, other] = [0, 1].map(|place| &report["channels"][place]);
    for measure in ["vi", "one_to_one", "precision", "recall", "exact_f1"] {
        assert_eq!(right["sessionizer"][measure], 100.0, "{measure}: {right}");
        assert!(other["sessionizer"][measure].as_f64().unwrap() < 100.0, "{measure}: {other}");
    }
    assert_eq!(other["sessionizer"]["recall"], 75.0, "six of eight conversations match");
    assert_eq!(report["total"]["conversations"], 16);
    assert_eq!(report["total"]["sessionizer"]["recall"], 87.5, "fourteen of sixteen");

    let table = world.ok(&evaluate).stdout;
    assert!(table.starts_with("2 channels, ") && table.contains("in 16 conversations"), "{table}");
    let sessionizer = table.lines().find(|line| line.starts_with("sessionizer")).unwrap();
    assert!(sessionizer.ends_with("87.5"), "{table}");

    std::fs::remove_file(wrong).unwrap();
    let rejected = world.fails(&evaluate);
    assert!(rejected.stderr.contains("wrong.json"), "{rejected}");
}
