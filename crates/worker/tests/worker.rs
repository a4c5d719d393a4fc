//! A real worker with real queues, a real database, a real model and a real index, and now and then a fault.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use guildex_queue::testing::{connection, layout};
use guildex_types::JobQueue;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use support::{Fault, edited, exchange, reply, say, world};

// The way of a job.

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn every_session_is_indexed_and_recorded(pool: PgPool) {
    world(pool, async |world| {
        for day in 1..=12 {
            world.ingest(&exchange(day, "which filament is best for gears")).await;
        }
        let worker = world.start_worker();
        world.settle().await;
        assert_eq!(world.in_step().await, 12);
        assert!(world.jobs().await.iter().all(|job| job.state == "completed" && job.attempts == 1));
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn two_workers_share_the_work_and_do_nothing_twice(pool: PgPool) {
    world(pool, async |world| {
        for day in 1..=30 {
            world.ingest(&exchange(day, "which filament is best for gears")).await;
        }
        let workers = [world.start_worker(), world.start_worker()];
        world.settle().await;
        assert_eq!(world.in_step().await, 30);
        assert_eq!(world.model.texts().len(), 30);
        for worker in workers {
            worker.stop().await;
        }
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_session_longer_than_the_models_window_gets_several_points(pool: PgPool) {
    world(pool, async |world| {
        let mut talk = exchange(1, &"a long story about a small printer ".repeat(20)).to_vec();
        talk.extend((3..8).map(|n| reply(1, 1, say(1, n, 1, &"and what came of it in the end ".repeat(15)))));
        world.ingest(&talk).await;
        let worker = world.start_worker();
        world.settle().await;
        assert_eq!(world.in_step().await, 1);
        let points = world.points().await;
        assert!(points.len() > 1);
        let told: usize = points.iter().map(|point| point.payload.message_ids.len()).sum();
        assert!(told >= talk.len(), "every message is in some point");
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn content_that_did_not_change_is_not_embedded_again(pool: PgPool) {
    world(pool, async |world| {
        let talk = exchange(1, "does the glue hold");
        world.ingest(&talk).await;
        let worker = world.start_worker();
        world.settle().await;
        let (embedded, points) = (world.model.texts().len(), world.points().await);

        world.ingest(&[edited(9, "does the glue hold", &talk[0])]).await;
        world.settle().await;
        assert_eq!(world.model.texts().len(), embedded);
        assert_eq!(world.points().await, points);
        assert_eq!(world.in_step().await, 1);
        assert_eq!(world.shown().await, 1, "the edit does not hide what shows the same");
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_backfill_brings_back_what_the_books_have_lost(pool: PgPool) {
    world(pool, async |world| {
        world.ingest(&exchange(1, "does the glue hold")).await;
        world.ingest(&exchange(2, "is the press free")).await;
        let worker = world.start_worker();
        world.settle().await;
        sqlx::query("DELETE FROM indexed_sessions").execute(&world.pool).await.unwrap();
        guildex_producer::backfill::plan(world.ingest.pool(), world.ingest.enqueuer(), world.guild(), None)
            .await
            .unwrap();
        world.settle().await;
        assert_eq!(world.in_step().await, 2);
        worker.stop().await;
    })
    .await;
}

// Changes while the worker works.

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn an_edit_between_reading_and_recording_is_indexed_in_the_end(pool: PgPool) {
    world(pool, async |world| {
        let talk = exchange(1, "does the glue hold");
        world.ingest(&talk).await;
        world.view.upserts.close();
        let worker = world.start_worker();
        world.view.upserts.until_waiting(1).await;
        world.ingest(&[edited(9, "does the tape hold", &talk[0])]).await;
        world.view.upserts.open();
        world.settle().await;
        assert_eq!(world.in_step().await, 1);
        let previews = world.previews().await;
        assert!(previews[0].contains("tape") && !previews[0].contains("glue"));
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_session_that_is_deleted_while_it_is_indexed_leaves_no_points(pool: PgPool) {
    world(pool, async |world| {
        world.ingest(&exchange(1, "my address is a secret")).await;
        world.view.upserts.close();
        let worker = world.start_worker();
        world.view.upserts.until_waiting(1).await;
        world.delete(1, &[1, 2]).await;
        world
            .until("the removal to be done", async || {
                world.count("kind = 'remove_points' AND state = 'completed'").await == 1
            })
            .await;
        world.view.upserts.open();
        world.settle().await;
        assert_eq!(world.in_step().await, 0);
        assert!(world.points().await.is_empty());
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn what_was_deleted_is_out_of_the_index_before_the_rest_is_embedded_anew(pool: PgPool) {
    world(pool, async |world| {
        let mut talk = exchange(1, "my address is a secret").to_vec();
        talk.push(reply(1, 2, say(1, 3, 1, "better not say it here")));
        world.ingest(&talk).await;
        let worker = world.start_worker();
        world.settle().await;
        assert_eq!(world.points().await.len(), 1);

        world.model.calls.close();
        world.delete(1, &[1]).await;
        world
            .until("the removal to be done", async || {
                world.count("kind = 'remove_points' AND state = 'completed'").await == 1
            })
            .await;
        assert!(world.points().await.is_empty());
        assert_eq!(world.shown().await, 0);
        world.model.calls.open();
        world.settle().await;
        assert_eq!(world.in_step().await, 1);
        assert!(!world.previews().await[0].contains("secret"));
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_session_that_is_deleted_or_left_too_small_goes_from_index_and_books(pool: PgPool) {
    world(pool, async |world| {
        for day in 1..=3 {
            world.ingest(&exchange(day, "does the glue hold")).await;
        }
        let worker = world.start_worker();
        world.settle().await;
        world.delete(1, &[1, 2]).await;
        world.delete(2, &[2]).await;
        world.settle().await;
        assert_eq!(world.in_step().await, 1);
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_session_that_another_swallowed_leaves_no_points(pool: PgPool) {
    world(pool, async |world| {
        let talk =
            [say(1, 2, 1, "use a brim for that"), reply(1, 2, say(1, 3, 2, "that worked, many thanks"))];
        world.ingest(&talk).await;
        let worker = world.start_worker();
        world.settle().await;
        let mut late = say(1, 1, 2, "my prints warp at the corners");
        late.links.mentions.push(1.try_into().unwrap());
        world.ingest(&[late]).await;
        world.settle().await;
        assert_eq!(world.in_step().await, 1);
        worker.stop().await;
    })
    .await;
}

// Faults.

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_job_that_this_release_does_not_know_is_dead_and_the_others_go_on(pool: PgPool) {
    world(pool, async |world| {
        world.ingest(&exchange(1, "does the glue hold")).await;
        for payload in [r#"{"v": 0, "guild_id": "1"}"#, r#"{"v": 1, "guild_id": "1", "kind": "fly"}"#, "[]"] {
            sqlx::query(
                "INSERT INTO jobs (id, guild_id, kind, queue, payload, max_attempts)
                 VALUES (gen_random_uuid(), 1, 'unknown', 'live', $1::jsonb, 5)",
            )
            .bind(payload)
            .execute(&world.pool)
            .await
            .unwrap();
        }
        let worker = world.start_worker();
        world.settle().await;
        assert_eq!(world.in_step().await, 1);
        let dead: Vec<_> = world.jobs().await.into_iter().filter(|job| job.state == "dead").collect();
        assert_eq!(dead.len(), 3);
        assert!(dead.iter().all(|job| job.kind == "unknown" && job.attempts == 1 && job.error.is_some()));
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_job_of_a_newer_release_waits_for_a_worker_that_can_read_it(pool: PgPool) {
    world(pool, async |world| {
        sqlx::query(
            r#"INSERT INTO jobs (id, guild_id, kind, queue, payload, max_attempts)
               VALUES (gen_random_uuid(), 1, 'unknown', 'live', '{"v": 9999, "guild_id": "1"}', 2)"#,
        )
        .execute(&world.pool)
        .await
        .unwrap();
        let worker = world.start_worker();
        let told = "error LIKE '%9999%a newer release wrote it%'";
        let waits = format!(
            "state = 'pending' AND attempts = 1 AND run_at > now() + interval '15 seconds' AND {told}"
        );
        world.until("a pause", async || world.count(&waits).await == 1).await;

        // Nobody came in time.
        sqlx::query("UPDATE jobs SET run_at = now()").execute(&world.pool).await.unwrap();
        let dead =
            format!("state = 'dead' AND attempts = 2 AND jsonb_array_length(attempts_log) = 2 AND {told}");
        world.until("its death", async || world.count(&dead).await == 1).await;
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_session_that_makes_the_model_panic_is_dead_with_its_history_and_the_others_go_on(pool: PgPool) {
    world(pool, async |world| {
        for day in 1..=5 {
            let text = if day == 3 { "the mandrake screams" } else { "does the glue hold" };
            world.ingest(&exchange(day, text)).await;
        }
        world.model.explode("mandrake");
        let worker = world.start_worker();
        world.settle().await;
        assert_eq!(world.count("state = 'completed'").await, 4);
        let history = world.dead_history().await;
        assert_eq!(history.len(), support::MAX_ATTEMPTS as usize);
        assert!(history.iter().all(|error| error.contains("panicked")), "{history:?}");
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn what_comes_out_of_redis_and_is_no_job_is_kept_among_the_dead(pool: PgPool) {
    world(pool, async |world| {
        let junk = [&b"{\"kind\":\"nonsense\"}"[..], b"", b"\xff\xfe", b"\"no uuid\""];
        let tasks: Vec<_> = junk.iter().map(|bytes| apalis_redis::RedisTask::new(bytes.to_vec())).collect();
        let keys = layout(&world.queues, JobQueue::Live);
        apalis_redis::queries::push_tasks(&mut connection(&world.queues), &keys, &tasks).await.unwrap();
        world.ingest(&exchange(1, "does the glue hold")).await;
        let worker = world.start_worker();
        world
            .until("four dead", async || world.count("state = 'dead' AND kind = 'undecodable'").await == 4)
            .await;
        world.settle().await;
        assert_eq!(world.in_step().await, 1);
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_session_that_cannot_be_embedded_fails_alone_and_is_dead_in_the_end(pool: PgPool) {
    world(pool, async |world| {
        for day in 1..=5 {
            let text = if day == 3 { "the mandrake screams" } else { "does the glue hold" };
            world.ingest(&exchange(day, text)).await;
        }
        world.model.poison("mandrake");
        let worker = world.start_worker();
        world.settle().await;
        let (dead, done): (Vec<_>, Vec<_>) =
            world.jobs().await.into_iter().partition(|job| job.state == "dead");
        assert_eq!(dead.len(), 1);
        assert_eq!(dead[0].attempts, support::MAX_ATTEMPTS);
        assert!(!dead[0].error.as_ref().unwrap().contains("mandrake"), "an error does not quote");
        assert_eq!(done.len(), 4);
        assert!(done.iter().all(|job| job.state == "completed" && job.attempts == 1), "{done:?}");
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_batch_that_the_index_refuses_is_written_session_by_session(pool: PgPool) {
    world(pool, async |world| {
        for day in 1..=6 {
            world.ingest(&exchange(day, "does the glue hold")).await;
        }
        world.view.refuse(Fault::Upserts(1));
        let worker = world.start_worker();
        world.settle().await;
        assert_eq!(world.in_step().await, 6);
        assert!(world.jobs().await.iter().all(|job| job.attempts == 1), "nobody failed");
        assert_eq!(world.view.refused.load(Ordering::Relaxed), 1);
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_removal_that_the_index_refuses_goes_on_until_it_is_done(pool: PgPool) {
    world(pool, async |world| {
        world.ingest(&exchange(1, "my address is a secret")).await;
        let worker = world.start_worker();
        world.settle().await;
        let often = 2 * support::MAX_ATTEMPTS as usize;
        world.view.refuse(Fault::Removals(often));
        world.delete(1, &[1, 2]).await;
        world.settle().await;
        assert_eq!(world.view.refused.load(Ordering::Relaxed), often);
        assert!(world.points().await.is_empty());
        assert!(world.jobs().await.iter().all(|job| job.state == "completed"));
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_suspect_runs_alone(pool: PgPool) {
    world(pool, async |world| {
        for day in 1..=6 {
            let text = if day == 3 { "the suspect speaks" } else { "does the glue hold" };
            world.ingest(&exchange(day, text)).await;
        }
        sqlx::query(
            "UPDATE jobs SET crash_count = 2 WHERE dedup_key LIKE '%/' || (SELECT id FROM sessions WHERE first_message_id = 301)",
        )
        .execute(&world.pool)
        .await
        .unwrap();
        world.model.hold("suspect");
        let worker = world.start_worker();
        world.model.calls.until_waiting(1).await;
        // Others arrive meanwhile and are claimed: they wait.
        world.ingest(&exchange(7, "is the press free")).await;
        world.until("a claim", async || world.count("state = 'running'").await > 1).await;
        world.model.calls.open();
        world.settle().await;
        assert_eq!(world.in_step().await, 7);

        let embeddings = world.model.embeddings();
        let suspect = embeddings.iter().find(|call| call.texts.iter().any(|text| text.contains("suspect"))).unwrap();
        assert_eq!(suspect.texts.len(), 1, "in a batch of its own");
        assert!(
            embeddings.iter().all(|call| call.ended < suspect.begun || call.begun > suspect.ended || call == suspect),
            "something ran beside it: {embeddings:?}"
        );
        worker.stop().await;
    })
    .await;
}

// Ends.

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_worker_that_is_told_to_stop_ends_what_it_has_begun(pool: PgPool) {
    world(pool, async |world| {
        for day in 1..=5 {
            world.ingest(&exchange(day, "does the glue hold")).await;
        }
        world.view.upserts.close();
        let worker = world.start_worker();
        world.view.upserts.until_waiting(1).await;
        world.until("five claims", async || world.count("state = 'running'").await == 5).await;
        worker.stop.cancel();
        world.view.upserts.open();
        worker.stop().await;
        // The claims may have come in several batches: what was not begun is given back, with its attempt.
        let (ended, given_back) = (
            world.count("state = 'completed' AND attempts = 1").await,
            world.count("state = 'pending' AND attempts = 0").await,
        );
        assert!(ended >= 1, "what waited for the index was not ended");
        assert_eq!(ended + given_back, 5);
        world.until_nobody_works().await;

        let another = world.start_worker();
        world.settle().await;
        assert_eq!(world.in_step().await, 5);
        assert_eq!(world.count("state = 'completed' AND attempts = 1").await, 5);
        another.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_worker_that_cannot_end_in_time_gives_its_jobs_back_with_their_attempts(pool: PgPool) {
    world(pool, async |world| {
        // More than the stages of the pipeline take at a time: some are still on their way in.
        for day in 1..=60 {
            world.ingest(&exchange(day, "does the glue hold")).await;
        }
        world.view.upserts.close();
        let impatient = world.impatient_queues().await;
        let mut worker = world.worker(world.pool.clone(), impatient);
        worker.config.batch_size = 4;
        let worker = world.start(worker);
        world.view.upserts.until_waiting(2).await;
        worker.stop().await;
        let claimed = "state = 'running' OR attempts > 0";
        assert_eq!(world.count(claimed).await, 0);

        // What it left behind ends without another claim.
        world.view.upserts.open();
        world.until_nobody_works().await;
        assert_eq!(world.count(claimed).await, 0, "a worker that has stopped claimed jobs");

        let another = world.start_worker();
        world.lapse().await;
        world.settle().await;
        assert_eq!(world.in_step().await, 60);
        another.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn what_a_worker_that_died_had_begun_is_finished_by_another(pool: PgPool) {
    world(pool, async |world| {
        for day in 1..=5 {
            world.ingest(&exchange(day, "does the glue hold")).await;
        }
        world.view.upserts.close();
        // A runtime of its own, as a process has: all that it runs dies with it.
        let doomed =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let database = world.pool.connect_options().as_ref().clone();
        let (queues, parts) = (world.queues.clone(), world.parts());
        doomed.spawn(async move {
            let pool = PgPoolOptions::new().max_connections(3).connect_lazy_with(database);
            parts.worker(pool, queues).run(Default::default()).await;
        });
        world.view.upserts.until_waiting(1).await;
        world.until("five claims", async || world.count("state = 'running'").await == 5).await;
        doomed.shutdown_background();

        world.view.upserts.open();
        world.lapse().await;
        let another = world.start_worker();
        world.settle().await;
        assert_eq!(world.in_step().await, 5);
        assert_eq!(world.count("state = 'completed' AND jsonb_array_length(attempts_log) = 1").await, 5);
        another.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_claim_is_renewed_for_as_long_as_the_work_takes(pool: PgPool) {
    world(pool, async |world| {
        world.ingest(&exchange(1, "does the glue hold")).await;
        world.view.upserts.close();
        let mut worker = world.worker(world.pool.clone(), world.queues.clone());
        worker.config.lease = Duration::from_secs(2);
        let worker = world.start(worker);
        world.view.upserts.until_waiting(1).await;
        let lease = async || -> Option<chrono::DateTime<chrono::Utc>> {
            sqlx::query_scalar("SELECT lease_expires_at FROM jobs").fetch_one(&world.pool).await.unwrap()
        };
        let first = lease().await;
        world.until("a renewal", async || lease().await > first).await;
        world.view.upserts.open();
        world.settle().await;
        assert_eq!(world.count("state = 'completed' AND attempts = 1").await, 1);
        worker.stop().await;
    })
    .await;
}
