//! A worker with real queues, a real database, model and index.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::{Fault, edited, exchange, new_message, reply, world};
use guildex_queue::testing::{connection, layout};
use guildex_types::JobQueue;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

// Successful jobs.

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn every_session_is_indexed_and_recorded(pool: PgPool) {
    world(pool, async |world| {
        for day in 1..=12 {
            world.ingest(&exchange(day, "which filament is best for gears")).await;
        }
        let worker = world.start_worker();
        world.until_idle().await;
        assert_eq!(world.assert_consistent().await, 12);
        assert!(world.jobs().await.iter().all(|job| job.state == "completed" && job.attempts == 1));
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn two_workers_share_the_jobs_without_repeating_any(pool: PgPool) {
    world(pool, async |world| {
        for day in 1..=30 {
            world.ingest(&exchange(day, "which filament is best for gears")).await;
        }
        let workers = [world.start_worker(), world.start_worker()];
        world.until_idle().await;
        assert_eq!(world.assert_consistent().await, 30);
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
        talk.extend(
            (3..8).map(|n| reply(1, 1, new_message(1, n, 1, &"and what came of it in the end ".repeat(15)))),
        );
        world.ingest(&talk).await;
        let worker = world.start_worker();
        world.until_idle().await;
        assert_eq!(world.assert_consistent().await, 1);
        let points = world.points().await;
        assert!(points.len() > 1);
        let stored: usize = points.iter().map(|point| point.payload.message_ids.len()).sum();
        assert!(stored >= talk.len(), "a message is in no point");
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
        world.until_idle().await;
        let (embedded, points) = (world.model.texts().len(), world.points().await);

        world.ingest(&[edited(9, "does the glue hold", &talk[0])]).await;
        world.until_idle().await;
        assert_eq!(world.model.texts().len(), embedded);
        assert_eq!(world.points().await, points);
        assert_eq!(world.assert_consistent().await, 1);
        assert_eq!(world.searchable().await, 1, "an edit without effect hides the session");
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_backfill_indexes_sessions_without_a_record(pool: PgPool) {
    world(pool, async |world| {
        world.ingest(&exchange(1, "does the glue hold")).await;
        world.ingest(&exchange(2, "is the press free")).await;
        let worker = world.start_worker();
        world.until_idle().await;
        sqlx::query("DELETE FROM indexed_sessions").execute(&world.pool).await.unwrap();
        guildex_producer::backfill::plan(world.ingest.pool(), world.ingest.enqueuer(), world.guild(), None)
            .await
            .unwrap();
        world.until_idle().await;
        assert_eq!(world.assert_consistent().await, 2);
        worker.stop().await;
    })
    .await;
}

// Changes while a job runs.

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn an_edit_between_loading_and_recording_is_indexed(pool: PgPool) {
    world(pool, async |world| {
        let talk = exchange(1, "does the glue hold");
        world.ingest(&talk).await;
        world.index.upserts.close();
        let worker = world.start_worker();
        world.index.upserts.until_waiting(1).await;
        world.ingest(&[edited(9, "does the tape hold", &talk[0])]).await;
        world.index.upserts.open();
        world.until_idle().await;
        assert_eq!(world.assert_consistent().await, 1);
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
        world.index.upserts.close();
        let worker = world.start_worker();
        world.index.upserts.until_waiting(1).await;
        world.delete(1, &[1, 2]).await;
        world
            .until("the end of the removal", async || {
                world.count("kind = 'remove_points' AND state = 'completed'").await == 1
            })
            .await;
        world.index.upserts.open();
        world.until_idle().await;
        assert_eq!(world.assert_consistent().await, 0);
        assert!(world.points().await.is_empty());
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn deleted_messages_leave_the_index_before_the_rest_is_embedded_again(pool: PgPool) {
    world(pool, async |world| {
        let mut talk = exchange(1, "my address is a secret").to_vec();
        talk.push(reply(1, 2, new_message(1, 3, 1, "better not say it here")));
        world.ingest(&talk).await;
        let worker = world.start_worker();
        world.until_idle().await;
        assert_eq!(world.points().await.len(), 1);

        world.model.calls.close();
        world.delete(1, &[1]).await;
        world
            .until("the end of the removal", async || {
                world.count("kind = 'remove_points' AND state = 'completed'").await == 1
            })
            .await;
        assert!(world.points().await.is_empty());
        assert_eq!(world.searchable().await, 0);
        world.model.calls.open();
        world.until_idle().await;
        assert_eq!(world.assert_consistent().await, 1);
        assert!(!world.previews().await[0].contains("secret"));
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_deleted_or_too_small_session_leaves_no_points_and_no_record(pool: PgPool) {
    world(pool, async |world| {
        for day in 1..=3 {
            world.ingest(&exchange(day, "does the glue hold")).await;
        }
        let worker = world.start_worker();
        world.until_idle().await;
        world.delete(1, &[1, 2]).await;
        world.delete(2, &[2]).await;
        world.until_idle().await;
        assert_eq!(world.assert_consistent().await, 1);
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_session_merged_into_another_leaves_no_points(pool: PgPool) {
    world(pool, async |world| {
        let talk = [
            new_message(1, 2, 1, "use a brim for that"),
            reply(1, 2, new_message(1, 3, 2, "that worked, many thanks")),
        ];
        world.ingest(&talk).await;
        let worker = world.start_worker();
        world.until_idle().await;
        let mut late = new_message(1, 1, 2, "my prints warp at the corners");
        late.links.mentions.push(1.try_into().unwrap());
        world.ingest(&[late]).await;
        world.until_idle().await;
        assert_eq!(world.assert_consistent().await, 1);
        worker.stop().await;
    })
    .await;
}

// Faults.

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn an_undecodable_job_becomes_dead_and_others_complete(pool: PgPool) {
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
        world.until_idle().await;
        assert_eq!(world.assert_consistent().await, 1);
        let dead: Vec<_> = world.jobs().await.into_iter().filter(|job| job.state == "dead").collect();
        assert_eq!(dead.len(), 3);
        assert!(dead.iter().all(|job| job.kind == "unknown" && job.attempts == 1 && job.error.is_some()));
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_job_of_a_newer_release_waits_for_a_worker_that_can_decode_it(pool: PgPool) {
    world(pool, async |world| {
        sqlx::query(
            r#"INSERT INTO jobs (id, guild_id, kind, queue, payload, max_attempts)
               VALUES (gen_random_uuid(), 1, 'unknown', 'live', '{"v": 9999, "guild_id": "1"}', 2)"#,
        )
        .execute(&world.pool)
        .await
        .unwrap();
        let worker = world.start_worker();
        let error = "error LIKE '%9999%written by a newer release%'";
        let waits = format!(
            "state = 'pending' AND attempts = 1 AND run_at > now() + interval '15 seconds' AND {error}"
        );
        world.until("its delay", async || world.count(&waits).await == 1).await;

        // No other worker has claimed it in time.
        sqlx::query("UPDATE jobs SET run_at = now()").execute(&world.pool).await.unwrap();
        let dead =
            format!("state = 'dead' AND attempts = 2 AND jsonb_array_length(attempts_log) = 2 AND {error}");
        world.until("its dead-letter state", async || world.count(&dead).await == 1).await;
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_session_that_makes_the_model_panic_becomes_dead_and_others_complete(pool: PgPool) {
    world(pool, async |world| {
        for day in 1..=5 {
            let text = if day == 3 { "the mandrake screams" } else { "does the glue hold" };
            world.ingest(&exchange(day, text)).await;
        }
        world.model.panic_on("mandrake");
        let worker = world.start_worker();
        world.until_idle().await;
        assert_eq!(world.count("state = 'completed'").await, 4);
        let history = world.errors_of_dead_job().await;
        assert_eq!(history.len(), crate::support::MAX_ATTEMPTS as usize);
        assert!(history.iter().all(|error| error.contains("panicked")), "{history:?}");
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn undecodable_entries_in_redis_become_dead_letters(pool: PgPool) {
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
        world.until_idle().await;
        assert_eq!(world.assert_consistent().await, 1);
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_session_that_cannot_be_embedded_fails_alone_and_becomes_dead(pool: PgPool) {
    world(pool, async |world| {
        for day in 1..=5 {
            let text = if day == 3 { "the mandrake screams" } else { "does the glue hold" };
            world.ingest(&exchange(day, text)).await;
        }
        world.model.fail_on("mandrake");
        let worker = world.start_worker();
        world.until_idle().await;
        let (dead, done): (Vec<_>, Vec<_>) =
            world.jobs().await.into_iter().partition(|job| job.state == "dead");
        assert_eq!(dead.len(), 1);
        assert_eq!(dead[0].attempts, crate::support::MAX_ATTEMPTS);
        assert!(
            !dead[0].error.as_ref().unwrap().contains("mandrake"),
            "errors must not contain text of messages"
        );
        assert_eq!(done.len(), 4);
        assert!(done.iter().all(|job| job.state == "completed" && job.attempts == 1), "{done:?}");
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_batch_that_the_index_rejects_is_written_session_by_session(pool: PgPool) {
    world(pool, async |world| {
        for day in 1..=6 {
            world.ingest(&exchange(day, "does the glue hold")).await;
        }
        world.index.reject(Fault::Upserts(1));
        let worker = world.start_worker();
        world.until_idle().await;
        assert_eq!(world.assert_consistent().await, 6);
        assert!(world.jobs().await.iter().all(|job| job.attempts == 1), "a job failed");
        assert_eq!(world.index.rejected.load(Ordering::Relaxed), 1);
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_deletion_that_the_index_rejects_is_retried_until_it_completes(pool: PgPool) {
    world(pool, async |world| {
        world.ingest(&exchange(1, "my address is a secret")).await;
        let worker = world.start_worker();
        world.until_idle().await;
        let failures = 2 * crate::support::MAX_ATTEMPTS as usize;
        world.index.reject(Fault::Removals(failures));
        world.delete(1, &[1, 2]).await;
        world.until_idle().await;
        assert_eq!(world.index.rejected.load(Ordering::Relaxed), failures);
        assert!(world.points().await.is_empty());
        assert!(world.jobs().await.iter().all(|job| job.state == "completed"));
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_quarantined_job_runs_in_isolation(pool: PgPool) {
    world(pool, async |world| {
        for day in 1..=6 {
            let text = if day == 3 { "the culprit speaks" } else { "does the glue hold" };
            world.ingest(&exchange(day, text)).await;
        }
        sqlx::query(
            "UPDATE jobs SET crash_count = 2 WHERE dedup_key LIKE '%/' || (SELECT id FROM sessions WHERE first_message_id = 301)",
        )
        .execute(&world.pool)
        .await
        .unwrap();
        world.model.block_on("culprit");
        let worker = world.start_worker();
        world.model.calls.until_waiting(1).await;
        // Other jobs are claimed meanwhile, and wait.
        world.ingest(&exchange(7, "is the press free")).await;
        world.until("a claim", async || world.count("state = 'running'").await > 1).await;
        world.model.calls.open();
        world.until_idle().await;
        assert_eq!(world.assert_consistent().await, 7);

        let embeddings = world.model.embeddings();
        let culprit = embeddings.iter().find(|call| call.texts.iter().any(|text| text.contains("culprit"))).unwrap();
        assert_eq!(culprit.texts.len(), 1, "the quarantined job shared its batch");
        assert!(
            embeddings.iter().all(|call| call.ended < culprit.began || call.began > culprit.ended || call == culprit),
            "a job ran beside it: {embeddings:?}"
        );
        worker.stop().await;
    })
    .await;
}

// Shutdown.

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_worker_that_stops_finishes_running_jobs(pool: PgPool) {
    world(pool, async |world| {
        for day in 1..=5 {
            world.ingest(&exchange(day, "does the glue hold")).await;
        }
        world.index.upserts.close();
        let worker = world.start_worker();
        world.index.upserts.until_waiting(1).await;
        world.until("five claims", async || world.count("state = 'running'").await == 5).await;
        worker.stop.cancel();
        world.index.upserts.open();
        worker.stop().await;
        // Claims may come in several batches: jobs that were not started are released.
        let (completed, released) = (
            world.count("state = 'completed' AND attempts = 1").await,
            world.count("state = 'pending' AND attempts = 0").await,
        );
        assert!(completed >= 1, "running jobs were not finished");
        assert_eq!(completed + released, 5);
        world.until_no_task_runs().await;

        let another = world.start_worker();
        world.until_idle().await;
        assert_eq!(world.assert_consistent().await, 5);
        assert_eq!(world.count("state = 'completed' AND attempts = 1").await, 5);
        another.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_worker_past_its_shutdown_timeout_releases_its_jobs_and_their_attempts(pool: PgPool) {
    world(pool, async |world| {
        // More jobs than the stages of the pipeline hold.
        for day in 1..=60 {
            world.ingest(&exchange(day, "does the glue hold")).await;
        }
        world.index.upserts.close();
        let mut worker = world.worker(world.pool.clone(), world.queues.clone());
        worker.config.shutdown_timeout = Duration::ZERO;
        worker.config.batch_size = 4;
        let worker = world.start(worker);
        world.index.upserts.until_waiting(2).await;
        worker.stop().await;
        let claimed = "state = 'running' OR attempts > 0";
        assert_eq!(world.count(claimed).await, 0);

        // Its remaining tasks end without another claim.
        world.index.upserts.open();
        world.until_no_task_runs().await;
        assert_eq!(world.count(claimed).await, 0, "a stopped worker claimed jobs");

        let another = world.start_worker();
        world.expire_leases().await;
        world.until_idle().await;
        assert_eq!(world.assert_consistent().await, 60);
        another.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn jobs_of_a_crashed_worker_are_completed_by_another(pool: PgPool) {
    world(pool, async |world| {
        for day in 1..=5 {
            world.ingest(&exchange(day, "does the glue hold")).await;
        }
        world.index.upserts.close();
        // A separate runtime, as of a process: its tasks die with it.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let database = world.pool.connect_options().as_ref().clone();
        let (queues, services) = (world.queues.clone(), world.services());
        runtime.spawn(async move {
            let pool = PgPoolOptions::new().max_connections(3).connect_lazy_with(database);
            services.worker(pool, queues).run(Default::default()).await;
        });
        world.index.upserts.until_waiting(1).await;
        world.until("five claims", async || world.count("state = 'running'").await == 5).await;
        runtime.shutdown_background();

        world.index.upserts.open();
        world.expire_leases().await;
        let another = world.start_worker();
        world.until_idle().await;
        assert_eq!(world.assert_consistent().await, 5);
        assert_eq!(world.count("state = 'completed' AND jsonb_array_length(attempts_log) = 1").await, 5);
        another.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_lease_is_renewed_while_its_job_runs(pool: PgPool) {
    world(pool, async |world| {
        world.ingest(&exchange(1, "does the glue hold")).await;
        world.index.upserts.close();
        let mut worker = world.worker(world.pool.clone(), world.queues.clone());
        worker.config.lease = Duration::from_secs(2);
        let worker = world.start(worker);
        world.index.upserts.until_waiting(1).await;
        let lease = async || -> Option<chrono::DateTime<chrono::Utc>> {
            sqlx::query_scalar("SELECT lease_expires_at FROM jobs").fetch_one(&world.pool).await.unwrap()
        };
        let first = lease().await;
        world.until("a renewal", async || lease().await > first).await;
        world.index.upserts.open();
        world.until_idle().await;
        assert_eq!(world.count("state = 'completed' AND attempts = 1").await, 1);
        worker.stop().await;
    })
    .await;
}
