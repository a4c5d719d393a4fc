//! Broken and unusual exports.

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::export::{CHANNEL, GUILD, edited, export, id, message, minute, write};
use crate::points::{assert_consistent, points};
use crate::world::World;

/// Part of every text. If it appears in output, content leaked.
const CONTENT: &str = "kingfisher";

fn said(at: i64, text: &str) -> Value {
    message(minute(at), 1, &format!("{CONTENT} {text}"))
}

#[tokio::test]
async fn broken_files_are_reported_and_valid_ones_imported() {
    let world = World::new().await;
    let folder = world.path("exports");
    let file = |name: &str| folder.join(name);
    let valid: Vec<Value> = (0..40).map(|n| said(n, "one of many things that were said")).collect();
    let channel = |number: i64| export(CHANNEL + number, &valid).to_string().into_bytes();
    let gzip = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let mut direct = export(CHANNEL + 9, &valid);
    direct["guild"]["id"] = "0".into();

    fs::create_dir(&folder).unwrap();
    let whole = channel(1);
    let cut = &whole[..whole.len() / 2];
    let packed = gzip(&channel(2));
    fs::write(file("a-cut.json"), cut).unwrap();
    fs::write(file("b-cut.json.gz"), &packed[..packed.len() / 2]).unwrap();
    fs::write(file("c-empty.json"), "").unwrap();
    fs::write(file("d-other.json"), json!({"secret": CONTENT}).to_string()).unwrap();
    fs::write(file("e-text.json"), CONTENT).unwrap();
    write(file("f-direct.json"), &direct);
    fs::write(file("g-valid.json.gz"), gzip(&channel(3))).unwrap();

    let imported = world.fails(&["import", folder.to_str().unwrap()]);
    let reported = |name: &str, reason: &str| {
        let line = imported.stderr.lines().find(|line| line.contains(name)).unwrap_or_default();
        assert!(line.contains(reason), "{name}: {reason}: {imported}");
        assert!(line.contains("byte "), "{imported}");
    };
    reported("a-cut.json", "the JSON is truncated");
    reported("a-cut.json", &format!("byte {} ", cut.len()));
    reported("b-cut.json.gz", "gzip data is damaged or truncated");
    reported("c-empty.json", "is empty");
    reported("d-other.json", "not a DiscordChatExporter JSON export");
    reported("e-text.json", "not a DiscordChatExporter JSON export");
    reported("f-direct.json", "direct messages");
    assert!(!imported.stderr.contains("g-valid"), "{imported}");
    assert!(!imported.stderr.contains(CONTENT), "{imported}");

    let counted = |sql| world.value::<i64>(sql);
    let sound_ones = counted("SELECT count(*) FROM messages WHERE channel_id % 100 = 4").await;
    assert_eq!(sound_ones, 40);
    for half in [
        counted("SELECT count(*) FROM messages WHERE channel_id % 100 = 2").await,
        counted("SELECT count(*) FROM messages WHERE channel_id % 100 = 3").await,
    ] {
        assert!((15..25).contains(&half), "{half} of 40 messages preceded the damage");
    }
    assert_eq!(counted("SELECT count(*) FROM messages WHERE channel_id % 100 = 10").await, 0);

    let missing = world.fails(&["import", file("none.json").to_str().unwrap()]);
    assert!(missing.stderr.contains("none.json"), "{missing}");
}

#[tokio::test]
async fn messages_of_every_kind_are_indexed_completely_and_invalid_ones_rejected() {
    let world = World::new().await;
    let mut no_id = said(1, "without an id");
    no_id["id"] = 17.into();
    let mut no_time = said(2, "at no time");
    no_time["timestamp"] = CONTENT.into();
    let mut wrong_author = said(3, "by nobody");
    wrong_author["author"] = json!([CONTENT]);
    let first = said(4, "as it was first");
    let newer = edited(&first, minute(30), &format!("{CONTENT} as it was last, which is what counts"));
    let older = edited(&first, minute(20), &format!("{CONTENT} as it was in between"));
    let odd = [
        said(6, "\u{0} null \u{1b}[31m escape \u{7f} delete \u{85} next line \u{202e} override"),
        said(7, "👩‍👩‍👧‍👦 🏳️‍🌈 🇨🇭 e\u{301} \u{feff} \u{200b} zalgo Z̸̢̛a̵l̶g̷o̴"),
        said(8, "שלום עולם، كيف حالك؟ 今日は天気がいいですね สวัสดีชาวโลก"),
    ];
    let words: Vec<String> = (0..1_000).map(|n| format!("w{}", 100 + n % 900)).collect();
    let long: String = words.join(" ").chars().take(4_000).collect();
    let giant = message(minute(300), 2, &long);
    let unbroken = message(minute(600), 2, &"x".repeat(4_000));
    let mut company = message(minute(601), 3, "that is one long word");
    company["type"] = "Reply".into();
    company["reference"] = json!({"messageId": unbroken["id"]});

    let mut messages = vec![no_id, no_time, wrong_author, newer, first.clone(), older];
    messages.extend(odd);
    messages.extend([giant.clone(), unbroken, company]);
    let file = write(world.path("odd.json"), &export(CHANNEL, &messages));
    let bytes = fs::read_to_string(&file).unwrap();
    let imported = world.fails(&["import", file.to_str().unwrap()]);
    for (id, reason) in [
        ("without a readable id", "skipped: `id`"),
        (&*id(&messages[1]).to_string(), "`timestamp` is not a time"),
        (&*id(&messages[2]).to_string(), "skipped: `author`"),
    ] {
        let line = imported.stderr.lines().find(|line| line.contains(id)).unwrap_or_default();
        assert!(line.contains(reason) && line.contains("odd.json: byte "), "{id}: {reason}: {imported}");
    }
    // The reported offset is that of the message in the file.
    let offset = bytes.find("\"messages\":[").unwrap() + "\"messages\":[".len();
    assert!(imported.stderr.contains(&format!("byte {offset}:")), "{offset}: {imported}");
    assert!(!imported.stderr.contains(CONTENT), "{imported}");

    assert_eq!(world.value::<i64>("SELECT count(*) FROM messages").await, 7);
    let text: String = sqlx::query_scalar("SELECT text FROM messages WHERE id = $1")
        .bind(id(&first))
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(text, format!("{CONTENT} as it was last, which is what counts"));

    let settled = world.settle();
    assert!(!settled.stderr.contains(CONTENT), "{settled}");
    let points = points(&world, GUILD).await;
    assert_consistent(&world, &points).await;
    assert_eq!(world.value::<i64>("SELECT count(*) FROM jobs WHERE state <> 'completed'").await, 0);

    // The long message is indexed completely, in several chunks.
    let giant_id = guildex_types::MessageId::try_from(id(&giant)).unwrap();
    let chunks: Vec<_> = points.values().filter(|p| p.payload.message_ids.contains(&giant_id)).collect();
    assert!(chunks.len() > 1, "the long message has one chunk");
    let query = guildex_index::bm25::query(&long, guildex_index::bm25::Language::None);
    for word in query.indices() {
        assert!(chunks.iter().any(|chunk| chunk.bm25.indices().contains(word)), "a word is missing");
    }
    let end: String = words[700..750].join(" ");
    assert!(long.contains(&end));
    assert_eq!(world.search(GUILD, &end)[0]["first_message_id"], giant["id"]);
}
