//! Changes and other workers at the worst steps of an index job.

use std::collections::BTreeMap;

use crate::support::*;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use guildex_types::SessionId;
use sqlx::PgPool;

/// Asserts that searches show nothing while `work` runs.
async fn assert_nothing_shown_during(world: &World, work: impl Future<Output = ()>) {
    let watching = async {
        loop {
            assert_eq!(world.searchable().await, 0, "a search shows deleted messages");
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = watching => {}
        () = work => {}
    }
    assert_eq!(world.searchable().await, 0);
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_deletion_at_any_step_of_an_index_job_leaves_no_points(pool: PgPool) {
    world(pool, async |world| {
        let worker = world.start_worker();
        for (day, step) in (1..).zip(Step::ALL) {
            world.index.steps.block_at(step);
            world.ingest(&exchange(day, "my address is a secret")).await;
            world.index.steps.until_blocked().await;
            world.delete(day, &[1, 2]).await;
            assert_nothing_shown_during(world, async {
                // Existing points are removed before the index job ends.
                let done = "kind = 'remove_points' AND state = 'completed'";
                world.until("the removal", async || world.count(done).await == day).await;
                world.index.steps.release();
                world.until_idle().await;
            })
            .await;
            assert_eq!(world.assert_consistent().await, 0);
            assert_eq!(world.points().await, [], "points left by a deletion at {step:?}");
        }
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn an_edit_at_any_step_of_an_index_job_is_indexed(pool: PgPool) {
    world(pool, async |world| {
        let worker = world.start_worker();
        for (day, step) in (1..).zip(Step::ALL) {
            let talk = exchange(day, "my address is a secret");
            world.index.steps.block_at(step);
            world.ingest(&talk).await;
            world.index.steps.until_blocked().await;
            world.ingest(&[edited(9, "does the glue hold", &talk[0])]).await;
            world.index.steps.release();
            world.until_idle().await;
            assert_eq!(world.assert_consistent().await, usize::try_from(day).unwrap());
            let previews = world.previews().await;
            assert!(previews.iter().all(|preview| !preview.contains("secret")), "stale after {step:?}");
        }
        assert_eq!(world.count("attempts > 1 OR state <> 'completed'").await, 0);
        worker.stop().await;
    })
    .await;
}

/// Change while a worker is frozen.
#[derive(Debug, Clone, Copy)]
enum Meanwhile {
    Nothing,
    /// The session becomes so short that it has fewer points.
    Edit,
    Deletion,
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_worker_that_resumes_after_its_lease_expired_changes_nothing(pool: PgPool) {
    world(pool, async |world| {
        let mut day = 0;
        let mut expected = 0;
        for meanwhile in [Meanwhile::Nothing, Meanwhile::Edit, Meanwhile::Deletion] {
            for step in Step::ALL {
                day += 1;
                let mut talk = exchange(day, &"a secret story about a small printer ".repeat(20)).to_vec();
                talk.extend(
                    (3..6).map(|n| reply(day, 1, new_message(day, n, 1, &"and what came of it ".repeat(15)))),
                );
                world.index.steps.block_at(step);
                let mut frozen = world.worker(world.pool.clone(), world.queues.clone());
                frozen.name = "frozen".to_owned();
                let frozen = world.start(frozen);
                world.ingest(&talk).await;
                world.index.steps.until_blocked().await;
                // It claims no more jobs.
                frozen.stop.cancel();

                match meanwhile {
                    Meanwhile::Nothing => {}
                    Meanwhile::Edit => {
                        let short: Vec<_> =
                            talk.iter().map(|said| edited(30, "it works by now", said)).collect();
                        world.ingest(&short).await;
                    }
                    Meanwhile::Deletion => world.delete(day, &[1, 2, 3, 4, 5]).await,
                }
                let other = world.start_worker();
                world
                    .until("the end of the lease", async || {
                        sqlx::query(
                            "UPDATE jobs SET lease_expires_at = now() - interval '1 second'
                             WHERE state = 'running' AND claimed_by = 'frozen'",
                        )
                        .execute(&world.pool)
                        .await
                        .unwrap();
                        world.count("state = 'running' AND claimed_by = 'frozen'").await == 0
                    })
                    .await;
                world.until_idle().await;
                expected += usize::from(!matches!(meanwhile, Meanwhile::Deletion));
                assert_eq!(world.assert_consistent().await, expected, "{meanwhile:?} at {step:?}");

                world.index.steps.release();
                frozen.stop().await;
                other.stop().await;
                world.until_no_task_runs().await;
                assert_eq!(
                    world.assert_consistent().await,
                    expected,
                    "inconsistent after {meanwhile:?} at {step:?}"
                );
                assert_eq!(world.count("state <> 'completed'").await, 0);
            }
        }
        let previews = world.previews().await;
        assert_eq!(previews.iter().filter(|preview| preview.contains("works by now")).count(), 4);
    })
    .await;
}

/// Number of races; set `GUILDEX_RACES=10000` for a full run.
fn races() -> i64 {
    std::env::var("GUILDEX_RACES").map_or(500, |races| races.parse().expect("GUILDEX_RACES is a number"))
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn deletions_racing_with_index_jobs_leave_no_points(pool: PgPool) {
    world(pool, async |world| {
        world.model.use_fake_vectors();
        let workers = [world.start_worker(), world.start_worker()];
        let mut steps = world.index.steps.listen();
        let days: Vec<i64> = (1..=races()).collect();
        let mut raced = [0; Step::ALL.len()];
        for days in days.chunks(200) {
            let mut left: BTreeMap<SessionId, i64> = days
                .iter()
                .map(|day| {
                    let first = exchange(*day, "?")[0].id;
                    (SessionId::new(world.guild(), 9.try_into().unwrap(), first), *day)
                })
                .collect();
            let talk: Vec<_> = days.iter().flat_map(|day| exchange(*day, &format!("secret {day}"))).collect();
            world.ingest(&talk).await;
            // A quarter of the deletions start before their sessions are loaded, the others at one step each.
            let step = |day: i64| Step::ALL[usize::try_from(day).unwrap() % Step::ALL.len()];
            let mut deletions: FuturesUnordered<_> = FuturesUnordered::new();
            let early: Vec<_> =
                left.iter().filter(|(_, day)| step(**day) == Step::Embedding).map(|(id, _)| *id).collect();
            let mut reached = Some((Step::Embedding, early));
            while !left.is_empty() || !deletions.is_empty() {
                if let Some((now, sessions)) = reached.take() {
                    for session in sessions {
                        if left.get(&session).is_some_and(|day| step(*day) == now) {
                            let day = left.remove(&session).unwrap();
                            raced[now as usize] += 1;
                            deletions.push(async move { world.delete(day, &[1, 2]).await });
                        }
                    }
                }
                tokio::select! {
                    step = steps.recv() => reached = step,
                    Some(()) = deletions.next() => {}
                }
            }
            drop(deletions);
            world.until_idle().await;
            assert_eq!(world.points().await, [], "points left by deletions");
            assert_eq!(world.count("state = 'dead'").await, 0);
        }
        assert_eq!(world.assert_consistent().await, 0);
        assert_eq!(world.searchable().await, 0);
        assert!(raced.iter().all(|count| *count > 0), "{raced:?}");
        eprintln!("{} deletions raced against index jobs, by step {raced:?}: no points left", days.len());
        for worker in workers {
            worker.stop().await;
        }
    })
    .await;
}
