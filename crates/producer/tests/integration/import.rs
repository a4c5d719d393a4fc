//! Imports exports with altered values: everything that the reader accepts can be stored and reads back unchanged.

use std::ops::ControlFlow;
use std::path::Path;

use chrono::{DateTime, Utc};
use guildex_discord_export::read_export;
use guildex_producer::import;
use guildex_producer::{Ingest, IngestConfig, SessionsConfig};
use guildex_store::MIGRATOR;
use guildex_test_support::damage::altered;
use guildex_test_support::{export_document, export_json, export_message};
use guildex_types::Message;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

fn with_bots() -> IngestConfig {
    let sessions = SessionsConfig { include_bots: true, ..SessionsConfig::default() };
    IngestConfig { sessions, ..IngestConfig::default() }
}

/// Reads the valid messages of an export.
fn read(path: &Path) -> Vec<Message> {
    let mut messages = Vec::new();
    // A document that is not an export has no messages.
    let _ = read_export(path, 2, &mut |page| {
        messages.extend(page.messages);
        ControlFlow::Continue(())
    });
    messages
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn accepted_messages_are_stored_and_read_back_unchanged(pool: PgPool) {
    let runtime = Handle::current();
    let property = tokio::task::spawn_blocking(move || {
        let ingest = Ingest::new(pool.clone(), with_bots());
        let config = Config { failure_persistence: None, ..Config::default() };
        let exports = prop_oneof![
            4 => altered(export_message(2))
                .prop_map(|altered| export_document(&[export_message(1), altered, export_message(3)])),
            1 => altered(export_document(&[1, 2].map(export_message))),
        ];
        TestRunner::new(config).run(&exports.prop_filter("an object", Value::is_object), |document| {
            let folder = TempDir::new().unwrap();
            let path = folder.path().join("export.json");
            std::fs::write(&path, export_json(&document)).unwrap();
            let messages = read(&path);
            runtime.block_on(async {
                sqlx::query("TRUNCATE guilds, messages CASCADE").execute(&pool).await.unwrap();
                let imported = import::file(&ingest, &path, &CancellationToken::new(), |_, _| {}).await;
                prop_assert_eq!(imported.expect("the import failed").messages, messages.len() as u64);
                for message in &messages {
                    let same = messages.iter().filter(|other| other.id == message.id).count();
                    let stored: (String, Option<String>, DateTime<Utc>, Vec<i64>) = sqlx::query_as(
                        "SELECT text, webhook_name, sent_at, mentions FROM messages
                         WHERE guild_id = $1 AND channel_id = $2 AND id = $3",
                    )
                    .bind(message.guild_id.get())
                    .bind(message.channel_id.get())
                    .bind(message.id.get())
                    .fetch_one(&pool)
                    .await
                    .expect("the message is missing");
                    // Of duplicate ids the newest edit is stored.
                    if same == 1 {
                        prop_assert_eq!(&stored.0, message.text.as_str());
                        prop_assert_eq!(stored.1.as_deref(), message.author.webhook_name());
                        prop_assert_eq!(stored.2, without_leap_second(message.sent_at));
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

/// Rounds a leap second to the start of the next second, as Postgres does.
fn without_leap_second(time: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(time.timestamp_micros()).unwrap()
}
