//! Names shown by searches are those that authors have now.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

use guildex_search::SearchRequest;
use guildex_store::MIGRATOR;
use sqlx::PgPool;
use support::{HERE, Mood, World, ask};

/// Preview and surrounding authors of what a search finds, by the index and by Postgres.
async fn shown(world: &World) -> Vec<(String, Vec<String>)> {
    let mut shown = vec![];
    for mood in [Mood::Honest, Mood::Away] {
        world.view.set(mood);
        for found in world.search(&SearchRequest { surrounding: 5, ..ask(1, "glue oven") }).await.results {
            let around = found.surrounding.unwrap();
            let names = around.before.into_iter().chain(around.after).map(|message| message.author_name);
            shown.push((found.preview.to_string(), names.collect()));
        }
    }
    world.view.set(Mood::Honest);
    shown
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn results_and_surrounding_messages_show_current_names(pool: PgPool) {
    let world = World::new(pool).await.with_fallback();
    world.talk(HERE, &[(1, 1, 1, "the glue oven smells"), (2, 2, 2, "open the window")]).await;
    world.say(HERE, &[(10, 1, 500, "good morning")]).await;
    for (preview, names) in shown(&world).await {
        assert!(preview.contains("author 1: the glue oven"), "{preview}");
        assert!(names.contains(&"author 1".to_owned()), "{names:?}");
    }

    sqlx::query("UPDATE users SET display_name = 'Ann' WHERE user_id = 1")
        .execute(&world.pool)
        .await
        .unwrap();
    let after = shown(&world).await;
    assert_eq!(after.len(), 2, "one result by the index, one by Postgres");
    for (preview, names) in after {
        assert!(preview.contains("Ann: the glue oven") && !preview.contains("author 1"), "{preview}");
        assert!(names.contains(&"Ann".to_owned()), "{names:?}");
    }

    sqlx::query("UPDATE messages SET webhook_name = 'bridge' WHERE id IN (1, 10)")
        .execute(&world.pool)
        .await
        .unwrap();
    for (preview, names) in shown(&world).await {
        assert!(preview.contains("bridge: the glue oven"), "{preview}");
        assert!(names.contains(&"bridge".to_owned()), "a message of a webhook keeps its name");
    }
}
