//! Reads plain, gzipped, truncated, damaged and hostile exports.

use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use guildex_discord_export::{
    ErrorKind, ExportError, Outcome, Page, RejectReason, Rejected, find_exports, read_export,
};
use guildex_types::{Message, MessageKind};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

const HEAD: &str = r#"{"guild":{"id":"7","name":"Makers","iconUrl":null},
"channel":{"id":"9","type":"GuildTextChat","categoryId":"5","category":"Making","name":"help","topic":null},
"dateRange":{"after":null,"before":null},"exportedAt":"2025-01-01T00:00:00+00:00","messages":["#;

/// An export with the byte range of each element.
struct Export {
    json: String,
    starts: Vec<usize>,
    ends: Vec<usize>,
}

impl Export {
    fn of<T: ToString>(elements: impl IntoIterator<Item = T>) -> Self {
        let mut export = Self { json: HEAD.to_owned(), starts: Vec::new(), ends: Vec::new() };
        for (index, element) in elements.into_iter().enumerate() {
            export.json.push_str(if index > 0 { ",\n  " } else { "\n  " });
            export.starts.push(export.json.len());
            export.json.push_str(&element.to_string());
            export.ends.push(export.json.len());
        }
        export.json.push_str("\n],\"messageCount\":0}\n");
        export
    }

    /// Counts the elements that end within the first `length` bytes.
    fn complete_within(&self, length: usize) -> usize {
        self.ends.iter().filter(|end| **end <= length).count()
    }
}

fn message(id: u64, content: &str) -> Value {
    json!({
        "id": id.to_string(), "type": "Default", "timestamp": "2024-05-01T10:00:00.123+00:00",
        "timestampEdited": null, "callEndedTimestamp": null, "isPinned": false, "content": content,
        "author": {
            "id": "3", "name": "ann", "discriminator": "0000", "nickname": "Ann", "color": null, "isBot": false,
            "roles": [{"id": "1", "name": "maker", "color": "#FFFFFF", "position": 3}], "avatarUrl": "x.png",
        },
        "attachments": [], "embeds": [], "stickers": [], "reactions": [], "mentions": [], "inlineEmojis": [],
    })
}

/// Result of reading a file.
struct ReadExport {
    messages: Vec<Message>,
    rejected: Vec<Rejected>,
    end: Result<Outcome, ExportError>,
}

impl ReadExport {
    fn ids(&self) -> Vec<i64> {
        self.messages.iter().map(|message| message.id.get()).collect()
    }

    fn error_kind(self) -> ErrorKind {
        self.end.expect_err("the read succeeded").kind
    }
}

fn read_file(path: &Path, page_size: usize) -> ReadExport {
    let (mut messages, mut rejected) = (Vec::new(), Vec::new());
    let end = read_export(path, page_size, &mut |page: Page| {
        let count = page.messages.len() + page.rejected.len();
        assert!((1..=page_size.max(1)).contains(&count), "a page of {count}");
        messages.extend(page.messages);
        rejected.extend(page.rejected);
        ControlFlow::Continue(())
    });
    if let Ok(outcome) = &end {
        let outcome = (outcome.messages, outcome.rejected, outcome.stopped);
        assert_eq!(outcome, (messages.len() as u64, rejected.len() as u64, false));
    }
    ReadExport { messages, rejected, end }
}

fn read(bytes: impl AsRef<[u8]>) -> ReadExport {
    read_in_pages(bytes, 2)
}

fn read_in_pages(bytes: impl AsRef<[u8]>, page_size: usize) -> ReadExport {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("export");
    fs::write(&path, bytes).unwrap();
    read_file(&path, page_size)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn the_page_size_does_not_change_the_messages() {
    let export = Export::of((1..=7).map(|id| match id {
        3 => json!({"id": "3"}),
        id => message(id, "hello"),
    }));
    for page_size in [0, 1, 2, 3, 7, usize::MAX] {
        let result = read_in_pages(&export.json, page_size);
        assert_eq!(result.ids(), [1, 2, 4, 5, 6, 7]);
        let shape = RejectReason::InvalidField { path: ".".into() };
        let offset = export.starts[2] as u64;
        assert_eq!(result.rejected, [Rejected { offset, id: "3".parse().ok(), reason: shape }]);
    }
}

#[test]
fn each_page_has_the_header_and_progress_reaches_the_end() {
    let export = Export::of((1..=3).map(|id| message(id, "hello")));
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("help.json");
    fs::write(&path, &export.json).unwrap();
    let mut pages = Vec::new();
    read_export(&path, 2, &mut |page| {
        pages.push(page);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(pages.len(), 2);
    for page in &pages {
        assert_eq!((page.header.guild_id.get(), page.header.guild_name.as_str()), (7, "Makers"));
        assert_eq!((page.header.channel.id.get(), page.header.channel.name.as_str()), (9, "help"));
        assert_eq!(page.bytes_read, export.json.len() as u64);
    }
}

#[test]
fn gzip_is_detected_by_its_bytes_and_may_have_several_members() {
    let export = Export::of((1..=5).map(|id| message(id, "hello")));
    let json = export.json.as_bytes();
    assert_eq!(read(gzip(json)).ids(), [1, 2, 3, 4, 5]);
    let members: Vec<u8> = json.chunks(100).flat_map(gzip).collect();
    assert_eq!(read(members).ids(), [1, 2, 3, 4, 5]);
    let tiny: Vec<u8> = [&json[..1], &json[1..2], &json[2..]].into_iter().flat_map(gzip).collect();
    assert_eq!(read(tiny).ids(), [1, 2, 3, 4, 5]);
}

#[test]
fn byte_order_marks_line_ends_and_spaces_do_not_matter() {
    let export = Export::of([message(1, "one"), message(2, "two")]);
    let spaced = format!("\u{feff}\r\n\t {}\r\n", export.json.replace('\n', "\r\n"));
    assert_eq!(read(&spaced).ids(), [1, 2]);
    assert_eq!(read(gzip(spaced.as_bytes())).ids(), [1, 2]);

    let broken = format!("\u{feff}{}", &export.json[..export.starts[1]]);
    assert_eq!(read(&broken).end.unwrap_err().offset, broken.len() as u64);
}

#[test]
fn an_export_without_messages_is_valid() {
    assert_eq!(read(Export::of::<Value>([]).json).end.unwrap(), Outcome::default());
}

#[test]
fn repeated_ids_are_passed_on() {
    assert_eq!(read(Export::of([5, 4, 5].map(|id| message(id, "again"))).json).ids(), [5, 4, 5]);
}

#[test]
fn the_callback_can_stop_the_read() {
    let export = Export::of((1..=9).map(|id| message(id, "hello")));
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("help.json");
    // Nothing after the stop is parsed.
    fs::write(&path, &export.json[..export.ends[3] + 1]).unwrap();
    let mut pages = 0;
    let outcome = read_export(&path, 2, &mut |_| {
        pages += 1;
        if pages == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(outcome.unwrap(), Outcome { messages: 4, rejected: 0, stopped: true });
    assert_eq!(pages, 2);
}

#[test]
fn unusual_valid_texts_are_read_unchanged() {
    let texts = [
        "x".repeat(4_000),
        "👩‍👩‍👧‍👦 family, 🏳️‍🌈 flag, e\u{301} accent".into(),
        "مرحبا بالعالم \u{202e}reversed\u{202c} שלום".into(),
        "日本語 한국어 ไทย".into(),
        "\"quotes\" \\ back / slashes".into(),
        "one\ntwo\tthree".into(),
    ];
    let export = Export::of(texts.iter().enumerate().map(|(id, text)| message(id as u64 + 1, text)));
    let result = read(&export.json);
    let read: Vec<_> = result.messages.iter().map(|message| message.text.as_str().to_owned()).collect();
    assert_eq!(read, texts);
}

#[test]
fn control_characters_are_removed_from_texts_and_names() {
    let mut hostile = message(1, "a\u{0}b\u{1b}[31mc\r\nd");
    hostile["author"]["nickname"] = json!("An\nn\u{0}");
    let result = read(Export::of([hostile]).json);
    assert_eq!(result.messages[0].text.as_str(), "ab[31mc\nd");
    assert_eq!(result.messages[0].author.name(), "An n");
}

#[test]
fn an_invalid_message_is_rejected_without_its_neighbors() {
    let with = |field: &str, value: Value| {
        let mut message = message(2, "secret");
        message[field] = value;
        message.to_string()
    };
    let valid = message(2, "secret").to_string();
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let elements = [
        "null".to_owned(),
        "17".into(),
        "\"secret\"".into(),
        "[]".into(),
        "{}".into(),
        with("id", json!(2)),
        with("id", json!("99999999999999999999")),
        with("author", json!("secret")),
        with("author", json!({"id": 3, "name": "secret"})),
        with("content", json!({"secret": "secret"})),
        with("attachments", json!([{"fileName": ["secret"]}])),
        with("mentions", json!({"secret": 1})),
        with("timestamp", json!("secret")),
        with("timestamp", json!(1714557600)),
        with("timestamp", json!("1999-01-01T00:00:00+00:00")),
        with("type", json!(0)),
        valid.replace("secret", r"secret \ud83d"),
        valid.replace("secret", r"secret \udc00\ud800"),
        valid.replace("\"secret\"", &deep(100_000)),
        valid.replace("\"secret\"", "1e999999"),
    ];
    for hostile in elements {
        let (first, last) = (message(1, "first").to_string(), message(3, "last").to_string());
        let export = Export::of([first, hostile.clone(), last]);
        let result = read(&export.json);
        let shown: String = hostile.chars().take(80).collect();
        assert_eq!(result.ids(), [1, 3], "{shown}");
        assert_eq!(result.rejected.len(), 1, "{shown}");
        assert_eq!(result.rejected[0].offset, export.starts[1] as u64, "{shown}");
        let text = format!("{} {:?}", result.rejected[0].reason, result.rejected);
        assert!(!text.contains("secret"), "{text}");
    }
}

#[test]
fn a_rejection_has_the_id_if_it_can_be_read() {
    let elements = [r#"{"id":"2","type":5}"#, r#"{"id":"2","content":"\ud800"}"#, r#"{"id":2}"#, "[]"];
    let result = read(Export::of(elements).json);
    let ids: Vec<_> = result.rejected.iter().map(|rejected| rejected.id.map(|id| id.get())).collect();
    assert_eq!(ids, [Some(2), Some(2), None, None]);
}

#[test]
fn unknown_fields_may_hold_any_value() {
    let deep = format!("{}1e999999{}", "[{\"a\":".repeat(50_000), "}]".repeat(50_000));
    let odd = message(1, "hello").to_string().replacen('{', &format!(r#"{{"new":{deep},"odd":"\ud800","#), 1);
    let json = Export::of([odd]).json;
    let json = json.replacen("\"dateRange\":{", &format!("\"future\":{deep},\"dateRange\":{{"), 1);
    assert_eq!(read(json).ids(), [1]);
}

#[test]
fn the_last_of_duplicate_fields_wins() {
    let twice = message(1, "hello").to_string().replacen('{', r#"{"id":"44","id":"45","#, 1);
    let json = Export::of([twice]).json.replacen('{', r#"{"guild":{"id":"6"},"#, 1);
    let result = read(json);
    assert_eq!(result.ids(), [1]);
    assert_eq!(result.messages[0].guild_id.get(), 7);
}

#[test]
fn an_older_export_with_fewer_fields_is_read() {
    let bare = r#"{"id":"1","type":"Default","timestamp":"2019-05-01T10:00:00Z","content":"hi",
        "author":{"id":"3","name":"ann","isBot":true}}"#;
    let json = format!(
        r#"{{"guild":{{"id":"7","name":"M"}},"channel":{{"id":"9","type":"GuildTextChat"}},"messages":[{bare}]}}"#
    );
    let result = read(json);
    assert_eq!(result.ids(), [1]);
    assert_eq!(result.messages[0].kind, MessageKind::Conversation);
    assert!(result.messages[0].author.is_bot);
}

#[test]
fn other_files_are_refused_with_their_cause() {
    let valid = Export::of([message(1, "secret")]).json;
    let messages_first = format!(r#"{{"messages":[],{}"#, &valid[1..]);
    let other_files = [
        "[]",
        "17",
        "\"secret\"",
        "{}",
        "<!DOCTYPE html><html>",
        "AuthorID,Author,Date,Content",
        r#"{"guild":{"id":"7"},"channel":{"id":"9","type":"GuildTextChat"}}"#,
        r#"{"guild":{"id":"7"},"channel":{"id":"9","type":"GuildTextChat"},"messages":"secret"}"#,
        r#"{"guild":{"id":"7"},"messages":[]}"#,
        &messages_first,
    ];
    for other in other_files {
        let kind = read(other).error_kind();
        assert!(matches!(kind, ErrorKind::NotAnExport), "{other}: {kind:?}");
    }
    assert!(matches!(read("").error_kind(), ErrorKind::Empty));
    assert!(matches!(read(gzip(b"")).error_kind(), ErrorKind::Empty));
    assert!(matches!(read("  \n").error_kind(), ErrorKind::Truncated));
    assert!(matches!(read(valid.replacen("\"7\"", "\"0\"", 1)).error_kind(), ErrorKind::DirectMessages));
    assert!(matches!(
        read(valid.replacen("\"9\"", "9", 1)).error_kind(),
        ErrorKind::Header { part: "channel", .. }
    ));

    let folder = TempDir::new().unwrap();
    assert!(matches!(read_file(folder.path(), 1).error_kind(), ErrorKind::Unreadable(_)));
    assert!(matches!(read_file(&folder.path().join("none.json"), 1).error_kind(), ErrorKind::Unreadable(_)));
}

#[test]
fn data_after_the_end_is_an_error() {
    let valid = Export::of([message(1, "hello")]).json;
    let result = read(format!("{valid} {{}}"));
    assert_eq!(result.ids(), [1]);
    assert!(matches!(result.error_kind(), ErrorKind::Syntax(_)));
}

#[test]
fn an_error_names_file_position_and_cause_but_no_content() {
    let export = Export::of([message(1, "secret"), message(2, "secret")]);
    let mut broken = export.json.clone();
    broken.insert_str(export.ends[0], " secret");
    let error = read(&broken).end.unwrap_err();
    let position = export.ends[0] as u64;
    assert!((position..position + 10).contains(&error.offset), "{error}");
    let text = error.to_string();
    assert!(text.contains("export: invalid JSON") && text.contains("of the uncompressed JSON"), "{text}");
    assert!(!format!("{text} {error:?}").contains("secret"), "{text}");
}

#[test]
fn a_message_beyond_the_size_limit_ends_the_read_after_the_messages_before_it() {
    let export = Export::of([message(1, "hello").to_string(), "9".repeat(9 << 20)]);
    let result = read(gzip(export.json.as_bytes()));
    assert_eq!(result.ids(), [1]);
    let error = result.end.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::TooLarge), "{error}");
    assert!(error.offset < 9 << 20, "{error}");
}

#[test]
fn a_truncated_gzip_yields_the_messages_before_the_cut_and_an_error() {
    let export = Export::of((1..=3).map(|id| message(id, &format!("number {id}"))));
    let whole = gzip(export.json.as_bytes());
    for length in 1..whole.len() {
        let result = read(&whole[..length]);
        let ids = result.ids();
        assert_eq!(ids, (1..=ids.len() as i64).collect::<Vec<_>>());
        let error = result.end.expect_err("a truncated file was read to its end");
        assert!(error.offset <= export.json.len() as u64, "{error}");
        assert_eq!(ids.len(), export.complete_within(error.offset as usize), "{error}");
    }
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(matches!(read(damaged).error_kind(), ErrorKind::Gzip(_)));
}

#[test]
fn pages_are_passed_on_while_the_file_is_read() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("long.json.gz");
    let mut file = GzEncoder::new(fs::File::create(&path).unwrap(), Compression::fast());
    file.write_all(HEAD.as_bytes()).unwrap();
    let count = 1_500_u64;
    for id in 1..=count {
        // Digits that do not compress well, so that the file is longer than any buffer.
        let content: String =
            (0..20).map(|n| (id * 31 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_string()).collect();
        let separator = if id == 1 { "" } else { "," };
        write!(file, "{separator}{}", message(id, &content)).unwrap();
    }
    file.write_all(b"]}").unwrap();
    file.finish().unwrap();

    let size = fs::metadata(&path).unwrap().len();
    let mut progress = Vec::new();
    let outcome = read_export(&path, 100, &mut |page| {
        assert!(page.messages.len() <= 100);
        progress.push(page.bytes_read);
        ControlFlow::Continue(())
    });
    assert_eq!(outcome.unwrap().messages, count);
    assert_eq!(progress.len(), 15);
    assert!(progress.is_sorted());
    assert!(progress[0] < size / 4, "{} of {size} bytes were read for the first page", progress[0]);
}

/// Generates elements: mostly messages with arbitrary text, some invalid.
fn element() -> impl Strategy<Value = Value> {
    let text =
        prop_oneof![Just(String::new()), any::<String>(), "[a-z ]{1,40}", "[🌲👋\"\\\\{}\\[\\],:]{0,9}"];
    let any_message = (1..1_000_000u64, text.clone(), text).prop_map(|(id, content, nickname)| {
        let mut message = message(id, &content);
        message["author"]["nickname"] = json!(nickname);
        message["attachments"] = json!([{"id": "1", "fileName": nickname, "fileSizeBytes": id}]);
        message
    });
    prop_oneof![8 => any_message, 1 => Just(json!({"id": "x"})), 1 => Just(json!(["{", "]"]))]
}

/// Asserts that a partial read starts with the messages of the full one.
fn assert_is_prefix_of(part: &ReadExport, whole: &ReadExport, elements: usize) {
    let count = part.messages.len() + part.rejected.len();
    assert!(count >= elements, "{elements} elements are complete, {count} were passed on");
    let valid = part.messages.iter().zip(&whole.messages).take(elements.saturating_sub(part.rejected.len()));
    for (part, whole) in valid {
        assert_eq!(part, whole);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn truncation_anywhere_keeps_all_messages_before_it(elements in prop::collection::vec(element(), 0..3)) {
        let export = Export::of(elements);
        let bytes = export.json.as_bytes();
        let whole = read(bytes);
        prop_assert!(whole.end.is_ok());
        let complete = bytes.trim_ascii_end().len();
        // Cuts within the header are all alike, so some are skipped.
        for length in (0..HEAD.len()).step_by(37).chain(HEAD.len()..complete) {
            let part = read(&bytes[..length]);
            let error = part.end.as_ref().expect_err("a truncated file was read to its end");
            prop_assert!(error.offset <= length as u64);
            let elements = export.complete_within(length);
            prop_assert_eq!(part.messages.len() + part.rejected.len(), elements);
            assert_is_prefix_of(&part, &whole, elements);
        }
    }

    #[test]
    fn flipped_bytes_never_panic_and_keep_the_messages_before_them(
        elements in prop::collection::vec(element(), 1..6),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255u8), 1..4),
        gzipped in any::<bool>(),
    ) {
        let export = Export::of(elements);
        let whole = read(&export.json);
        let mut bytes = export.json.clone().into_bytes();
        if gzipped {
            bytes = gzip(&bytes);
        }
        let mut first = bytes.len();
        for (position, mask) in flips {
            let position = position.index(bytes.len());
            bytes[position] ^= mask;
            first = first.min(position);
        }
        let part = read(&bytes);
        if !gzipped {
            if first >= HEAD.len() {
                assert_is_prefix_of(&part, &whole, export.complete_within(first));
            }
            if let Err(error) = &part.end {
                prop_assert!(error.offset <= bytes.len() as u64);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_end_in_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(read(&bytes).end.is_err());
        prop_assert!(read(gzip(&bytes)).end.is_err());
    }
}

mod samples {
    use super::*;

    fn samples() -> Vec<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples");
        find_exports(&[folder]).0
    }

    #[test]
    fn are_valid_exports_of_two_guilds() {
        let mut guilds = Vec::new();
        for path in samples() {
            let result = read_file(&path, 50);
            assert!(result.end.is_ok() && result.rejected.is_empty(), "{}", path.display());
            guilds.extend(result.messages.iter().map(|message| message.guild_id.get()));
        }
        guilds.sort_unstable();
        guilds.dedup();
        assert_eq!(guilds, [1_100_000_000_000_000_001, 1_100_000_000_000_000_002]);
    }

    /// A snowflake contains its time: milliseconds since 2015 above 22 bits.
    #[test]
    fn have_ids_that_match_their_times_and_replies_to_earlier_messages() {
        for path in samples() {
            let result = read_file(&path, 50);
            let ids = result.ids();
            assert!(ids.is_sorted_by(|a, b| a < b), "{}", path.display());
            for message in &result.messages {
                assert_eq!(message.sent_at.timestamp_millis(), (message.id.get() >> 22) + 1_420_070_400_000);
                let parent = message.links.reply_to;
                assert!(parent.is_none_or(|parent| parent < message.id && ids.contains(&parent.get())));
            }
        }
    }
}
