//! `verify` reports each kind of difference between Postgres and the index, and repairs them by ordinary jobs. Changes in
//! progress are no differences.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::*;
use guildex_consistency::verify::{DifferenceKind, GuildReport, Report, Request, Verifier};
use guildex_index::{Point, VectorIndex};
use guildex_types::{ChannelId, GuildId, MessageId, PointId, Revision, SessionId};
use sqlx::PgPool;
use sqlx::types::Uuid;

async fn run(world: &World, repair: bool) -> Report {
    let verifier =
        Verifier { ingest: world.ingest.clone(), index: world.index.clone(), prefix: "test".to_owned() };
    verifier.verify(&Request { guild: None, repair, examples: 3 }, &|_| {}).await.unwrap()
}

/// Number of differences by kind, over all guilds.
fn kinds(report: &Report) -> BTreeMap<DifferenceKind, u64> {
    let mut kinds = BTreeMap::new();
    for guild in report.models.iter().flat_map(|model| &model.guilds) {
        for (kind, found) in &guild.differences {
            *kinds.entry(*kind).or_default() += found.count;
        }
    }
    kinds
}

fn only_guild(report: &Report) -> &GuildReport {
    assert_eq!((report.models.len(), report.models[0].guilds.len()), (1, 1), "{report:?}");
    &report.models[0].guilds[0]
}

/// Indexes a session for each day.
async fn indexed(world: &World, days: i64) -> (Running, impl Fn(i64) -> Point) {
    for day in 1..=days {
        world.ingest(&exchange(day, "does the glue hold")).await;
    }
    let worker = world.start_worker();
    world.until_idle().await;
    let points = world.points().await;
    let of_day = move |day: i64| {
        points.iter().find(|p| p.payload.message_ids[0] == exchange(day, "")[0].id).unwrap().clone()
    };
    (worker, of_day)
}

async fn delete_point(world: &World, point: &Point) {
    let all = [(point.payload.session_id, Revision::from(i64::MAX))];
    world.index.delete_below(world.collection(), point.payload.guild_id, &all).await.unwrap();
}

async fn upsert(world: &World, point: Point) {
    world.index.upsert(world.collection(), vec![point]).await.unwrap();
}

async fn change_record(world: &World, change: &'static str, session: SessionId) {
    let changed = sqlx::query(change).bind(session.get()).execute(&world.pool).await.unwrap();
    assert_eq!(changed.rows_affected(), 1);
}

fn id_of(guild: GuildId, point: &Point, world: &World, chunk: u32) -> PointId {
    let Point { payload, .. } = point;
    PointId::new(guild, payload.channel_id, payload.message_ids[0], world.model_slug(), chunk)
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_consistent_index_is_not_changed(pool: PgPool) {
    world(pool, async |world| {
        let (worker, _) = indexed(world, 3).await;
        let before = world.points().await;
        let report = run(world, true).await;
        assert_eq!((report.differences, report.in_progress, report.repairs), (0, 0, 0));
        assert_eq!((only_guild(&report).points, only_guild(&report).consistent), (3, 3));
        assert_eq!(world.count("state <> 'completed'").await, 0);
        assert_eq!(world.points().await, before);
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn each_kind_of_difference_is_reported_and_repaired(pool: PgPool) {
    world(pool, async |world| {
        let (worker, of_day) = indexed(world, 12).await;
        let other_guild = GuildId::try_from(77).unwrap();
        let changed = |day: i64, change: &dyn Fn(&mut Point)| {
            let mut point = of_day(day);
            change(&mut point);
            point
        };

        // Missing: points, or a record.
        delete_point(world, &of_day(1)).await;
        change_record(
            world,
            "DELETE FROM indexed_sessions WHERE session_id = $1",
            of_day(2).payload.session_id,
        )
        .await;
        // Stale: all points, or one that a frozen worker left.
        delete_point(world, &of_day(3)).await;
        upsert(world, changed(3, &|point| point.payload.revision = 1.into())).await;
        upsert(
            world,
            changed(4, &|point| {
                point.id = id_of(world.guild(), point, world, 9);
                point.payload.chunk = 9;
                point.payload.revision = 1.into();
            }),
        )
        .await;
        // Orphaned: of a deleted session, of one that never existed, of an unknown guild.
        world.delete(5, &[1, 2]).await;
        world.until_idle().await;
        upsert(world, of_day(5)).await;
        for guild in [world.guild(), 78.try_into().unwrap()] {
            upsert(
                world,
                changed(6, &|point| {
                    point.id = Uuid::from_u128(guild.get().unsigned_abs().into()).into();
                    point.payload.session_id = Uuid::from_u128(7).into();
                    point.payload.guild_id = guild;
                }),
            )
            .await;
        }
        // Of another guild: a copy, and one that replaced the session's own point, which is missing then.
        upsert(
            world,
            changed(7, &|point| {
                point.id = id_of(other_guild, point, world, 0);
                point.payload.guild_id = other_guild;
            }),
        )
        .await;
        upsert(world, changed(8, &|point| point.payload.guild_id = other_guild)).await;
        // Misplaced: under another id, or in another channel.
        upsert(world, changed(9, &|point| point.id = Uuid::from_u128(9).into())).await;
        upsert(world, changed(10, &|point| point.payload.channel_id = ChannelId::try_from(99).unwrap()))
            .await;
        // Made from another text, or from an unknown one.
        for (day, change) in [
            (11, "UPDATE indexed_sessions SET content_hash = 'other' WHERE session_id = $1"),
            (12, "UPDATE indexed_sessions SET content_hash = NULL WHERE session_id = $1"),
        ] {
            change_record(world, change, of_day(day).payload.session_id).await;
        }

        let expected = BTreeMap::from([
            (DifferenceKind::Missing, 3),
            (DifferenceKind::Stale, 2),
            (DifferenceKind::Orphaned, 3),
            (DifferenceKind::WrongGuild, 2),
            (DifferenceKind::Misplaced, 2),
            (DifferenceKind::WrongHash, 2),
        ]);
        let report = run(world, false).await;
        assert_eq!(kinds(&report), expected, "{report:#?}");
        assert_eq!((report.in_progress, report.repairs), (0, 0));
        let guild = report.models[0].guilds.iter().find(|guild| guild.guild_id == world.guild()).unwrap();
        let missing: Vec<SessionId> = guild.differences[&DifferenceKind::Missing]
            .examples
            .iter()
            .map(|example| example.session_id)
            .collect();
        assert!(missing.contains(&of_day(1).payload.session_id), "{missing:?}");
        assert_eq!(kinds(&run(world, false).await), expected, "verifying changed something");

        let report = run(world, true).await;
        assert!(report.repairs >= 12, "{report:#?}");
        world.until_idle().await;
        let report = run(world, false).await;
        assert_eq!((report.differences, report.in_progress), (0, 0), "{report:#?}");
        assert_eq!(world.assert_consistent().await, 11);
        assert_eq!(world.index.guilds(world.collection()).await.unwrap(), [world.guild()]);
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn changes_with_unfinished_jobs_are_in_progress(pool: PgPool) {
    world(pool, async |world| {
        let (worker, _) = indexed(world, 3).await;
        worker.stop().await;
        // A new, a changed and a deleted session, without a worker.
        world.ingest(&exchange(4, "is it dry")).await;
        world.ingest(&[edited(5, "does the new glue hold", &exchange(1, "does the glue hold")[0])]).await;
        world.delete(2, &[1, 2]).await;
        for repair in [false, true] {
            let report = run(world, repair).await;
            assert_eq!((report.differences, report.repairs), (0, 0), "{report:#?}");
            assert_eq!(report.in_progress, 3, "{report:#?}");
        }
        let worker = world.start_worker();
        world.until_idle().await;
        let report = run(world, false).await;
        assert_eq!((report.differences, report.in_progress), (0, 0), "{report:#?}");
        assert_eq!(only_guild(&report).consistent, 3);
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn no_difference_is_reported_during_ingest(pool: PgPool) {
    world(pool, async |world| {
        let worker = world.start_worker();
        let finished = AtomicBool::new(false);
        let ingesting = async {
            for day in 1..=25 {
                world.ingest(&exchange(day, "does the glue hold")).await;
                world.ingest(&[edited(5, "does the new glue hold", &exchange(day, "")[0])]).await;
                if day % 3 == 0 {
                    world.delete(day, &[1, 2]).await;
                }
            }
            finished.store(true, Ordering::Relaxed);
        };
        // The first run starts before anything is ingested.
        let verifying = async {
            let mut runs = 0;
            while !finished.load(Ordering::Relaxed) {
                let report = run(world, runs % 2 == 1).await;
                assert_eq!((report.differences, report.repairs), (0, 0), "{report:#?}");
                runs += 1;
            }
            runs
        };
        let (runs, ()) = futures::join!(verifying, ingesting);
        assert!(runs > 0);
        world.until_idle().await;
        let report = run(world, false).await;
        assert_eq!((report.differences, report.in_progress), (0, 0), "{report:#?}");
        assert_eq!(only_guild(&report).consistent, 17);
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_session_whose_job_is_dead_is_missing(pool: PgPool) {
    world(pool, async |world| {
        world.ingest(&exchange(1, "does the glue hold")).await;
        assert_eq!(run(world, false).await.in_progress, 1);
        sqlx::query(
            "UPDATE jobs SET state = 'dead', finished_at = now(), lease_expires_at = NULL, claim_token = NULL",
        )
        .execute(&world.pool)
        .await
        .unwrap();
        assert_eq!(kinds(&run(world, false).await), BTreeMap::from([(DifferenceKind::Missing, 1)]));
        run(world, true).await;
        let worker = world.start_worker();
        world.until_idle().await;
        assert_eq!(world.assert_consistent().await, 1);
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_lost_collection_is_rebuilt(pool: PgPool) {
    world(pool, async |world| {
        let (worker, _) = indexed(world, 4).await;
        worker.stop().await;
        world.index.drop_collection(world.collection()).await.unwrap();
        assert_eq!(kinds(&run(world, false).await), BTreeMap::from([(DifferenceKind::Missing, 4)]));
        run(world, true).await;
        let worker = world.start_worker();
        world.until_idle().await;
        let report = run(world, false).await;
        assert_eq!((report.differences, only_guild(&report).consistent), (0, 4), "{report:#?}");
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn points_with_higher_revisions_are_replaced(pool: PgPool) {
    world(pool, async |world| {
        let (worker, of_day) = indexed(world, 3).await;
        let ahead = |day: i64, change: &dyn Fn(&mut Point)| {
            let mut point = of_day(day);
            point.payload.revision = 1_000_000.into();
            change(&mut point);
            point
        };
        // As after the database was restored from an older copy: another state of a session, and an unknown session.
        upsert(world, ahead(1, &|_| {})).await;
        upsert(
            world,
            ahead(2, &|point| {
                let (channel, first) = (point.payload.channel_id, MessageId::try_from(5).unwrap());
                point.payload.session_id = SessionId::new(point.payload.guild_id, channel, first);
                point.id = PointId::new(point.payload.guild_id, channel, first, world.model_slug(), 0);
            }),
        )
        .await;
        let report = run(world, true).await;
        assert_eq!(
            kinds(&report),
            BTreeMap::from([(DifferenceKind::Stale, 1), (DifferenceKind::Orphaned, 1)])
        );
        world.until_idle().await;
        let report = run(world, false).await;
        assert_eq!((report.differences, report.in_progress), (0, 0), "{report:#?}");
        assert_eq!(world.assert_consistent().await, 3);
        // Later changes have higher revisions.
        world.ingest(&exchange(4, "is it dry")).await;
        world.until_idle().await;
        assert_eq!(world.assert_consistent().await, 4);

        // An impossible revision is reported, and does not affect the sequence.
        let mut absurd = of_day(3);
        absurd.payload.revision = i64::MAX.into();
        upsert(world, absurd).await;
        assert_eq!(run(world, true).await.repairs, 0);
        assert_eq!(run(world, false).await.differences, 1);
        world.ingest(&exchange(5, "is it dry")).await;
        world.until_idle().await;
        worker.stop().await;
    })
    .await;
}
