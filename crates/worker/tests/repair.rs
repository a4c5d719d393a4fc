//! A collection that does not agree with the books is mended.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use guildex_consistency::verify::{Repaired, repair_collection};
use guildex_index::VectorIndex;
use guildex_types::{PointId, Revision};
use sqlx::PgPool;
use support::*;

async fn repaired(world: &World) -> Repaired {
    let (view, collection, model) = (world.view.as_ref(), world.collection(), world.model_slug());
    let repaired = repair_collection(&world.ingest, view, collection, model).await.unwrap();
    world.settle().await;
    repaired
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_sound_collection_is_left_as_it_is(pool: PgPool) {
    world(pool, async |world| {
        for day in 1..=3 {
            world.ingest(&exchange(day, "does the glue hold")).await;
        }
        let worker = world.start_worker();
        world.settle().await;
        let before = world.points().await;
        assert_eq!(repaired(world).await, Repaired { consistent: 3, reindexed: 0, orphaned: 0 });
        assert_eq!(world.points().await, before);
        assert_eq!(world.model.texts().len(), 3);
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn what_was_lost_changed_or_left_behind_is_mended(pool: PgPool) {
    world(pool, async |world| {
        for day in 1..=5 {
            world.ingest(&exchange(day, "does the glue hold")).await;
        }
        let worker = world.start_worker();
        world.settle().await;
        let points = world.points().await;
        let of_day = |day: i64| {
            points.iter().find(|p| p.payload.message_ids[0] == exchange(day, "")[0].id).unwrap().clone()
        };
        // Lost: as after a disk that forgot.
        let lost = of_day(1).payload;
        let all = [(lost.session_id, Revision::from(i64::MAX))];
        world.view.delete_below(world.collection(), world.guild(), &all).await.unwrap();
        // One too many, of another state, as a worker leaves it that froze and woke.
        let mut late = of_day(2);
        late.id = PointId::from(sqlx::types::Uuid::from_u128(7));
        late.payload.chunk = 9;
        late.payload.revision = Revision::from(1);
        world.view.upsert(world.collection(), vec![late]).await.unwrap();
        // Left behind by a session that is no more.
        world.delete(3, &[1, 2]).await;
        world.settle().await;
        let mut stray = of_day(3);
        stray.payload.revision = Revision::from(1);
        world.view.upsert(world.collection(), vec![stray]).await.unwrap();
        // Struck out of the books.
        sqlx::query("DELETE FROM indexed_sessions WHERE session_id = $1")
            .bind(of_day(4).payload.session_id.get())
            .execute(&world.pool)
            .await
            .unwrap();

        assert_eq!(repaired(world).await, Repaired { consistent: 1, reindexed: 3, orphaned: 1 });
        assert_eq!(world.in_step().await, 4);
        assert_eq!(repaired(world).await, Repaired { consistent: 4, reindexed: 0, orphaned: 0 });
        worker.stop().await;
    })
    .await;
}
