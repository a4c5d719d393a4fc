//! The embedded index belongs to one database, and can be rebuilt from it.

use std::fs;

use crate::export::{GUILD, three_channels};
use crate::points::{assert_consistent, assert_same, points};
use crate::world::World;

#[tokio::test]
async fn a_deleted_index_is_rebuilt() {
    let world = World::new().await;
    world.import(&three_channels(&world.path("town"), 15));
    world.settle();
    let before = points(&world, GUILD).await;
    assert!(before.len() >= 15, "a session without points");

    fs::remove_dir_all(world.path("d")).unwrap();
    world.settle();
    let rebuilt = points(&world, GUILD).await;
    assert_consistent(&world, &rebuilt).await;
    assert_same(&before, &rebuilt);

    fs::remove_dir_all(world.path("d/index")).unwrap();
    let rejected = world.fails(&["search", "--guild", &GUILD.to_string(), "oak"]);
    assert!(rejected.stderr.contains("there is no index in"), "{rejected}");
    world.settle();
    assert_same(&before, &points(&world, GUILD).await);
    assert!(!world.search(GUILD, "oak").is_empty());
}

#[tokio::test]
async fn an_index_of_another_database_is_rejected_unchanged() {
    let owner = World::new().await;
    owner.import(&three_channels(&owner.path("town"), 6));
    owner.settle();
    let before = points(&owner, GUILD).await;

    let stranger = World::new().await;
    stranger.import(&three_channels(&stranger.path("town"), 3));
    let folder = format!("data_dir={}", owner.path("d").display());
    let guild = GUILD.to_string();
    for command in [&["up", "--until-idle"][..], &["worker"], &["search", "--guild", &guild, "oak"]] {
        let rejected = stranger.fails(&[command, &["--set", &folder]].concat());
        assert!(rejected.stderr.contains("belongs to another database"), "{rejected}");
    }
    let after = points(&owner, GUILD).await;
    assert_same(&before, &after);
    assert_consistent(&owner, &after).await;
}

#[tokio::test]
async fn an_index_replaced_by_another_is_rejected() {
    let world = World::new().await;
    world.import(&three_channels(&world.path("town"), 3));
    world.settle();
    let folder = format!("data_dir={}", world.path("e").display());
    world.ok(&["up", "--until-idle", "--set", &folder]);
    let guild = GUILD.to_string();
    let other_folder = world.ok(&["search", "--guild", &guild, "--set", &folder, "oak"]);
    assert_ne!(other_folder.stdout, "no results\n");
    for command in [&["up", "--until-idle"][..], &["search", "--guild", &guild, "oak"]] {
        let rejected = world.fails(command);
        assert!(
            rejected.stderr.contains("is out of date because another collection has replaced it"),
            "{rejected}"
        );
    }
}
