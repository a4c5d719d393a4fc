//! `guildex jobs`, and processes that exit when a job hangs.

use std::path::PathBuf;

use guildex_types::{ChannelId, GuildId, MessageId};
use serde_json::Value;

use crate::export::{CHANNEL, GUILD, conversations, export, id, three_channels, write};
use crate::points::{assert_consistent, points};
use crate::world::{World, wait_until};

/// One call of the model takes seconds, longer than the time limits allow.
const OVERLOADED: &str = r#"
    model.instances = 1
    model.max_batch_tokens = 32768
    worker.batch_size = 1024
    worker.batch_wait = "2s"
    worker.max_attempts = 100
    worker.concurrency.backfill = 1000
    worker.time_limits.index_session.soft = "1s"
    worker.time_limits.index_session.hard = "1100ms"
"#;

fn write_sessions(world: &World, sessions: i64) -> PathBuf {
    write(world.path("talk.json"), &export(CHANNEL, &conversations(7, sessions).concat()))
}

/// Jobs that match the options, from `list --json`.
#[track_caller]
fn list(world: &World, options: &[&str]) -> Vec<Value> {
    let report = world.ok(&[&["jobs", "list", "--json"], options].concat()).json();
    let jobs = report["jobs"].as_array().unwrap().clone();
    assert_eq!(report["total"], jobs.len());
    jobs
}

fn job_id(job: &Value) -> String {
    job["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn jobs_are_listed_shown_cancelled_retried_and_purged() {
    let world = World::new().await;
    assert_eq!(world.ok(&["jobs", "list"]).stdout, "no matching jobs\n");
    // A new collection enqueues backfills, so it is created before the import.
    world.ok(&["init"]);
    world.import(&write_sessions(&world, 6));
    let guild = GUILD.to_string();

    // Listed.
    let jobs = list(&world, &[]);
    assert_eq!(jobs.len(), 6);
    assert_eq!(list(&world, &["--guild", "4711"]).len(), 0);
    assert_eq!(list(&world, &["--guild", &guild, "--kind", "index_session", "--queue", "backfill"]).len(), 6);
    assert_eq!(list(&world, &["--state", "dead", "--state", "completed"]).len(), 0);
    assert_eq!(list(&world, &["--older-than", "1h"]).len(), 0);
    let session = jobs[0]["payload"]["session_id"].as_str().unwrap();
    assert_eq!(list(&world, &["--session", session]), jobs[..1]);
    let limited = world.ok(&["jobs", "list", "--limit", "2"]).stdout;
    assert!(limited.contains("4 more:"), "{limited}");
    for (options, message) in [
        (["--kind", "index"], "backfill_channel"),
        (["--state", "dying"], "running"),
        (["--older-than", "long"], "as in 90m"),
    ] {
        let rejected = world.run(&[&["jobs", "list"][..], &options].concat());
        assert_eq!(rejected.status.code(), Some(2), "{rejected}");
        assert!(rejected.stderr.contains(message), "{rejected}");
    }

    // Cancelled: dead, with an entry in the attempts log.
    let rejected = world.fails(&["jobs", "cancel", "--guild", &guild]);
    assert!(rejected.stderr.contains("6 jobs match; pass --yes to cancel all of them"), "{rejected}");
    let rejected = world.fails(&["jobs", "cancel"]);
    assert!(rejected.stderr.contains("select jobs by filters"), "{rejected}");
    let one = job_id(&jobs[0]);
    assert_eq!(world.ok(&["jobs", "cancel", &one]).stdout, "cancelled 1 job\n");
    assert_eq!(world.ok(&["jobs", "cancel", "--guild", &guild, "--yes"]).stdout, "cancelled 5 jobs\n");
    assert_eq!(list(&world, &["--state", "dead", "--error", "CANCELLED by"]).len(), 6);
    let shown = world.ok(&["jobs", "show", &one, "--json"]).json();
    assert_eq!((&shown["state"], &shown["payload"]["session_id"]), (&"dead".into(), &session.into()));
    assert_eq!(shown["attempts_log"][0]["error"], "cancelled by an operator");
    let sheet = world.ok(&["jobs", "show", &one]).stdout;
    for part in [&one, session, &guild, "dead", "0/5", "cancelled by an operator"] {
        assert!(sheet.contains(part), "{part}: {sheet}");
    }
    let other_guild = world.fails(&["jobs", "show", &one, "--guild", "4711"]);
    assert!(other_guild.stderr.contains("guild 4711 has no job"), "{other_guild}");
    let over = world.fails(&["jobs", "cancel", &one]);
    assert!(over.stderr.contains("already finished"), "{over}");

    // Retried: one by its id. A backfill enqueues the others again; their dead jobs stay until they are retried.
    assert_eq!(world.ok(&["jobs", "retry", &one]).stdout, "retried 1 job\n");
    world.settle();
    assert_eq!(list(&world, &["--state", "completed", "--kind", "index_session"]).len(), 1);
    assert_eq!(list(&world, &["--state", "dead"]).len(), 5);
    world.ok(&["backfill", "--guild", &guild, "--detach"]);
    world.settle();
    assert_consistent(&world, &points(&world, GUILD).await).await;
    let again = world.fails(&["jobs", "retry", &one]);
    assert!(again.stderr.contains("completed"), "{again}");
    assert_eq!(world.ok(&["jobs", "retry", "--state", "dead", "--yes"]).stdout, "retried 5 jobs\n");
    let waiting = job_id(&list(&world, &["--state", "pending"])[0]);
    let unfinished = world.fails(&["jobs", "purge", &waiting]);
    assert!(unfinished.stderr.contains("not finished; cancel it first"), "{unfinished}");
    world.settle();

    // Purged.
    assert_eq!(world.ok(&["jobs", "purge", "--older-than", "1h", "--yes"]).stdout, "purged 0 jobs\n");
    assert_eq!(world.ok(&["jobs", "purge", &one]).stdout, "purged 1 job\n");
    let purged = world.fails(&["jobs", "show", &one]);
    assert!(purged.stderr.contains("there is no job"), "{purged}");
    world.ok(&["jobs", "purge", "--guild", &guild, "--yes"]);
    assert_eq!(world.value::<i64>("SELECT count(*) FROM jobs").await, 0);
    assert_consistent(&world, &points(&world, GUILD).await).await;
}

#[tokio::test]
async fn deletions_can_be_neither_cancelled_nor_purged() {
    let world = World::new().await;
    let messages = conversations(7, 3).concat();
    world.import(&write(world.path("talk.json"), &export(CHANNEL, &messages)));
    world.settle();
    let message = MessageId::try_from(id(&messages[0])).unwrap();
    let (guild, channel) = (GuildId::try_from(GUILD).unwrap(), ChannelId::try_from(CHANNEL).unwrap());
    world.ingest().delete(guild, channel, &[message]).await.unwrap();

    let deletion = job_id(&list(&world, &["--kind", "remove_points"])[0]);
    let rejected = world.fails(&["jobs", "cancel", &deletion]);
    assert!(rejected.stderr.contains("deletions cannot be cancelled"), "{rejected}");
    let some = world.ok(&["jobs", "cancel", "--queue", "delete", "--yes"]);
    assert_eq!(some.stdout, "cancelled 0 jobs\n");
    assert!(some.stderr.contains("unchanged: deletions cannot be cancelled"), "{some}");
    // An operator may retry it at once.
    world.ok(&["jobs", "retry", &deletion]);
    world.settle();
    let rejected = world.fails(&["jobs", "purge", &deletion]);
    assert!(rejected.stderr.contains("deletions cannot be purged"), "{rejected}");
    assert_eq!(list(&world, &["--state", "completed", "--kind", "remove_points"]).len(), 1);
}

#[tokio::test]
async fn a_worker_exits_past_a_hard_time_limit_and_up_restarts_itself() {
    let world = World::with(OVERLOADED).await;
    world.import(&three_channels(&world.path("town"), 600));

    let up = world.start(&["up"]);
    wait_until("`up` starts again", || {
        let log = up.log();
        async move { log.contains("ending this process") && log.contains("restarted after a hang") }
    })
    .await;
    let same = std::fs::read_link(format!("/proc/{}/exe", up.id()));
    assert!(same.is_ok(), "the process is the same");
    up.kill();
    assert!(world.value::<bool>("SELECT bool_or(error LIKE '%soft limit%') FROM jobs").await);

    // A worker is restarted by its supervisor alone.
    let dispatcher = world.start(&["dispatcher"]);
    let worker = world.start(&["worker"]);
    assert_eq!(worker.end().await.code(), Some(75));
    dispatcher.kill();
    assert_eq!(world.value::<i64>("SELECT count(*) FROM jobs WHERE state = 'dead'").await, 0);
}
