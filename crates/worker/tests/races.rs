//! Changes and other workers that come at the worst moments of an index job.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use guildex_types::SessionId;
use sqlx::PgPool;
use support::*;

/// While `work` is under way, no search shows anything.
async fn nothing_is_shown_during(world: &World, work: impl Future<Output = ()>) {
    let watching = async {
        loop {
            assert_eq!(world.shown().await, 0, "a search shows what was deleted");
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = watching => {}
        () = work => {}
    }
    assert_eq!(world.shown().await, 0);
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_deletion_at_any_moment_of_an_index_job_leaves_nothing(pool: PgPool) {
    world(pool, async |world| {
        let worker = world.start_worker();
        for (day, moment) in (1..).zip(Moment::ALL) {
            world.view.moments.trap(moment);
            world.ingest(&exchange(day, "my address is a secret")).await;
            world.view.moments.until_caught().await;
            world.delete(day, &[1, 2]).await;
            nothing_is_shown_during(world, async {
                // The points that it finds go before the index job is through.
                let done = "kind = 'remove_points' AND state = 'completed'";
                world.until("the removal", async || world.count(done).await == day).await;
                world.view.moments.release();
                world.settle().await;
            })
            .await;
            assert_eq!(world.in_step().await, 0);
            assert_eq!(world.points().await, [], "ghosts of a deletion at {moment:?}");
        }
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn an_edit_at_any_moment_of_an_index_job_is_what_is_found_in_the_end(pool: PgPool) {
    world(pool, async |world| {
        let worker = world.start_worker();
        for (day, moment) in (1..).zip(Moment::ALL) {
            let talk = exchange(day, "my address is a secret");
            world.view.moments.trap(moment);
            world.ingest(&talk).await;
            world.view.moments.until_caught().await;
            world.ingest(&[edited(9, "does the glue hold", &talk[0])]).await;
            world.view.moments.release();
            world.settle().await;
            assert_eq!(world.in_step().await, usize::try_from(day).unwrap());
            let previews = world.previews().await;
            assert!(previews.iter().all(|preview| !preview.contains("secret")), "stale after {moment:?}");
        }
        assert_eq!(world.count("attempts > 1 OR state <> 'completed'").await, 0);
        worker.stop().await;
    })
    .await;
}

/// What happens while a worker is frozen.
#[derive(Debug, Clone, Copy)]
enum Meanwhile {
    Nothing,
    /// The session becomes so short that it has fewer points.
    Edit,
    Deletion,
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_worker_that_wakes_when_another_has_done_its_job_does_no_harm(pool: PgPool) {
    world(pool, async |world| {
        let mut day = 0;
        let mut expected = 0;
        for meanwhile in [Meanwhile::Nothing, Meanwhile::Edit, Meanwhile::Deletion] {
            for moment in Moment::ALL {
                day += 1;
                let mut talk = exchange(day, &"a secret story about a small printer ".repeat(20)).to_vec();
                talk.extend(
                    (3..6).map(|n| reply(day, 1, say(day, n, 1, &"and what came of it ".repeat(15)))),
                );
                world.view.moments.trap(moment);
                let mut frozen = world.worker(world.pool.clone(), world.queues.clone());
                frozen.name = "frozen".to_owned();
                let frozen = world.start(frozen);
                world.ingest(&talk).await;
                world.view.moments.until_caught().await;
                // It takes no more, and is not waited for yet.
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
                world.settle().await;
                expected += usize::from(!matches!(meanwhile, Meanwhile::Deletion));
                assert_eq!(world.in_step().await, expected, "{meanwhile:?} at {moment:?}");

                world.view.moments.release();
                frozen.stop().await;
                other.stop().await;
                world.until_nobody_works().await;
                assert_eq!(world.in_step().await, expected, "harm after {meanwhile:?} at {moment:?}");
                assert_eq!(world.count("state <> 'completed'").await, 0);
            }
        }
        let previews = world.previews().await;
        assert_eq!(previews.iter().filter(|preview| preview.contains("works by now")).count(), 4);
    })
    .await;
}

/// How many there are to be: `GUILDEX_RACES=10000` for the whole run.
fn races() -> i64 {
    std::env::var("GUILDEX_RACES").map_or(500, |races| races.parse().expect("GUILDEX_RACES is a number"))
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn deletions_that_race_against_index_jobs_leave_no_ghost(pool: PgPool) {
    world(pool, async |world| {
        world.model.make_cheap();
        let workers = [world.start_worker(), world.start_worker()];
        let mut told = world.view.moments.listen();
        let days: Vec<i64> = (1..=races()).collect();
        let mut raced = [0; Moment::ALL.len()];
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
            // A quarter of them before they are read or embedded, the others at one moment each.
            let moment = |day: i64| Moment::ALL[usize::try_from(day).unwrap() % Moment::ALL.len()];
            let mut deletions: FuturesUnordered<_> = FuturesUnordered::new();
            let early: Vec<_> = left
                .iter()
                .filter(|(_, day)| moment(**day) == Moment::Embedding)
                .map(|(id, _)| *id)
                .collect();
            let mut come = Some((Moment::Embedding, early));
            while !left.is_empty() || !deletions.is_empty() {
                if let Some((now, sessions)) = come.take() {
                    for session in sessions {
                        if left.get(&session).is_some_and(|day| moment(*day) == now) {
                            let day = left.remove(&session).unwrap();
                            raced[now as usize] += 1;
                            deletions.push(async move { world.delete(day, &[1, 2]).await });
                        }
                    }
                }
                tokio::select! {
                    moment = told.recv() => come = moment,
                    Some(()) = deletions.next() => {}
                }
            }
            drop(deletions);
            world.settle().await;
            assert_eq!(world.points().await, [], "ghosts");
            assert_eq!(world.count("state = 'dead'").await, 0);
        }
        assert_eq!(world.in_step().await, 0);
        assert_eq!(world.shown().await, 0);
        assert!(raced.iter().all(|count| *count > 0), "{raced:?}");
        eprintln!("{} deletions raced against index jobs, by moment {raced:?}: no ghosts", days.len());
        for worker in workers {
            worker.stop().await;
        }
    })
    .await;
}
