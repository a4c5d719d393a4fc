//! Sessions depend on the set of messages, not on their order of arrival.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::export::{CHANNEL, export, message, minute, reply, sentence, write};
use crate::world::World;

/// A busy channel: replies far back, mentions, pauses of all lengths, bots and joins in between.
fn busy_channel(random: &mut StdRng) -> Vec<Value> {
    let mut at = minute(0);
    let mut said: Vec<Value> = Vec::new();
    for _ in 0..400 {
        let pause = if random.random_bool(0.04) { 9_000 } else { 240 };
        at += chrono::TimeDelta::seconds(random.random_range(1..pause));
        let author = random.random_range(1..=9);
        let content = sentence(random, 6);
        let recent = &said[said.len().saturating_sub(15)..];
        let mut next = match recent {
            [_, ..] if random.random_bool(0.4) => {
                reply(at, author, &content, &recent[random.random_range(0..recent.len())])
            }
            _ => message(at, author, &content),
        };
        if random.random_bool(0.2) {
            next["mentions"] = json!([{"id": (900 + random.random_range(1..=9)).to_string(), "name": "x"}]);
        }
        if random.random_bool(0.05) {
            next["type"] = "GuildMemberJoin".into();
        }
        next["author"]["isBot"] = random.random_bool(0.05).into();
        said.push(next);
    }
    said
}

/// Live sessions with their messages.
async fn sessions(world: &World) -> BTreeMap<Uuid, BTreeSet<i64>> {
    let rows: Vec<(Uuid, i64)> = sqlx::query_as(
        "SELECT s.id, m.id FROM sessions s
         JOIN messages m ON m.channel_id = s.channel_id AND m.first_message_id = s.first_message_id
         WHERE s.deleted_at IS NULL",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    let mut sessions: BTreeMap<Uuid, BTreeSet<i64>> = BTreeMap::new();
    for (session, message) in rows {
        sessions.entry(session).or_default().insert(message);
    }
    sessions
}

#[tokio::test]
async fn exports_split_and_imported_in_any_order_give_the_same_sessions() {
    let mut random = StdRng::seed_from_u64(5);
    let messages = busy_channel(&mut random);
    let world = World::new().await;
    world.import(&write(world.path("whole.json"), &export(CHANNEL, &messages)));
    let whole = sessions(&world).await;
    assert!(
        whole.len() > 30 && whole.values().any(|members| members.len() > 5),
        "the channel is too small for the test"
    );

    let reversed: Vec<Value> = messages.iter().rev().cloned().collect();
    // Overlapping pieces, each shuffled.
    let mut pieces: Vec<Vec<Value>> = (0..messages.len())
        .step_by(40)
        .map(|from| messages[from..].iter().take(60).cloned().collect())
        .collect();
    for piece in &mut pieces {
        piece.shuffle(&mut random);
    }
    let mut shuffled = pieces.clone();
    shuffled.shuffle(&mut random);
    let backwards: Vec<Vec<Value>> = pieces.into_iter().rev().collect();

    for order in [vec![reversed], shuffled, backwards] {
        let world = World::new().await;
        for (number, piece) in order.iter().enumerate() {
            write(world.path(&format!("pieces/{number:03}.json")), &export(CHANNEL, piece));
        }
        world.import(&world.path("pieces"));
        assert_eq!(sessions(&world).await, whole);
        let miscounted = "SELECT count(*) FROM sessions s WHERE message_count <> (
            SELECT count(*) FROM messages m WHERE m.channel_id = s.channel_id
            AND m.first_message_id = s.first_message_id AND m.text <> '')";
        assert_eq!(world.value::<i64>(miscounted).await, 0);
    }
}
