//! Searches show the current names of authors.

use crate::support::{HERE, IndexBehavior, World, search_request};
use guildex_search::SearchRequest;
use guildex_store::MIGRATOR;
use sqlx::PgPool;

/// Previews and surrounding authors of hits from the index and from Postgres.
async fn shown(world: &World) -> Vec<(String, Vec<String>)> {
    let mut shown = vec![];
    for behavior in [IndexBehavior::Normal, IndexBehavior::Unavailable] {
        world.index.set_behavior(behavior);
        for hit in
            world.search(&SearchRequest { surrounding: 5, ..search_request(1, "glue oven") }).await.results
        {
            let around = hit.surrounding.unwrap();
            let names = around.before.into_iter().chain(around.after).map(|message| message.author_name);
            shown.push((hit.preview.to_string(), names.collect()));
        }
    }
    world.index.set_behavior(IndexBehavior::Normal);
    shown
}

/// Asserts that previews name the first message's author `name` and show no former name, and so do surrounding
/// messages: those of the other session from the index, all but the matching message from Postgres.
async fn assert_shows(world: &World, name: &str) {
    let shown = shown(world).await;
    for (preview, _) in &shown {
        assert!(preview.contains(&format!("{name}: the glue oven")), "{preview}");
        assert_eq!(preview.contains("author 1"), name == "author 1", "{preview}");
    }
    let names: Vec<_> = shown.iter().map(|(_, names)| &names[..]).collect();
    assert_eq!(names, [&[name.to_owned()][..], &["author 2".to_owned(), name.to_owned()]]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn results_and_surrounding_messages_show_current_names(pool: PgPool) {
    let world = World::new(pool).await.with_fallback();
    world.store_and_index(HERE, &[(1, 1, 1, "the glue oven smells"), (2, 2, 2, "open the window")]).await;
    world.store_session(HERE, &[(10, 1, 500, "good morning")]).await;
    assert_shows(&world, "author 1").await;

    let rename = "UPDATE users SET display_name = 'Ann' WHERE user_id = 1";
    sqlx::query(rename).execute(&world.pool).await.unwrap();
    assert_shows(&world, "Ann").await;

    // A webhook's message keeps its own name.
    let speak_for = "UPDATE messages SET webhook_name = 'bridge' WHERE id IN (1, 10)";
    sqlx::query(speak_for).execute(&world.pool).await.unwrap();
    assert_shows(&world, "bridge").await;
}
