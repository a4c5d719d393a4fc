//! What is shown is what Postgres says, from the moment that it says so.

use crate::support::{HERE, Mood, Place, World, ask, id};
use guildex_index::Mode;
use guildex_search::{SearchHit, SearchRequest};
use guildex_store::MIGRATOR;
use sqlx::PgPool;

/// A request in each way that there is to search.
fn ways(query: &str) -> Vec<SearchRequest> {
    let mode = |mode| SearchRequest { mode: Some(mode), ..ask(1, query) };
    vec![mode(Mode::Hybrid), mode(Mode::Dense), mode(Mode::Sparse)]
}

/// What is found in any of the ways, by the index and by Postgres.
async fn shown(world: &World, query: &str) -> Vec<SearchHit> {
    let mut shown = vec![];
    for mood in [Mood::Honest, Mood::Lying, Mood::Away] {
        world.view.set(mood);
        for request in ways(query) {
            shown.extend(world.search(&SearchRequest { surrounding: 20, ..request }).await.results);
        }
    }
    world.view.set(Mood::Honest);
    shown
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_find_tells_its_session_and_its_best_chunk(pool: PgPool) {
    let world = World::new(pool).await;
    let said = [
        (10, 1, 1, "good morning all"),
        (11, 2, 2, "what about breakfast"),
        (12, 1, 3, "the glue oven smells"),
        (13, 2, 4, "open the window"),
    ];
    world.say(HERE, &said).await;
    world.index(HERE, 10, 2).await;
    for request in ways("glue oven") {
        let results = world.search(&request).await;
        assert_eq!(results.model.unwrap().as_str(), "letters");
        assert!(!results.degraded && results.reason.is_none());
        let [found] = &results.results[..] else { panic!("a session is found once") };
        assert_eq!((found.session_id, found.message_count), (HERE.session(10), 4));
        assert_eq!((found.first_message_id, &*found.link), (id(10), "https://discord.com/channels/1/9/10"));
        assert_eq!((found.chunk.number, found.chunk.first_message_id), (Some(1), id(12)));
        assert_eq!(found.chunk.message_ids, [id(12), id(13)]);
        assert_eq!(found.chunk.link, "https://discord.com/channels/1/9/12");
        assert_eq!(&*found.preview, "author 1: the glue oven smells\nauthor 2: open the window");
        assert!(found.surrounding.is_none());
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn whoever_said_exactly_that_comes_first_with_the_chunk_that_has_it(pool: PgPool) {
    let world = World::new(pool).await;
    let scrambled = world.talk(HERE, &[(1, 1, 1, "saw the of teeth"), (2, 2, 2, "saw of teeth the")]).await;
    let said =
        [(10, 1, 10, "the saw of course"), (11, 2, 11, "long talk about the Teeth of the saw, and so on")];
    world.say(HERE, &said).await;
    world.index(HERE, 10, 1).await;
    let results = world.search(&ask(1, "teeth of the saw")).await.results;
    assert_eq!(results[0].chunk.first_message_id, id(11));
    assert_eq!(results[1].session_id, scrambled);
    assert!(results[0].score - results[1].score > 0.01, "no more than one first place apart");
    let dense = SearchRequest { mode: Some(Mode::Dense), ..ask(1, "teeth of the saw") };
    assert_eq!(world.found(&dense).await[0], scrambled, "vectors alone know no phrases");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_deletion_and_an_edit_hold_from_their_commit(pool: PgPool) {
    let world = World::new(pool).await.with_fallback();
    let gone = world.talk(HERE, &[(1, 1, 1, "turquoise flowerpot"), (2, 2, 2, "under it")]).await;
    let cut = world.talk(HERE, &[(11, 1, 11, "turquoise paint"), (12, 2, 12, "turquoise secret")]).await;
    let edited = world.talk(HERE, &[(21, 1, 21, "turquoise key"), (22, 2, 22, "is lost")]).await;
    let kept = world.talk(HERE, &[(31, 1, 31, "turquoise water"), (32, 2, 32, "is cold")]).await;
    let everything = shown(&world, "turquoise").await;
    assert!([gone, cut, edited, kept].iter().all(|s| everything.iter().any(|f| f.session_id == *s)));

    // No job has run since: the points are as they were.
    world.delete(HERE, 1, &[1, 2]).await;
    world.delete(HERE, 11, &[12]).await;
    world.edit(HERE, 21, (21, 1, 21, "copper key")).await;
    let now = shown(&world, "turquoise").await;
    assert!(now.iter().any(|found| found.session_id == kept));
    let told = serde_json::to_string(&now).unwrap();
    for gone in ["flowerpot", "under it", "secret", "turquoise key"] {
        assert!(!told.contains(gone), "{gone:?} is shown");
    }
    // By the index only what was left alone; Postgres knows what is left of the others.
    assert_eq!(world.found(&ask(1, "turquoise")).await, [kept]);
    world.view.set(Mood::Away);
    assert_eq!(world.found(&ask(1, "turquoise")).await, [kept, cut]);
    assert_eq!(world.found(&ask(1, "copper")).await, [edited]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn points_of_any_revision_but_the_recorded_one_are_never_shown(pool: PgPool) {
    let world = World::new(pool).await;
    world.say(HERE, &[(1, 1, 1, "old anvil"), (2, 2, 2, "old hammer")]).await;
    let slug = world.slug();
    let old = world.points(HERE, 1, usize::MAX, &slug).await;
    world.say_more(HERE, 1, &[(3, 1, 3, "new tongs")]).await;
    world.index(HERE, 1, usize::MAX).await;
    // A worker that froze wakes up: a stray beside the recorded point, of an older revision.
    let stray = |points: &[guildex_index::Point], revision: i64, number: u128| {
        let mut point = points[0].clone();
        point.id = uuid::Uuid::from_u128(number).into();
        point.payload.revision = revision.into();
        point.payload.chunk = 7;
        point
    };
    let now = old[0].payload.revision.get();
    let strays: Vec<_> = [(now, 1), (now + 10, 2), (0, 3)].map(|(r, n)| stray(&old, r, n)).to_vec();
    world.plant(|_| strays.clone()).await;
    for request in ways("old anvil") {
        let results = world.search(&request).await.results;
        assert_eq!(results.len(), 1);
        assert_eq!(results[0].chunk.number, Some(0), "a stray is shown");
        assert_eq!(results[0].chunk.message_ids, [id(1), id(2), id(3)]);
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_addition_hides_nothing(pool: PgPool) {
    let world = World::new(pool).await;
    let session = world.talk(HERE, &[(1, 1, 1, "walnut table"), (2, 2, 2, "nice")]).await;
    world.say_more(HERE, 1, &[(3, 1, 3, "more about the walnut table")]).await;
    let results = world.search(&ask(1, "walnut table")).await.results;
    assert_eq!((results[0].session_id, results[0].message_count), (session, 3));
    assert_eq!(results[0].chunk.message_ids, [id(1), id(2)], "the chunk is what was indexed");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn out_of_date_points_do_not_crowd_out_the_others(pool: PgPool) {
    let world = World::new(pool).await;
    let kept = world.talk(HERE, &[(1, 1, 1, "ember ember nutmeg"), (2, 2, 2, "quarry")]).await;
    let stale = world.points(HERE, 1, usize::MAX, &world.slug()).await;
    let stale: Vec<_> = (1..=700_u128)
        .map(|number| {
            let mut point = stale[0].clone();
            point.id = uuid::Uuid::from_u128(number).into();
            point.dense = crate::support::Letters::vector("ember");
            point.bm25 = guildex_index::bm25::document("ember", guildex_index::bm25::Language::None);
            point.payload.revision = 0.into();
            point
        })
        .collect();
    world.plant(|_| stale.clone()).await;
    for request in ways("ember") {
        assert_eq!(world.found(&request).await, [kept], "{request:?}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn neighbours_are_the_live_messages_on_either_side(pool: PgPool) {
    let world = World::new(pool).await;
    let elsewhere = Place { channel: 10, ..HERE };
    world.talk(elsewhere, &[(5, 1, 5, "another channel"), (6, 1, 6, "altogether")]).await;
    world.say(HERE, &[(1, 1, 1, "first"), (2, 2, 2, "second"), (3, 3, 3, "third")]).await;
    world
        .say(HERE, &[(10, 1, 10, "before"), (11, 2, 11, "needle"), (12, 3, 12, "eye"), (13, 1, 13, "after")])
        .await;
    world.index(HERE, 10, 1).await;
    let long = "x".repeat(1_500);
    world.say(HERE, &[(20, 1, 20, &long), (21, 2, 21, "opted out"), (22, 3, 22, "last")]).await;
    world.delete(HERE, 1, &[2]).await;
    // What another program stores and nobody has looked at, and what was found to be of a member who opted out.
    for statement in [
        "INSERT INTO messages (guild_id, channel_id, id, author_id, sent_at, text)
         VALUES (1, 9, 14, 1, '1970-01-01 00:14Z', 'unseen')",
        "UPDATE messages SET excluded_reason = 'opted_out' WHERE id = 21",
    ] {
        sqlx::query(statement).execute(&world.pool).await.unwrap();
    }

    let around = async |surrounding| {
        let request = SearchRequest { surrounding, ..ask(1, "needle") };
        let found = world.search(&request).await.results.remove(0);
        assert_eq!(found.chunk.first_message_id, id(11));
        let sides = found.surrounding.unwrap();
        let told = |side: &[guildex_search::SurroundingMessage]| {
            side.iter().map(|n| (n.message_id.get(), n.in_session)).collect::<Vec<_>>()
        };
        (told(&sides.before), told(&sides.after), sides.after.last().map(|n| n.text.chars().count()))
    };
    assert_eq!(around(1).await, (vec![(10, true)], vec![(12, true)], Some(3)));
    let two = around(2).await;
    assert_eq!((two.0, two.1), (vec![(3, false), (10, true)], vec![(12, true), (13, true)]));
    assert_eq!(around(3).await.2, Some(1_001), "a long text is cut, and says so");
    let all = around(20).await;
    assert_eq!(all.0, [(1, false), (3, false), (10, true)]);
    assert_eq!(all.1, [(12, true), (13, true), (20, false), (22, false)]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_question_of_any_characters_gets_an_answer(pool: PgPool) {
    let world = World::new(pool).await.with_fallback();
    world.talk(HERE, &[(1, 1, 1, "hello there"), (2, 2, 2, "hello you")]).await;
    for mood in [Mood::Honest, Mood::Away] {
        world.view.set(mood);
        for query in
            ["🦀", "a\u{0}b", "!!!", "'; DROP TABLE messages; --", "\"", "-hello", "& | !", "%_\\", "guild1"]
        {
            let results = world.search(&ask(1, query)).await.results;
            let nothing = mood == Mood::Away && !["-hello"].contains(&query);
            assert!(!nothing || results.is_empty(), "{query:?} finds something by words");
        }
    }
}
