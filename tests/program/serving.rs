//! One process holds the index; others search through it.

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
async fn a_search_answers_the_same_with_and_without_a_process_that_holds_the_index() {
    let world = small_world().await;
    let query = "a lathe of walnut and oak";
    let alone = world.search(GUILD, query);
    assert_eq!(alone.len(), 4);
    let up = world.up().await;
    assert_eq!(world.search(GUILD, query), alone);
    up.kill();
    assert_eq!(world.search(GUILD, query), alone, "the socket of a dead process misled the search");
}

#[tokio::test]
async fn a_second_process_on_the_same_folder_is_refused_by_name() {
    let world = small_world().await;
    let mut up = world.up().await;
    for role in [&["up"][..], &["up", "--until-idle"], &["worker"]] {
        let refused = world.fails(role);
        let holder = format!("in use by process {}", up.id());
        assert!(refused.stderr.contains(&holder), "{refused}");
    }
    assert!(!up.has_ended());
    assert_eq!(world.search(GUILD, "oak").len(), 4, "the one that was refused took the socket away");
}

#[tokio::test]
async fn an_empty_query_is_an_error_and_an_unknown_guild_has_nothing() {
    let world = small_world().await;
    let guild = GUILD.to_string();
    let ask = || {
        for empty in ["", " \t "] {
            let refused = world.fails(&["search", "--guild", &guild, empty]);
            assert!(refused.stderr.contains("the query is empty"), "{refused}");
        }
        assert_eq!(world.ok(&["search", "--guild", "4711", "oak"]).stdout, "nothing found\n");
        assert!(world.search(4711, "oak").is_empty());
    };
    ask();
    let _up = world.up().await;
    ask();
}

#[tokio::test]
async fn without_a_schema_or_a_url_the_program_says_what_to_do() {
    let world = World::new().await;
    let refused = world.fails(&["status", "--set", "database.url="]);
    assert!(refused.stderr.contains("DATABASE_URL"), "{refused}");
    sqlx::query("DROP TABLE _sqlx_migrations").execute(&world.pool).await.unwrap();
    for command in [&["status"][..], &["search", "--guild", "1", "x"], &["backfill", "--guild", "1"]] {
        let refused = world.fails(command);
        assert!(refused.stderr.contains("run `guildex migrate`"), "{refused}");
    }
}
