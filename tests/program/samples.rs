//! The samples, as `scripts/demo` imports them.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use uuid::Uuid;

use crate::world::World;

pub const MAKERS: i64 = 1_100_000_000_000_000_001;
const ORCHARD: i64 = 1_100_000_000_000_000_002;

pub fn samples() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples"))
}

/// Rows of `indexed_sessions`, and the number of jobs.
async fn indexed_sessions(world: &World) -> (Vec<(Uuid, i64, i64, Vec<u8>, i32)>, i64) {
    let sessions = sqlx::query_as(
        "SELECT session_id, point_revision, indexed_revision, content_hash, points
         FROM indexed_sessions ORDER BY session_id",
    );
    (sessions.fetch_all(&world.pool).await.unwrap(), world.value("SELECT count(*) FROM jobs").await)
}

#[tokio::test]
async fn every_eligible_session_is_indexed_and_a_second_import_changes_nothing() {
    let world = World::new().await;
    world.import(samples());
    world.settle();

    let status = world.ok(&["status", "--json"]).json();
    assert_eq!(status["model"], "all-minilm-l6-v2-fp32");
    let guilds = status["guilds"].as_array().unwrap();
    let ids: Vec<&Value> = guilds.iter().map(|guild| &guild["guild_id"]).collect();
    assert_eq!(ids, [&MAKERS.to_string(), &ORCHARD.to_string()]);
    for guild in guilds {
        let number = |key: &str| guild[key].as_i64().unwrap();
        assert!(number("eligible") > 0 && number("sessions") > number("eligible"), "{guild}");
        assert_eq!(number("indexed"), number("eligible"), "{guild}");
        assert!(number("points") >= number("indexed"), "{guild}");
        assert_eq!((number("pending"), number("dead")), (0, 0), "{guild}");
    }

    let before = indexed_sessions(&world).await;
    let again = world.import(samples());
    assert!(again.stderr.contains(": 0 new, 0 edited, 278 unchanged"), "{again}");
    world.settle();
    assert!(indexed_sessions(&world).await == before, "something was indexed again");
}

#[tokio::test]
async fn a_sentence_finds_its_conversation_in_its_guild_alone() {
    let world = World::new().await;
    world.import(samples());
    world.settle();
    let _up = world.up().await;
    for guild in [MAKERS, ORCHARD] {
        for Sampled { session, channel, first, text } in sample_messages(&world, guild).await {
            let found = world.search(guild, &text);
            let best = &found[0];
            assert_eq!(best["session_id"], session.to_string(), "{text}");
            assert_eq!(best["guild_id"], guild.to_string());
            assert_eq!(best["channel_id"], channel.to_string());
            assert_eq!(best["first_message_id"], first.to_string());
            assert_eq!(best["link"], format!("https://discord.com/channels/{guild}/{channel}/{first}"));
            let excerpt: String = text.replace('\n', " ").chars().take(200).collect();
            assert!(best["preview"].as_str().unwrap().contains(&excerpt), "{best}");

            let sessions: BTreeSet<&str> = found.iter().filter_map(|f| f["session_id"].as_str()).collect();
            assert_eq!(sessions.len(), found.len(), "a session is found twice");
            let other = if guild == MAKERS { ORCHARD } else { MAKERS };
            for stranger in world.search(other, &text) {
                assert_eq!(stranger["guild_id"], other.to_string());
                assert_ne!(stranger["session_id"], session.to_string());
            }
        }
    }
    assert_channel_filter(&world);
}

/// Asserts that the channel filter restricts results, and reaches no other guild.
#[track_caller]
fn assert_channel_filter(world: &World) {
    let search = |guild: i64, channels: &[&str]| {
        let guild = guild.to_string();
        let mut arguments = vec!["search", "--guild", &guild, "--json", "--limit", "50"];
        for channel in channels {
            arguments.extend(["--channel", channel]);
        }
        arguments.push("stringing between printed towers");
        let json = world.ok(&arguments).json();
        let found = json["results"].as_array().unwrap();
        found.iter().map(|f| f["channel_id"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let (garden, thread) = ("1100000000000000105", "1100000000000000104");
    assert!(search(MAKERS, &[]).len() > 2);
    assert_eq!(search(MAKERS, &[garden]), BTreeSet::from([garden.to_owned()]));
    assert_eq!(search(MAKERS, &[garden, thread]), BTreeSet::from([garden.to_owned(), thread.to_owned()]));
    assert_eq!(search(ORCHARD, &[garden]), BTreeSet::new(), "a channel led out of the guild");
}

/// A message from the middle of a session.
#[derive(sqlx::FromRow)]
struct Sampled {
    session: Uuid,
    channel: i64,
    first: i64,
    text: String,
}

/// The longest inner message of some of a guild's indexed sessions.
async fn sample_messages(world: &World, guild: i64) -> Vec<Sampled> {
    let remembered: Vec<Sampled> = sqlx::query_as(
        "SELECT DISTINCT ON (m.first_message_id) s.id AS session, s.channel_id AS channel,
                s.first_message_id AS first, m.text
         FROM sessions s JOIN indexed_sessions i ON i.session_id = s.id
         JOIN messages m ON m.guild_id = s.guild_id AND m.channel_id = s.channel_id
              AND m.first_message_id = s.first_message_id
         WHERE s.guild_id = $1 AND m.words >= 8 AND m.sent_at > s.started_at AND m.sent_at < s.ended_at
         ORDER BY m.first_message_id, m.words DESC, m.id",
    )
    .bind(guild)
    .fetch_all(&world.pool)
    .await
    .unwrap();
    assert!(!remembered.is_empty());
    // A few, spread over the guild's history.
    let step = remembered.len().div_ceil(8);
    remembered.into_iter().step_by(step).collect()
}
