//! Scores the sessionizer and two baselines on annotated channels.

use std::collections::HashMap;
use std::path::Path;

use guildex_producer::sessionizer::Rules;
use guildex_types::MessageId;

use super::channel::AnnotatedChannel;
use super::corpus::find_channels;
use super::error::CorpusError;
use super::method::Method;
use super::report::{Figures, Report};
use super::scores::Tally;

/// Scores sessions made by `rules`. Each `NAME.json` in `annotations` belongs to a `NAME.json` or `NAME.json.gz` in
/// `exports`, one channel per file.
///
/// # Errors
/// If a file is missing or invalid, or the two of a pair do not match; the error names the file.
pub fn evaluate(exports: &Path, annotations: &Path, rules: &Rules) -> Result<Report, CorpusError> {
    let mut channels = Vec::new();
    let mut total = Counts::default();
    for files in find_channels(exports, annotations)? {
        let channel = files.read()?;
        let counts = Counts::new(&channel, rules);
        total.add(&counts);
        channels.push(counts.figures(channel.name));
    }
    Ok(Report { channels, total: total.figures("total".to_owned()) })
}

/// Counts of one or more channels.
#[derive(Default)]
struct Counts {
    messages: usize,
    annotated: usize,
    conversations: usize,
    sessionizer: Tally,
    plain: Tally,
    gap: Tally,
}

impl Counts {
    fn new(channel: &AnnotatedChannel, rules: &Rules) -> Self {
        let AnnotatedChannel { messages, conversations, .. } = channel;
        let tally = |method: Method| {
            let sessions = method.partition(messages);
            let session_of: HashMap<MessageId, MessageId> =
                messages.iter().map(|m| m.id).zip(sessions).collect();
            Tally::count(conversations, |id| session_of.get(&id).copied())
        };
        Self {
            messages: messages.len(),
            annotated: conversations.iter().map(Vec::len).sum(),
            conversations: conversations.len(),
            sessionizer: tally(Method::Sessionizer(Box::new(rules.clone()))),
            plain: tally(Method::Plain),
            gap: tally(Method::Gap),
        }
    }

    fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.annotated += other.annotated;
        self.conversations += other.conversations;
        self.sessionizer.add(&other.sessionizer);
        self.plain.add(&other.plain);
        self.gap.add(&other.gap);
    }

    fn figures(&self, name: String) -> Figures {
        Figures {
            name,
            messages: self.messages,
            annotated: self.annotated,
            conversations: self.conversations,
            sessionizer: self.sessionizer.scores(),
            plain: self.plain.scores(),
            gap: self.gap.scores(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::*;

    struct Folders(TempDir);

    impl Folders {
        /// Creates a channel where two members ask and are each answered with a mention, and a member joins between.
        fn new() -> Self {
            let folders = Self(TempDir::new().unwrap());
            fs::create_dir(folders.exports()).unwrap();
            fs::create_dir(folders.annotations()).unwrap();
            let messages = [
                message(11, 1, "Default", None),
                message(12, 9, "GuildMemberJoin", None),
                message(13, 2, "Default", None),
                message(14, 3, "Default", Some(1)),
                message(15, 4, "Default", Some(2)),
                message(16, 1, "Default", Some(3)),
            ];
            let export = json!({
                "guild": {"id": "5", "name": "guild", "iconUrl": ""},
                "channel": {"id": "7", "type": "GuildTextChat", "name": "help"},
                "messages": messages,
                "messageCount": 6,
            });
            fs::write(folders.exports().join("help.json"), export.to_string()).unwrap();
            folders.annotate("help", "7", json!([["11", "14", "16"], ["13", "15"]]));
            folders
        }

        fn exports(&self) -> PathBuf {
            self.0.path().join("exports")
        }

        fn annotations(&self) -> PathBuf {
            self.0.path().join("annotations")
        }

        fn annotate(&self, name: &str, channel: &str, conversations: Value) {
            let annotations = json!({
                "guild_id": "5",
                "channel_id": channel,
                "first_annotated_message_id": "11",
                "conversations": conversations,
            });
            fs::write(self.annotations().join(format!("{name}.json")), annotations.to_string()).unwrap();
        }

        fn evaluate(&self) -> Result<Report, CorpusError> {
            evaluate(&self.exports(), &self.annotations(), &Rules::default())
        }
    }

    fn message(id: u32, author: u32, kind: &str, mention: Option<u32>) -> Value {
        let user = |id: u32| json!({"id": id.to_string(), "name": format!("m{id}"), "isBot": false});
        json!({
            "id": id.to_string(),
            "type": kind,
            "timestamp": format!("2024-05-01T12:00:{id}+00:00"),
            "timestampEdited": null,
            "isPinned": false,
            "content": "words",
            "author": user(author),
            "attachments": [],
            "embeds": [],
            "stickers": [],
            "reactions": [],
            "mentions": mention.map(user).into_iter().collect::<Vec<_>>(),
        })
    }

    #[test]
    fn methods_are_scored_on_the_annotated_messages() {
        let report = Folders::new().evaluate().unwrap();
        let Figures { messages, annotated, conversations, .. } = report.total;
        assert_eq!((messages, annotated, conversations), (5, 5, 2));
        assert_eq!(report.total.plain.exact_f1, 100.0);
        assert_eq!(report.total.gap.one_to_one, 60.0);
        assert_eq!(report.channels[0].name, "help");
        assert_eq!(report.channels[0].gap, report.total.gap);
    }

    #[test]
    fn files_that_do_not_match_are_named() {
        let error = |change: &dyn Fn(&Folders)| {
            let folders = Folders::new();
            change(&folders);
            folders.evaluate().unwrap_err()
        };
        let other = error(&|folders| folders.annotate("help", "8", json!([["11"]])));
        assert!(matches!(other, CorpusError::OtherChannel { .. }), "{other}");
        let system = error(&|folders| folders.annotate("help", "7", json!([["11", "12"]])));
        assert!(matches!(system, CorpusError::NoSuchMessage { id, .. } if id.get() == 12), "{system}");
        let twice = error(&|folders| folders.annotate("help", "7", json!([["11"], ["13", "11"]])));
        assert!(matches!(twice, CorpusError::Repeated { id, .. } if id.get() == 11), "{twice}");
        let unpaired = error(&|folders| folders.annotate("lounge", "9", json!([])));
        assert!(unpaired.to_string().contains("lounge.json"), "{unpaired}");
        let unannotated = error(&|folders| fs::write(folders.exports().join("off.json.gz"), "").unwrap());
        assert!(unannotated.to_string().contains("off.json"), "{unannotated}");
        let broken = error(&|folders| fs::write(folders.annotations().join("help.json"), "{").unwrap());
        assert!(matches!(broken, CorpusError::Invalid { .. }), "{broken}");
        let none = error(&|folders| fs::remove_file(folders.annotations().join("help.json")).unwrap());
        assert!(matches!(none, CorpusError::NoAnnotations(_)), "{none}");
        let missing = error(&|folders| fs::remove_dir_all(folders.exports()).unwrap());
        assert!(matches!(missing, CorpusError::Read { .. }), "{missing}");
    }
}
