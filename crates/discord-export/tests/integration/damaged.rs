//! Reads damaged and altered exports: valid parts are read, the rest is reported, and no error quotes content.

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use guildex_discord_export::{ExportError, Header, Page, Rejected, read_export};
use guildex_test_support::damage::{altered, damaged};
use guildex_test_support::{export_document, export_json, export_message};
use guildex_types::{Message, SearchText};
use proptest::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

struct ReadExport {
    header: Option<Arc<Header>>,
    messages: Vec<Message>,
    rejected: Vec<Rejected>,
    end: Result<(), ExportError>,
}

fn read(bytes: &[u8]) -> ReadExport {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("export");
    std::fs::write(&path, bytes).unwrap();
    let mut result = ReadExport { header: None, messages: vec![], rejected: vec![], end: Ok(()) };
    let end = read_export(&path, 2, &mut |page: Page| {
        result.header = Some(page.header);
        result.messages.extend(page.messages);
        result.rejected.extend(page.rejected);
        ControlFlow::Continue(())
    });
    result.end = end.map(drop);
    result
}

/// Asserts the constraints of the `messages` table.
fn assert_storable(message: &Message) {
    let text = message.text.as_str();
    assert!(!text.contains('\0') && text.chars().count() <= SearchText::MAX_CHARS);
    let name = message.author.name();
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

/// Generates exports of three messages, the second of which is altered.
fn with_altered_message() -> impl Strategy<Value = Value> {
    altered(export_message(2))
        .prop_map(|altered| export_document(&[export_message(1), altered, export_message(3)]))
}

proptest! {
    #[test]
    fn a_damaged_export_is_read_up_to_the_damage(
        bytes in damaged(export_json(&export_document(&[1, 2, 3].map(export_message))).into_bytes()),
        gzipped: bool,
    ) {
        let result = read(&if gzipped { gzip(&bytes) } else { bytes.clone() });
        result.messages.iter().for_each(assert_storable);
        for rejected in &result.rejected {
            prop_assert!(rejected.offset <= bytes.len() as u64);
        }
        if let Err(error) = result.end {
            prop_assert!(error.offset <= bytes.len() as u64);
            prop_assert!(!error.to_string().contains("sharpen"), "{}", error);
        }
    }

    #[test]
    fn damaged_gzip_is_read_up_to_the_damage(
        bytes in damaged(gzip(export_json(&export_document(&[1, 2].map(export_message))).as_bytes())),
    ) {
        read(&bytes).messages.iter().for_each(assert_storable);
    }

    #[test]
    fn an_altered_message_is_read_or_rejected_without_its_neighbors(document in with_altered_message()) {
        let result = read(export_json(&document).as_bytes());
        prop_assert!(result.end.is_ok(), "{:?}", result.end);
        prop_assert_eq!(result.messages.len() + result.rejected.len(), 3);
        prop_assert_eq!(result.messages.first().unwrap().id.get(), 1);
        prop_assert_eq!(result.messages.last().unwrap().id.get(), 3);
        result.messages.iter().for_each(assert_storable);
        for rejected in result.rejected {
            prop_assert!(!rejected.reason.to_string().contains("sharpen"));
        }
    }

    #[test]
    fn an_altered_export_is_read_or_refused(
        document in altered(export_document(&[1, 2].map(export_message))).prop_filter("an object", Value::is_object),
    ) {
        let result = read(export_json(&document).as_bytes());
        result.messages.iter().for_each(assert_storable);
        if let Some(header) = result.header {
            prop_assert!(!header.channel.name.contains('\0') && !header.guild_name.contains('\0'));
        }
    }
}
