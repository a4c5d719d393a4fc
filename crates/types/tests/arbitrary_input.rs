//! Payloads, texts and ids from arbitrary input are parsed correctly or rejected.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use guildex_types::{ChannelId, GuildId, Job, OutdatedSession, SearchText, SessionId, Task};
use proptest::prelude::*;
use serde_json::Value;

fn jobs() -> impl Strategy<Value = Job> {
    let ids = || 1..=i64::MAX;
    let task = prop_oneof![
        any::<u128>()
            .prop_map(|id| Task::IndexSession { session_id: SessionId::from(uuid::Uuid::from_u128(id)) }),
        any::<u128>()
            .prop_map(|id| Task::DeleteSession { session_id: SessionId::from(uuid::Uuid::from_u128(id)) }),
        prop::collection::vec((any::<u128>(), any::<i64>()), 0..4).prop_map(|sessions| Task::RemovePoints {
            sessions: sessions
                .into_iter()
                .map(|(id, below)| OutdatedSession {
                    session_id: SessionId::from(uuid::Uuid::from_u128(id)),
                    below: below.into(),
                })
                .collect(),
        }),
        ids().prop_map(|channel| Task::BackfillChannel { channel_id: ChannelId::try_from(channel).unwrap() }),
    ];
    (ids(), task).prop_map(|(guild, task)| Job { guild_id: GuildId::try_from(guild).unwrap(), task })
}

/// Checks that a decoded payload is encoded and decoded to the same job.
fn check(payload: &Value) -> Result<(), TestCaseError> {
    if let Ok(job) = Job::decode(payload) {
        let written = job.encode().unwrap();
        prop_assert_eq!(Job::decode(&written).unwrap(), job);
    }
    Ok(())
}

proptest! {
    #[test]
    fn payloads_round_trip(job in jobs()) {
        prop_assert_eq!(Job::decode(&job.encode().unwrap()).unwrap(), job);
    }

    #[test]
    fn altered_payloads_are_valid_or_rejected(
        payload in jobs().prop_flat_map(|job| guildex_test_support::damage::altered(job.encode().unwrap())),
    ) {
        check(&payload)?;
    }

    #[test]
    fn arbitrary_json_is_valid_or_rejected(payload in guildex_test_support::damage::any_value()) {
        check(&payload)?;
    }

    #[test]
    fn damaged_payloads_are_valid_or_rejected(
        bytes in jobs().prop_flat_map(|job| guildex_test_support::damage::damaged(job.encode().unwrap().to_string().into_bytes())),
    ) {
        if let Ok(payload) = serde_json::from_slice::<Value>(&bytes) {
            check(&payload)?;
        }
    }

    #[test]
    fn cleaning_a_text_is_idempotent(parts in prop::collection::vec("\\PC{0,8}|[\u{0}-\u{20}a\u{85}\u{a0}\u{2028}\u{feff}]{0,8}", 0..4)) {
        let text = SearchText::from_parts(parts.iter().map(String::as_str));
        prop_assert!(!text.as_str().contains(|c: char| c.is_control() && !matches!(c, '\n' | '\t')));
        prop_assert_eq!(text.as_str().trim(), text.as_str());
        // Texts are cleaned again when they are read from Postgres.
        prop_assert_eq!(SearchText::from_parts([text.as_str()]), text);
    }

    #[test]
    fn arbitrary_text_is_an_id_that_displays_the_same_or_rejected(text in "[0-9]{1,20}|[-+ 0-9a-f.]{0,8}|\\PC{0,8}") {
        match text.parse::<GuildId>() {
            Ok(id) => {
                prop_assert!(id.get() > 0);
                prop_assert_eq!(id.to_string(), text.trim_start_matches('0'));
            }
            Err(error) => prop_assert!(error.to_string().contains("invalid id")),
        }
    }
}
