//! The samples, as the demo takes them.

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

/// A session's name, how it stands in the books, and how many jobs there ever were.
async fn books(world: &World) -> (Vec<(Uuid, i64, i64, Vec<u8>, i32)>, i64) {
    let sessions = sqlx::query_as(
        "SELECT session_id, point_revision, indexed_revision, content_hash, points
         FROM indexed_sessions ORDER BY session_id",
    );
    (sessions.fetch_all(&world.pool).await.unwrap(), world.value("SELECT count(*) FROM jobs").await)
}

#[tokio::test]
async fn every_eligible_session_of_the_samples_is_indexed_and_a_second_run_finds_nothing_to_do() {
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

    let before = books(&world).await;
    let again = world.import(samples());
    assert!(again.stderr.contains(": 0 new, 0 edited, 278 unchanged"), "{again}");
    world.settle();
    assert!(books(&world).await == before, "something was indexed again");
}

#[tokio::test]
async fn a_sentence_finds_its_own_conversation_and_never_leaves_its_guild() {
    let world = World::new().await;
    world.import(samples());
    world.settle();
    let _up = world.up().await;
    for guild in [MAKERS, ORCHARD] {
        for Remembered { session, channel, first, text } in remembered(&world, guild).await {
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
    assert_channels_hold(&world);
}

/// A search can be held to some of the guild's channels, and these lead to no other guild.
#[track_caller]
fn assert_channels_hold(world: &World) {
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

/// What somebody said in the middle of a conversation.
#[derive(sqlx::FromRow)]
struct Remembered {
    session: Uuid,
    channel: i64,
    first: i64,
    text: String,
}

/// The longest saying of some of a guild's indexed sessions, where that is neither the first nor the last.
async fn remembered(world: &World, guild: i64) -> Vec<Remembered> {
    let remembered: Vec<Remembered> = sqlx::query_as(
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
    // A few of them, from all over the guild's history.
    let step = remembered.len().div_ceil(8);
    remembered.into_iter().step_by(step).collect()
}
