//! Several dispatchers and workers on one index server, started, killed and frozen.

use guildex_types::{JobQueue, Message, SearchText};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use crate::export::{CHANNEL, GUILD, minute};
use crate::feed::{channel, conversation, ids};
use crate::points::{assert_consistent, collection, points_in};
use crate::world::{Running, World, wait_until};
use guildex_test_support::qdrant::{Fault, StandIn};

/// Small batches, so that kills fall between them; each kill costs the claimed jobs an attempt.
fn on(server: &StandIn, more: &str) -> String {
    format!("worker.max_attempts = 100\n{more}\n[index]\nbackend = \"server\"\n{}", server.toml())
}

async fn store(world: &World, messages: &[Message]) {
    world.ingest().messages(&channel(), messages, JobQueue::Live).await.unwrap();
}

fn edited(number: i64, later: i64) -> Message {
    let [first, _] = conversation(number, "?");
    Message {
        edited_at: Some(minute(number * 24 * 60 + 10 + later)),
        text: SearchText::from_parts([format!("it is a matter of {later} clamps").as_str()]),
        ..first
    }
}

async fn delete(world: &World, number: i64) {
    world
        .ingest()
        .delete(GUILD.try_into().unwrap(), CHANNEL.try_into().unwrap(), &ids(number))
        .await
        .unwrap();
}

async fn assert_all_consistent(world: &World, server: &StandIn) {
    let points = points_in(&server.index(), &collection("guildex"), GUILD).await;
    assert_consistent(world, &points).await;
    assert_eq!(world.value::<i64>("SELECT count(*) FROM jobs WHERE state <> 'completed'").await, 0);
}

#[tokio::test]
async fn dispatchers_and_workers_can_start_and_die_under_traffic() {
    let server = StandIn::start().await;
    let world = World::with(&on(&server, "worker.batch_size = 8\nworker.lease = \"5s\"")).await;
    let mut random = StdRng::seed_from_u64(7);
    let mut dispatchers: Vec<Running> = (0..3).map(|_| world.start(&["dispatcher"])).collect();
    let mut workers: Vec<Running> = (0..3).map(|_| world.start(&["worker"])).collect();
    let mut stored = 0;
    let mut indexed = 0;
    for round in 1..=6 {
        for _ in 0..40 {
            stored += 1;
            store(&world, &conversation(stored, "how long does the glue take")).await;
        }
        for later in 0..20 {
            let number = random.random_range(1..=stored);
            match random.random_range(0..3) {
                0 => delete(&world, number).await,
                _ => store(&world, &[edited(number, 100 * round + later)]).await,
            }
        }
        // While jobs run, and not before a worker runs again.
        indexed += 5;
        wait_until("some more are indexed", || async {
            world.value::<i64>("SELECT count(*) FROM indexed_sessions").await >= indexed
        })
        .await;
        let place = random.random_range(0..3);
        if round % 2 == 0 {
            dispatchers.remove(place).kill();
            dispatchers.push(world.start(&["dispatcher"]));
        }
        workers.remove(place).kill();
        workers.push(world.start(&["worker"]));
        indexed = world.value::<i64>("SELECT count(*) FROM indexed_sessions").await;
    }
    world.wait_idle().await;
    assert_all_consistent(&world, &server).await;
    for process in dispatchers.into_iter().chain(workers) {
        assert!(process.stop().await.success());
    }
}

#[tokio::test]
async fn jobs_of_a_killed_worker_are_done_by_another() {
    let server = StandIn::start().await;
    // The default settings.
    let world = World::with(&on(&server, "")).await;
    let _dispatcher = world.start(&["dispatcher"]);
    server.faults.always("upsert", Fault::Slow);
    let doomed = world.start(&["worker"]);
    for number in 1..=20 {
        store(&world, &conversation(number, "does it hold")).await;
    }
    server.faults.until_slow(1).await;
    world.wait_for("SELECT count(*) = 20 FROM jobs WHERE state = 'running'").await;
    let other = world.start(&["worker"]);
    wait_until("the other worker works", || async { other.log().contains("guildex started") }).await;
    server.faults.always("upsert", Fault::None);

    doomed.kill();
    let died = Instant::now();
    world
        .wait_for(
            "SELECT count(*) = 20 FROM jobs WHERE state = 'running' AND attempts = 2 OR state = 'completed'",
        )
        .await;
    eprintln!("jobs of a killed worker run in another after {:.1?}", died.elapsed());
    world.wait_idle().await;
    assert_all_consistent(&world, &server).await;
    let crashed =
        "SELECT count(*) FROM jobs WHERE jsonb_array_length(attempts_log) = 1 AND state = 'completed'";
    assert_eq!(world.value::<i64>(crashed).await, 20);
    assert!(other.stop().await.success());
}

#[tokio::test]
async fn a_worker_frozen_past_its_lease_changes_nothing_when_it_resumes() {
    let server = StandIn::start().await;
    let world = World::with(&on(&server, "worker.batch_size = 8\nworker.lease = \"5s\"")).await;
    let _dispatcher = world.start(&["dispatcher"]);
    let frozen = world.start(&["worker"]);
    for number in 1..=120 {
        store(&world, &conversation(number, "does it hold")).await;
    }
    world.wait_for("SELECT count(*) > 5 FROM indexed_sessions").await;
    frozen.freeze();
    world.wait_for("SELECT count(*) > 0 FROM jobs WHERE state = 'running'").await;

    // Many sessions that it loaded change meanwhile.
    for number in 1..=120 {
        match number % 3 {
            0 => delete(&world, number).await,
            1 => store(&world, &[edited(number, 1)]).await,
            _ => {}
        }
    }
    let other = world.start(&["worker"]);
    world.wait_idle().await;
    assert_all_consistent(&world, &server).await;

    let upserts = server.faults.calls("upsert");
    frozen.wake();
    // It loses its claims, and takes new jobs.
    wait_until("it has come to itself", || async {
        let log = frozen.log();
        log.contains("leases lost") || server.faults.calls("upsert") > upserts
    })
    .await;
    assert!(other.stop().await.success());
    for number in 121..=140 {
        store(&world, &conversation(number, "does it hold now")).await;
    }
    world.wait_idle().await;
    assert!(frozen.stop().await.success());
    world.wait_idle().await;
    assert_all_consistent(&world, &server).await;
}
