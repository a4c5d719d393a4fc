//! The embedded index belongs to one database, and can be rebuilt from it.

use std::fs;

use crate::export::{GUILD, town};
use crate::points::{assert_consistent, assert_same, points};
use crate::world::World;

#[tokio::test]
async fn a_deleted_index_is_rebuilt() {
    let world = World::new().await;
    world.import(&town(&world.path("town"), 15));
    world.settle();
    let before = points(&world, GUILD).await;
    assert!(before.len() >= 15, "a session without points");

    fs::remove_dir_all(world.path("d")).unwrap();
    world.settle();
    let anew = points(&world, GUILD).await;
    assert_consistent(&world, &anew).await;
    assert_same(&before, &anew);

    fs::remove_dir_all(world.path("d/index")).unwrap();
    let refused = world.fails(&["search", "--guild", &GUILD.to_string(), "oak"]);
    assert!(refused.stderr.contains("there is no index in"), "{refused}");
    world.settle();
    assert_same(&before, &points(&world, GUILD).await);
    assert!(!world.search(GUILD, "oak").is_empty());
}

#[tokio::test]
async fn an_index_of_another_database_is_rejected_unchanged() {
    let owner = World::new().await;
    owner.import(&town(&owner.path("town"), 6));
    owner.settle();
    let before = points(&owner, GUILD).await;

    let stranger = World::new().await;
    stranger.import(&town(&stranger.path("town"), 3));
    let folder = format!("data_dir={}", owner.path("d").display());
    let guild = GUILD.to_string();
    for command in [&["up", "--until-idle"][..], &["worker"], &["search", "--guild", &guild, "oak"]] {
        let refused = stranger.fails(&[command, &["--set", &folder]].concat());
        assert!(refused.stderr.contains("was made from another database"), "{refused}");
    }
    let after = points(&owner, GUILD).await;
    assert_same(&before, &after);
    assert_consistent(&owner, &after).await;
}

#[tokio::test]
async fn an_index_replaced_by_another_is_rejected() {
    let world = World::new().await;
    world.import(&town(&world.path("town"), 3));
    world.settle();
    let folder = format!("data_dir={}", world.path("e").display());
    world.ok(&["up", "--until-idle", "--set", &folder]);
    let guild = GUILD.to_string();
    let elsewhere = world.ok(&["search", "--guild", &guild, "--set", &folder, "oak"]);
    assert_ne!(elsewhere.stdout, "no results\n");
    for command in [&["up", "--until-idle"][..], &["search", "--guild", &guild, "oak"]] {
        let refused = world.fails(command);
        assert!(refused.stderr.contains("is out of date, since another took its place"), "{refused}");
    }
}
