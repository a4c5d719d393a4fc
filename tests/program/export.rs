//! Generates exports in DiscordChatExporter's format.

use std::fs;
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

pub const GUILD: i64 = 1_300_000_000_000_000_001;
pub const CHANNEL: i64 = 1_300_000_000_000_000_101;

/// Discord's epoch, in milliseconds of Unix time.
const EPOCH: i64 = 1_420_070_400_000;

/// Snowflake of a message sent at `at`; `n` distinguishes those of one millisecond.
pub fn snowflake(at: DateTime<Utc>, n: i64) -> i64 {
    ((at.timestamp_millis() - EPOCH) << 22) | n
}

/// Minutes after some day's noon.
pub fn minute(minutes: i64) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2025, 3, 3, 12, 0, 0).unwrap() + TimeDelta::minutes(minutes)
}

/// An ordinary message.
pub fn message(at: DateTime<Utc>, author: i64, content: &str) -> Value {
    json!({
        "id": snowflake(at, author).to_string(),
        "type": "Default",
        "timestamp": at.to_rfc3339(),
        "timestampEdited": null,
        "content": content,
        "author": {"id": (900 + author).to_string(), "name": format!("member{author}"), "isBot": false},
        "attachments": [], "embeds": [], "stickers": [], "mentions": [],
    })
}

/// A reply to `parent`.
pub fn reply(at: DateTime<Utc>, author: i64, content: &str, parent: &Value) -> Value {
    let mut reply = message(at, author, content);
    reply["type"] = "Reply".into();
    reply["reference"] = json!({"type": "Default", "messageId": parent["id"]});
    reply
}

/// The message after an edit.
pub fn edited(message: &Value, at: DateTime<Utc>, content: &str) -> Value {
    let mut edited = message.clone();
    edited["timestampEdited"] = at.to_rfc3339().into();
    edited["content"] = content.into();
    edited
}

pub fn id(message: &Value) -> i64 {
    message["id"].as_str().unwrap().parse().unwrap()
}

/// An export of one channel of [`GUILD`].
pub fn export(channel: i64, messages: &[Value]) -> Value {
    json!({
        "guild": {"id": GUILD.to_string(), "name": "Test", "iconUrl": null},
        "channel": {
            "id": channel.to_string(), "type": "GuildTextChat", "categoryId": null, "category": null,
            "name": format!("channel-{}", channel % 100), "topic": null,
        },
        "messages": messages,
        "messageCount": messages.len(),
    })
}

pub fn write(path: PathBuf, export: &Value) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, export.to_string()).unwrap();
    path
}

const WORDS: [&str; 40] = [
    "anvil", "basil", "candle", "dovetail", "ember", "fennel", "gasket", "hammer", "indigo", "juniper",
    "kettle", "lantern", "mallet", "nutmeg", "oven", "pebble", "quarry", "rivet", "saddle", "thimble",
    "umber", "varnish", "walnut", "yarrow", "zinc", "bellows", "chisel", "drill", "easel", "flint", "glue",
    "hinge", "iron", "jigsaw", "knot", "lathe", "mortar", "nail", "oak", "plane",
];

/// A sentence of `words` words.
pub fn sentence(random: &mut StdRng, words: usize) -> String {
    (0..words).map(|_| *WORDS.choose(random).unwrap()).collect::<Vec<_>>().join(" ")
}

/// Conversations of three to five messages, far enough apart in time to be separate sessions.
pub fn conversations(seed: u64, count: i64) -> Vec<Vec<Value>> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut start = minute(0);
    let mut all = Vec::new();
    for _ in 0..count {
        let mut said: Vec<Value> = Vec::new();
        for place in 0..random.random_range(3..=5) {
            let (at, author) = (start + TimeDelta::minutes(place), random.random_range(1..=6));
            let words = random.random_range(6..=14);
            let content = sentence(&mut random, words);
            said.push(match said.last() {
                Some(last) => reply(at, author, &content, last),
                None => message(at, author, &content),
            });
        }
        all.push(said);
        start += TimeDelta::hours(3);
    }
    all
}

/// A folder with exports of three channels, `sessions` sessions in all.
pub fn three_channels(folder: &Path, sessions: i64) -> PathBuf {
    for (seed, channel) in (1..).zip(CHANNEL..CHANNEL + 3) {
        let messages = conversations(seed, sessions / 3).concat();
        write(folder.join(format!("{channel}.json")), &export(channel, &messages));
    }
    folder.to_owned()
}
