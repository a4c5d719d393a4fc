//! Records of what the index holds: point ids, and content hashes without names.

use crate::support::{edited, exchange, new_message, world};
use guildex_types::{Author, Message};
use sqlx::PgPool;
use sqlx::types::Uuid;

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn recorded_point_ids_are_those_in_the_index(pool: PgPool) {
    world(pool, async |world| {
        let said = "the glue oven smells again, and this time the window was open all night long ";
        let talk: Vec<Message> =
            (1..=40).map(|number| new_message(1, number, 1 + number % 2, said)).collect();
        world.ingest(&talk).await;
        let worker = world.start_worker();
        world.until_idle().await;
        let indexed = async || {
            let mut points = world.points().await;
            points.sort_by_key(|point| point.payload.chunk);
            points.iter().map(|point| point.id.get()).collect::<Vec<Uuid>>()
        };
        let recorded = async || -> (Vec<Uuid>, Uuid) {
            sqlx::query_as("SELECT point_ids, qdrant_point_id FROM indexed_sessions")
                .fetch_one(&world.pool)
                .await
                .unwrap()
        };
        let (points, first) = recorded().await;
        assert!(points.len() > 1, "one chunk");
        assert_eq!((points[0], &points), (first, &indexed().await));

        let numbers: Vec<i64> = (3..=40).collect();
        world.delete(1, &numbers).await;
        world.until_idle().await;
        let (fewer, _) = recorded().await;
        assert!(fewer.len() < points.len());
        assert_eq!(fewer, indexed().await);
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_rename_embeds_nothing_again(pool: PgPool) {
    world(pool, async |world| {
        let talk = exchange(1, "does the glue hold");
        world.ingest(&talk).await;
        let worker = world.start_worker();
        world.until_idle().await;
        let (embedded, points) = (world.model.texts().len(), world.points().await);

        // An edit that changes nothing but the author's name runs a job, which keeps the points.
        let renamed = edited(9, "does the glue hold", &talk[0]);
        let author = Author { display_name: Some("Ann".to_owned()), ..renamed.author.clone() };
        world.ingest(&[Message { author, ..renamed }]).await;
        world.until_idle().await;
        let name: String = sqlx::query_scalar("SELECT name FROM users WHERE user_id = $1")
            .bind(talk[0].author.id.get())
            .fetch_one(&world.pool)
            .await
            .unwrap();
        assert_eq!(name, "Ann");
        assert_eq!((world.model.texts().len(), world.points().await), (embedded, points));
        worker.stop().await;
    })
    .await;
}
