//! Repairs of a collection.

use crate::support::*;
use guildex_consistency::verify::{Repaired, repair_collection};
use guildex_index::VectorIndex;
use guildex_types::{PointId, Revision};
use sqlx::PgPool;

async fn repaired(world: &World) -> Repaired {
    let (view, collection, model) = (world.index.as_ref(), world.collection(), world.model_slug());
    let repaired = repair_collection(&world.ingest, view, collection, model).await.unwrap();
    world.until_idle().await;
    repaired
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_consistent_collection_is_not_changed(pool: PgPool) {
    world(pool, async |world| {
        for day in 1..=3 {
            world.ingest(&exchange(day, "does the glue hold")).await;
        }
        let worker = world.start_worker();
        world.until_idle().await;
        let before = world.points().await;
        assert_eq!(repaired(world).await, Repaired { consistent: 3, reindexed: 0, orphaned: 0 });
        assert_eq!(world.points().await, before);
        assert_eq!(world.model.texts().len(), 3);
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn lost_changed_and_orphaned_points_are_repaired(pool: PgPool) {
    world(pool, async |world| {
        for day in 1..=5 {
            world.ingest(&exchange(day, "does the glue hold")).await;
        }
        let worker = world.start_worker();
        world.until_idle().await;
        let points = world.points().await;
        let of_day = |day: i64| {
            points.iter().find(|p| p.payload.message_ids[0] == exchange(day, "")[0].id).unwrap().clone()
        };
        // Lost points.
        let lost = of_day(1).payload;
        let all = [(lost.session_id, Revision::from(i64::MAX))];
        world.index.delete_below(world.collection(), world.guild(), &all).await.unwrap();
        // An outdated point, as left by a worker that was frozen.
        let mut late = of_day(2);
        late.id = PointId::from(sqlx::types::Uuid::from_u128(7));
        late.payload.chunk = 9;
        late.payload.revision = Revision::from(1);
        world.index.upsert(world.collection(), vec![late]).await.unwrap();
        // A point of a deleted session.
        world.delete(3, &[1, 2]).await;
        world.until_idle().await;
        let mut orphan = of_day(3);
        orphan.payload.revision = Revision::from(1);
        world.index.upsert(world.collection(), vec![orphan]).await.unwrap();
        // A missing record.
        sqlx::query("DELETE FROM indexed_sessions WHERE session_id = $1")
            .bind(of_day(4).payload.session_id.get())
            .execute(&world.pool)
            .await
            .unwrap();

        assert_eq!(repaired(world).await, Repaired { consistent: 1, reindexed: 3, orphaned: 1 });
        assert_eq!(world.assert_consistent().await, 4);
        assert_eq!(repaired(world).await, Repaired { consistent: 4, reindexed: 0, orphaned: 0 });
        worker.stop().await;
    })
    .await;
}
