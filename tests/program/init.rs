//! Creating and checking collections.

use crate::samples::{MAKERS, samples};
use crate::world::World;

#[tokio::test]
async fn init_creates_collections_and_its_check_then_passes() {
    let world = World::new().await;
    let outcome = world.fails(&["init", "--check"]);
    assert!(outcome.stderr.contains("there is no index"), "{outcome}");
    world.ok(&["init"]);
    let outcome = world.ok(&["init", "--check"]);
    assert!(outcome.stdout.contains(": ok"), "{outcome}");
}

#[tokio::test]
async fn a_recreated_collection_is_filled_again() {
    let world = World::new().await;
    world.import(samples());
    world.settle();
    let before = world.search(MAKERS, "stringing between printed towers");
    let outcome = world.ok(&["init", "--recreate"]);
    assert!(outcome.stdout.contains("sessions will be indexed again"), "{outcome}");
    assert!(world.search(MAKERS, "stringing between printed towers").is_empty());
    world.settle();
    assert_eq!(world.search(MAKERS, "stringing between printed towers"), before);
}
