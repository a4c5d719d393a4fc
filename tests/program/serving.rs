//! One process owns the embedded index; others search through its socket.

use crate::export::{CHANNEL, GUILD, conversations, export, write};
use crate::world::World;

async fn small_world() -> World {
    let world = World::new().await;
    let messages = conversations(3, 4).concat();
    world.import(&write(world.path("small.json"), &export(CHANNEL, &messages)));
    world.settle();
    world
}

#[tokio::test]
async fn a_search_gives_the_same_results_with_and_without_a_serving_process() {
    let world = small_world().await;
    let query = "a lathe of walnut and oak";
    let alone = world.search(GUILD, query);
    assert_eq!(alone.len(), 4);
    let up = world.up().await;
    assert_eq!(world.search(GUILD, query), alone);
    up.kill();
    assert_eq!(world.search(GUILD, query), alone, "the search used the socket of a dead process");
}

#[tokio::test]
async fn a_second_process_on_the_same_folder_is_rejected() {
    let world = small_world().await;
    let mut up = world.up().await;
    for role in [&["up"][..], &["up", "--until-idle"], &["worker"]] {
        let rejected = world.fails(role);
        let holder = format!("in use by process {}", up.id());
        assert!(rejected.stderr.contains(&holder), "{rejected}");
    }
    assert!(!up.has_ended());
    assert_eq!(world.search(GUILD, "oak").len(), 4, "the rejected process removed the socket");
}

#[tokio::test]
async fn an_empty_query_is_an_error_and_an_unknown_guild_has_no_results() {
    let world = small_world().await;
    let guild = GUILD.to_string();
    let ask = || {
        for empty in ["", " \t "] {
            let rejected = world.fails(&["search", "--guild", &guild, empty]);
            assert!(rejected.stderr.contains("the query is empty"), "{rejected}");
        }
        assert_eq!(world.ok(&["search", "--guild", "4711", "oak"]).stdout, "no results\n");
        assert!(world.search(4711, "oak").is_empty());
    };
    ask();
    let _up = world.up().await;
    ask();
}

#[tokio::test]
async fn the_command_line_supports_every_search_parameter() {
    let world = small_world().await;
    let guild = GUILD.to_string();
    let search = |arguments: &[&str]| {
        let outcome = world.ok(&[&["search", "--guild", &guild, "--json"], arguments, &["walnut"]].concat());
        assert_eq!(outcome.json()["degraded"], false);
        outcome.json()["results"].as_array().unwrap().clone()
    };
    let _up = world.up().await;
    let all = search(&[]);
    assert_eq!(all.len(), 4);
    let ids = |found: &[serde_json::Value]| found.iter().map(|f| f["session_id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&search(&["--limit", "2", "--offset", "1"])), ids(&all)[1..3]);
    assert!(search(&["--author", "1"]).is_empty());
    assert!(search(&["--until", "2025-03-03"]).is_empty());
    assert_eq!(search(&["--since", "2025-03-03", "--until", "2999-01-01T00:00:00Z"]).len(), 4);
    assert!(search(&["--min-score", "1"]).is_empty());
    assert!(search(&["--mode", "dense"])[0]["score"].as_f64().unwrap() > 0.1);
    assert_eq!(search(&["--model", "all-minilm-l6-v2-fp32"]).len(), 4);
    let after = &search(&["--surrounding", "1"])[0]["surrounding"];
    assert!(after["before"].as_array().unwrap().len() + after["after"].as_array().unwrap().len() > 0);

    let rejected = world.fails(&["search", "--guild", &guild, "--offset", "199", "--limit", "2", "oak"]);
    assert!(rejected.stderr.contains("exceed the first 200 sessions"), "{rejected}");
    let rejected = world.fails(&["search", "--guild", &guild, "--model", "nobodys", "oak"]);
    assert!(rejected.stderr.contains("all-minilm-l6-v2-fp32"), "{rejected}");
}

#[tokio::test]
async fn a_degraded_response_is_reported_on_stderr_and_in_json() {
    let world = World::with("[search]\nfallback = \"postgres\"").await;
    let messages = conversations(3, 4).concat();
    world.import(&write(world.path("small.json"), &export(CHANNEL, &messages)));
    world.settle();
    let _up = world.up().await;
    let guild = GUILD.to_string();
    let search = ["search", "--guild", &guild, "--json", "oak"];
    assert_eq!(world.ok(&search).json()["degraded"], false);
    // No model is active, so there is no collection to search.
    sqlx::query("UPDATE models SET state = 'retired'").execute(&world.pool).await.unwrap();
    let degraded = world.ok(&search);
    assert!(degraded.stderr.contains("warning: answered by Postgres"), "{degraded}");
    assert_eq!(degraded.json()["degraded"], true);
    assert!(degraded.json()["reason"].as_str().unwrap().contains("nothing is indexed"));
    assert!(!degraded.json()["results"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn without_a_schema_or_a_url_the_program_says_what_to_do() {
    let world = World::new().await;
    let rejected = world.fails(&["status", "--set", "database.url="]);
    assert!(rejected.stderr.contains("DATABASE_URL"), "{rejected}");
    sqlx::query("DROP TABLE _sqlx_migrations").execute(&world.pool).await.unwrap();
    for command in [&["status"][..], &["search", "--guild", "1", "x"], &["backfill", "--guild", "1"]] {
        let rejected = world.fails(command);
        assert!(rejected.stderr.contains("run `guildex migrate`"), "{rejected}");
    }
}
