//! Searches show the current state of Postgres, from each commit on.

use crate::support::{HERE, IndexBehavior, Place, World, id, search_request};
use guildex_index::Mode;
use guildex_search::{SearchHit, SearchRequest};
use guildex_store::MIGRATOR;
use sqlx::PgPool;

/// One request in each search mode.
fn requests_in_all_modes(query: &str) -> Vec<SearchRequest> {
    let mode = |mode| SearchRequest { mode: Some(mode), ..search_request(1, query) };
    vec![mode(Mode::Hybrid), mode(Mode::Dense), mode(Mode::Sparse)]
}

/// All hits in every mode, from the index and from Postgres.
async fn shown(world: &World, query: &str) -> Vec<SearchHit> {
    let mut shown = vec![];
    for behavior in [IndexBehavior::Normal, IndexBehavior::Forged, IndexBehavior::Unavailable] {
        world.index.set_behavior(behavior);
        for request in requests_in_all_modes(query) {
            shown.extend(world.search(&SearchRequest { surrounding: 20, ..request }).await.results);
        }
    }
    world.index.set_behavior(IndexBehavior::Normal);
    shown
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_hit_has_its_session_and_best_chunk(pool: PgPool) {
    let world = World::new(pool).await;
    let messages = [
        (10, 1, 1, "good morning all"),
        (11, 2, 2, "what about breakfast"),
        (12, 1, 3, "the glue oven smells"),
        (13, 2, 4, "open the window"),
    ];
    world.store_session(HERE, &messages).await;
    world.index_session(HERE, 10, 2).await;
    for request in requests_in_all_modes("glue oven") {
        let results = world.search(&request).await;
        assert_eq!(results.model.unwrap().as_str(), "letters");
        assert!(!results.degraded && results.reason.is_none());
        let [hit] = &results.results[..] else { panic!("expected one hit") };
        assert_eq!((hit.session_id, hit.message_count), (HERE.session(10), 4));
        assert_eq!((hit.first_message_id, &*hit.link), (id(10), "https://discord.com/channels/1/9/10"));
        assert_eq!((hit.chunk.number, hit.chunk.first_message_id), (Some(1), id(12)));
        assert_eq!(hit.chunk.message_ids, [id(12), id(13)]);
        assert_eq!(hit.chunk.link, "https://discord.com/channels/1/9/12");
        assert_eq!(&*hit.preview, "author 1: the glue oven smells\nauthor 2: open the window");
        assert!(hit.surrounding.is_none());
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn exact_phrase_matches_rank_first_with_their_chunk(pool: PgPool) {
    let world = World::new(pool).await;
    let scrambled =
        world.store_and_index(HERE, &[(1, 1, 1, "saw the of teeth"), (2, 2, 2, "saw of teeth the")]).await;
    let messages =
        [(10, 1, 10, "the saw of course"), (11, 2, 11, "long talk about the Teeth of the saw, and so on")];
    world.store_session(HERE, &messages).await;
    world.index_session(HERE, 10, 1).await;
    let results = world.search(&search_request(1, "teeth of the saw")).await.results;
    assert_eq!(results[0].chunk.first_message_id, id(11));
    assert_eq!(results[1].session_id, scrambled);
    assert!(results[0].score - results[1].score > 0.01, "the scores differ by less than one first place");
    let dense = SearchRequest { mode: Some(Mode::Dense), ..search_request(1, "teeth of the saw") };
    assert_eq!(world.search_ids(&dense).await[0], scrambled, "dense search does not boost phrases");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn deletions_and_edits_apply_from_their_commit(pool: PgPool) {
    let world = World::new(pool).await.with_fallback();
    let deleted =
        world.store_and_index(HERE, &[(1, 1, 1, "turquoise flowerpot"), (2, 2, 2, "under it")]).await;
    let cut =
        world.store_and_index(HERE, &[(11, 1, 11, "turquoise paint"), (12, 2, 12, "turquoise secret")]).await;
    let edited = world.store_and_index(HERE, &[(21, 1, 21, "turquoise key"), (22, 2, 22, "is lost")]).await;
    let kept = world.store_and_index(HERE, &[(31, 1, 31, "turquoise water"), (32, 2, 32, "is cold")]).await;
    let everything = shown(&world, "turquoise").await;
    assert!([deleted, cut, edited, kept].iter().all(|s| everything.iter().any(|f| f.session_id == *s)));

    // No job has run since: the points are unchanged.
    world.delete(HERE, 1, &[1, 2]).await;
    world.delete(HERE, 11, &[12]).await;
    world.edit(HERE, 21, (21, 1, 21, "copper key")).await;
    let now = shown(&world, "turquoise").await;
    assert!(now.iter().any(|hit| hit.session_id == kept));
    let json = serde_json::to_string(&now).unwrap();
    for text in ["flowerpot", "under it", "secret", "turquoise key"] {
        assert!(!json.contains(text), "{text:?} is shown");
    }
    // The index shows only the unchanged session; Postgres also shows what remains of the others.
    assert_eq!(world.search_ids(&search_request(1, "turquoise")).await, [kept]);
    world.index.set_behavior(IndexBehavior::Unavailable);
    assert_eq!(world.search_ids(&search_request(1, "turquoise")).await, [kept, cut]);
    assert_eq!(world.search_ids(&search_request(1, "copper")).await, [edited]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn only_points_of_the_recorded_revision_are_shown(pool: PgPool) {
    let world = World::new(pool).await;
    world.store_session(HERE, &[(1, 1, 1, "old anvil"), (2, 2, 2, "old hammer")]).await;
    let slug = world.slug();
    let old = world.points(HERE, 1, usize::MAX, &slug).await;
    world.extend_session(HERE, 1, &[(3, 1, 3, "new tongs")]).await;
    world.index_session(HERE, 1, usize::MAX).await;
    // A worker that was frozen writes late: an orphaned point of an older revision beside the recorded one.
    let orphan = |points: &[guildex_index::Point], revision: i64, number: u128| {
        let mut point = points[0].clone();
        point.id = uuid::Uuid::from_u128(number).into();
        point.payload.revision = revision.into();
        point.payload.chunk = 7;
        point
    };
    let now = old[0].payload.revision.get();
    let orphans: Vec<_> = [(now, 1), (now + 10, 2), (0, 3)].map(|(r, n)| orphan(&old, r, n)).to_vec();
    world.upsert_everywhere(|_| orphans.clone()).await;
    for request in requests_in_all_modes("old anvil") {
        let results = world.search(&request).await.results;
        assert_eq!(results.len(), 1);
        assert_eq!(results[0].chunk.number, Some(0), "an orphaned point is shown");
        assert_eq!(results[0].chunk.message_ids, [id(1), id(2), id(3)]);
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_added_message_does_not_hide_its_session(pool: PgPool) {
    let world = World::new(pool).await;
    let session = world.store_and_index(HERE, &[(1, 1, 1, "walnut table"), (2, 2, 2, "nice")]).await;
    world.extend_session(HERE, 1, &[(3, 1, 3, "more about the walnut table")]).await;
    let results = world.search(&search_request(1, "walnut table")).await.results;
    assert_eq!((results[0].session_id, results[0].message_count), (session, 3));
    assert_eq!(results[0].chunk.message_ids, [id(1), id(2)], "the chunk is the indexed one");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn outdated_points_do_not_displace_current_ones(pool: PgPool) {
    let world = World::new(pool).await;
    let kept = world.store_and_index(HERE, &[(1, 1, 1, "ember ember nutmeg"), (2, 2, 2, "quarry")]).await;
    let stale = world.points(HERE, 1, usize::MAX, &world.slug()).await;
    let stale: Vec<_> = (1..=700_u128)
        .map(|number| {
            let mut point = stale[0].clone();
            point.id = uuid::Uuid::from_u128(number).into();
            point.dense = crate::support::WordEmbedder::vector("ember");
            point.bm25 = guildex_index::bm25::document("ember", guildex_index::bm25::Language::None);
            point.payload.revision = 0.into();
            point
        })
        .collect();
    world.upsert_everywhere(|_| stale.clone()).await;
    for request in requests_in_all_modes("ember") {
        assert_eq!(world.search_ids(&request).await, [kept], "{request:?}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn surrounding_messages_are_the_nearest_live_ones_on_both_sides(pool: PgPool) {
    let world = World::new(pool).await;
    let other_channel = Place { channel: 10, ..HERE };
    world.store_and_index(other_channel, &[(5, 1, 5, "another channel"), (6, 1, 6, "altogether")]).await;
    world.store_session(HERE, &[(1, 1, 1, "first"), (2, 2, 2, "second"), (3, 3, 3, "third")]).await;
    world
        .store_session(
            HERE,
            &[(10, 1, 10, "before"), (11, 2, 11, "needle"), (12, 3, 12, "eye"), (13, 1, 13, "after")],
        )
        .await;
    world.index_session(HERE, 10, 1).await;
    let long = "x".repeat(1_500);
    world.store_session(HERE, &[(20, 1, 20, &long), (21, 2, 21, "opted out"), (22, 3, 22, "last")]).await;
    world.delete(HERE, 1, &[2]).await;
    // One message without a session, inserted by another program, and one of a member who opted out.
    for statement in [
        "INSERT INTO messages (guild_id, channel_id, id, author_id, sent_at, text)
         VALUES (1, 9, 14, 1, '1970-01-01 00:14Z', 'unseen')",
        "UPDATE messages SET excluded_reason = 'opted_out' WHERE id = 21",
    ] {
        sqlx::query(statement).execute(&world.pool).await.unwrap();
    }

    let around = async |surrounding| {
        let request = SearchRequest { surrounding, ..search_request(1, "needle") };
        let hit = world.search(&request).await.results.remove(0);
        assert_eq!(hit.chunk.first_message_id, id(11));
        let sides = hit.surrounding.unwrap();
        let ids = |side: &[guildex_search::SurroundingMessage]| {
            side.iter().map(|n| (n.message_id.get(), n.in_session)).collect::<Vec<_>>()
        };
        (ids(&sides.before), ids(&sides.after), sides.after.last().map(|n| n.text.chars().count()))
    };
    assert_eq!(around(1).await, (vec![(10, true)], vec![(12, true)], Some(3)));
    let two = around(2).await;
    assert_eq!((two.0, two.1), (vec![(3, false), (10, true)], vec![(12, true), (13, true)]));
    assert_eq!(around(3).await.2, Some(1_001), "a long text is truncated with an ellipsis");
    let all = around(20).await;
    assert_eq!(all.0, [(1, false), (3, false), (10, true)]);
    assert_eq!(all.1, [(12, true), (13, true), (20, false), (22, false)]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn queries_of_any_characters_are_answered(pool: PgPool) {
    let world = World::new(pool).await.with_fallback();
    world.store_and_index(HERE, &[(1, 1, 1, "hello there"), (2, 2, 2, "hello you")]).await;
    for behavior in [IndexBehavior::Normal, IndexBehavior::Unavailable] {
        world.index.set_behavior(behavior);
        for query in
            ["🦀", "a\u{0}b", "!!!", "'; DROP TABLE messages; --", "\"", "-hello", "& | !", "%_\\", "guild1"]
        {
            let results = world.search(&search_request(1, query)).await.results;
            let nothing = behavior == IndexBehavior::Unavailable && !["-hello"].contains(&query);
            assert!(!nothing || results.is_empty(), "{query:?} has hits by words");
        }
    }
}
