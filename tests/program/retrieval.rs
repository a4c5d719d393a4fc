//! `guildex eval retrieval`: searches measured against annotated conversations.

use serde_json::{Value, json};

use crate::export::{CHANNEL, GUILD, export, message, minute, reply, write};
use crate::world::World;

/// Four interleaved conversations in which every message but the first is a reply.
fn conversations() -> Vec<Vec<Value>> {
    let conversations = [
        [
            "how do I stop the boat's engine from overheating",
            "look at the raw water pump of the engine first, the impeller tears",
            "the impeller has lost two blades, that explains the engine",
            "then fish the blades out of the heat exchanger, or the boat overheats again",
        ],
        [
            "which flour makes a rye bread that does not crumble",
            "wholemeal rye with a sourdough, and a tenth of wheat flour",
            "does the sourdough bread need a tin",
            "yes, rye dough has no strength, the tin holds the bread",
        ],
        [
            "my violin's E string whistles when I play it open",
            "a wound E string whistles less, and so does a slower bow on the violin",
            "the wound string is silent, thank you",
            "keep the old string for the day when this violin string breaks",
        ],
        [
            "can tomatoes grow in the shade of a wall",
            "tomatoes want six hours of sun, in the shade you get leaves",
            "there is sun on the wall from noon on",
            "that will do for cherry tomatoes, plant them close to the wall",
        ],
    ];
    let mut written: Vec<Vec<Value>> = vec![Vec::new(); conversations.len()];
    for (turn, at) in (0..4).zip((0..).step_by(4)) {
        for ((place, texts), said) in conversations.iter().enumerate().zip(&mut written) {
            let place = i64::try_from(place).unwrap();
            let (at, author) = (minute(at + place), 1 + 2 * place + i64::try_from(turn % 2).unwrap());
            said.push(match said.last() {
                Some(last) => reply(at, author, texts[turn], last),
                None => message(at, author, texts[turn]),
            });
        }
    }
    written
}

fn write_annotated(world: &World, conversations: &[Vec<Value>]) {
    let mut said = conversations.concat();
    said.sort_by_key(|message| message["timestamp"].as_str().unwrap().to_owned());
    let ids: Vec<Vec<&Value>> =
        conversations.iter().map(|said| said.iter().map(|message| &message["id"]).collect()).collect();
    let gold = json!({
        "guild_id": GUILD.to_string(),
        "channel_id": CHANNEL.to_string(),
        "first_annotated_message_id": said[0]["id"],
        "conversations": ids,
    });
    write(world.path("exports/help.json"), &export(CHANNEL, &said));
    write(world.path("gold/help.json"), &gold);
}

const EVALUATE: [&str; 6] = ["eval", "retrieval", "--exports", "exports", "--annotations", "gold"];
const MEASURES: [&str; 5] = ["success@1", "success@5", "success@10", "mrr@10", "coverage@5"];

#[tokio::test]
async fn sessions_by_replies_are_found_and_sessions_by_gaps_are_not() {
    let world = World::new().await;
    write_annotated(&world, &conversations());
    let report = world.ok(&[&EVALUATE[..], &["--json"]].concat()).json();
    assert_eq!(
        (&report["channels"], &report["messages"], &report["questions"]),
        (&json!(1), &json!(12), &json!(4))
    );
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 9, "three ways to make sessions, three to rank: {report}");
    for row in rows {
        // By replies, sessions are the conversations; by gaps, there is one session.
        let expected = if row["method"] == "gap" { 0.0 } else { 100.0 };
        for measure in MEASURES {
            assert_eq!(row[measure], expected, "{measure} of {row}");
        }
        assert_eq!(row["points"], if row["method"] == "gap" { 2 } else { 4 }, "{row}");
    }
}

#[tokio::test]
async fn a_subset_can_be_measured_and_unknown_models_are_rejected() {
    let world = World::new().await;
    write_annotated(&world, &conversations());
    let table =
        world.ok(&[&EVALUATE[..], &["--methods", "plain", "--modes", "sparse,hybrid"]].concat()).stdout;
    assert!(table.starts_with("4 questions to 12 messages of 1 channels; percent\n"), "{table}");
    let rows: Vec<&str> = table.lines().filter(|line| line.contains("all-minilm")).collect();
    assert_eq!(rows.len(), 2, "{table}");
    assert!(rows.iter().all(|row| row.contains(" plain ") && row.ends_with("100.0")), "{table}");

    let unknown = world.fails(&[&EVALUATE[..], &["--models", "elsewhere"]].concat());
    assert!(unknown.stderr.contains("elsewhere"), "{unknown}");
    let short: Vec<Vec<Value>> = conversations().iter().map(|said| said[..3].to_vec()).collect();
    write_annotated(&world, &short);
    let rejected = world.fails(&EVALUATE);
    assert!(rejected.stderr.contains("at least four messages"), "{rejected}");
}
