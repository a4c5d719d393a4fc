//! Exports that are damaged, or written by somebody with other ideas: what is taken of them can be stored and is read
//! back as it was, the rest is told of, and nothing of it takes its neighbours along.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use guildex_producer::export::{self, ExportError, Header, Page, Rejected};
use guildex_producer::import;
use guildex_producer::ingest::{Ingest, IngestConfig};
use guildex_store::MIGRATOR;
use guildex_types::{Message, SearchText};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

fn document(messages: &[Value]) -> Value {
    json!({
        "guild": {"id": "7", "name": "Makers", "iconUrl": null},
        "channel": {
            "id": "9", "type": "GuildTextChat", "categoryId": "5", "category": "Making", "name": "help", "topic": null
        },
        "dateRange": {"after": null, "before": null},
        "exportedAt": "2025-01-01T00:00:00+00:00",
        "messages": messages,
        "messageCount": messages.len(),
    })
}

fn message(id: i64) -> Value {
    json!({
        "id": id.to_string(), "type": "Reply", "timestamp": "2024-05-01T10:00:00.123+00:00",
        "timestampEdited": "2024-05-02T10:00:00+00:00", "isPinned": false, "content": "how do I sharpen it?",
        "author": {"id": "3", "name": "ann", "discriminator": "0000", "nickname": "Ann", "isBot": false, "roles": []},
        "attachments": [{"id": "1", "url": "x", "fileName": "saw.png", "fileSizeBytes": 7}],
        "embeds": [{"title": "Saws", "fields": []}], "stickers": [{"id": "1", "name": "wave"}], "reactions": [],
        "mentions": [{"id": "4", "name": "bo"}], "reference": {"messageId": "1", "channelId": "9", "guildId": "7"},
    })
}

/// `guild` and `channel` come first in an export, whatever order a tree has.
fn written(document: &Value) -> String {
    let mut fields: Vec<(&String, &Value)> = document.as_object().unwrap().iter().collect();
    fields.sort_by_key(|(name, _)| (*name == "messages", *name == "messageCount"));
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
    format!("{{{}}}", fields.join(","))
}

struct Taken {
    header: Option<Arc<Header>>,
    messages: Vec<Message>,
    rejected: Vec<Rejected>,
    end: Result<(), ExportError>,
}

fn read(bytes: &[u8]) -> Taken {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("export");
    std::fs::write(&path, bytes).unwrap();
    let mut taken = Taken { header: None, messages: vec![], rejected: vec![], end: Ok(()) };
    let end = export::read(&path, 2, &mut |page: Page| {
        taken.header = Some(page.header);
        taken.messages.extend(page.messages);
        taken.rejected.extend(page.rejected);
        ControlFlow::Continue(())
    });
    taken.end = end.map(drop);
    taken
}

/// What the schema asks of a message.
fn assert_storable(message: &Message) {
    let text = message.text.as_str();
    assert!(!text.contains('\0') && text.chars().count() <= SearchText::MAX_CHARS);
    let name = &message.author.name;
    assert!(!name.is_empty() && !name.contains(char::is_control) && name.chars().count() <= 100);
    let end: DateTime<Utc> = "2201-01-01T00:00:00Z".parse().unwrap();
    for time in [Some(message.sent_at), message.edited_at].into_iter().flatten() {
        assert!(time >= DateTime::UNIX_EPOCH && time < end);
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Three messages, of which the second is altered.
fn with_an_altered_message() -> impl Strategy<Value = Value> {
    guildex_test_support::altered(message(2)).prop_map(|altered| document(&[message(1), altered, message(3)]))
}

proptest! {
    #[test]
    fn a_damaged_export_is_taken_as_far_as_it_goes(
        bytes in guildex_test_support::damaged(written(&document(&[message(1), message(2), message(3)])).into_bytes()),
        gzipped: bool,
    ) {
        let taken = read(&if gzipped { gzip(&bytes) } else { bytes.clone() });
        taken.messages.iter().for_each(assert_storable);
        for rejected in &taken.rejected {
            prop_assert!(rejected.offset <= bytes.len() as u64);
        }
        if let Err(error) = taken.end {
            prop_assert!(error.offset <= bytes.len() as u64);
            prop_assert!(!error.to_string().contains("sharpen"), "{}", error);
        }
    }

    #[test]
    fn damaged_gzip_is_taken_as_far_as_it_goes(
        bytes in guildex_test_support::damaged(gzip(written(&document(&[message(1), message(2)])).as_bytes())),
    ) {
        read(&bytes).messages.iter().for_each(assert_storable);
    }

    #[test]
    fn an_altered_message_is_taken_or_told_of_alone(document in with_an_altered_message()) {
        let taken = read(written(&document).as_bytes());
        prop_assert!(taken.end.is_ok(), "{:?}", taken.end);
        prop_assert_eq!(taken.messages.len() + taken.rejected.len(), 3);
        prop_assert_eq!(taken.messages.first().unwrap().id.get(), 1);
        prop_assert_eq!(taken.messages.last().unwrap().id.get(), 3);
        taken.messages.iter().for_each(assert_storable);
        for rejected in taken.rejected {
            prop_assert!(!rejected.reason.to_string().contains("sharpen"));
        }
    }

    #[test]
    fn an_altered_export_is_taken_or_told_of(
        document in guildex_test_support::altered(document(&[message(1), message(2)])).prop_filter("an object", Value::is_object),
    ) {
        let taken = read(written(&document).as_bytes());
        taken.messages.iter().for_each(assert_storable);
        if let Some(header) = taken.header {
            prop_assert!(!header.channel.name.contains('\0') && !header.guild_name.contains('\0'));
        }
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn whatever_is_taken_is_stored_and_reads_the_same(pool: PgPool) {
    let runtime = Handle::current();
    let property = tokio::task::spawn_blocking(move || {
        let ingest =
            Ingest::new(pool.clone(), IngestConfig { include_bots: true, ..IngestConfig::default() });
        let config = Config { failure_persistence: None, ..Config::default() };
        let exports = prop_oneof![
            4 => with_an_altered_message(),
            1 => guildex_test_support::altered(document(&[message(1), message(2)])),
        ];
        TestRunner::new(config).run(&exports.prop_filter("an object", Value::is_object), |document| {
            let folder = TempDir::new().unwrap();
            let path = folder.path().join("export.json");
            std::fs::write(&path, written(&document)).unwrap();
            let taken = read(written(&document).as_bytes());
            runtime.block_on(async {
                sqlx::query("TRUNCATE guilds, messages CASCADE").execute(&pool).await.unwrap();
                let imported = import::file(&ingest, &path, &CancellationToken::new(), |_, _| {}).await;
                prop_assert_eq!(imported.expect("could not be stored").messages, taken.messages.len() as u64);
                for message in &taken.messages {
                    let same = taken.messages.iter().filter(|other| other.id == message.id).count();
                    let stored: (String, String, DateTime<Utc>, Vec<i64>) = sqlx::query_as(
                        "SELECT text, author_name, sent_at, mentions FROM messages
                         WHERE guild_id = $1 AND channel_id = $2 AND id = $3",
                    )
                    .bind(message.guild_id.get())
                    .bind(message.channel_id.get())
                    .bind(message.id.get())
                    .fetch_one(&pool)
                    .await
                    .expect("is not there");
                    // Of two with one id the newest edit is kept.
                    if same == 1 {
                        prop_assert_eq!(&stored.0, message.text.as_str());
                        prop_assert_eq!(&stored.1, &message.author.name);
                        prop_assert_eq!(stored.2, leaped(message.sent_at));
                        let mentions: Vec<i64> = message.links.mentions.iter().map(|id| id.get()).collect();
                        prop_assert_eq!(&stored.3, &mentions);
                    }
                }
                Ok(())
            })
        })
    });
    property.await.unwrap().unwrap();
}

/// Postgres knows no leap second: it is the beginning of the next.
fn leaped(time: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(time.timestamp_micros()).unwrap()
}
