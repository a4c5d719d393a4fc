//! How well the sessionizer does on channels whose conversations people have marked.
//!
//! The partition itself is scored, before any rule on which sessions are worth indexing: it is made over all of
//! a channel, bots included, and compared over the annotated messages.

mod corpus;
mod gold;
mod method;
mod score;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use guildex_types::MessageId;
use serde::Serialize;

use crate::sessionizer::Rules;

pub use corpus::{Channel, EvalError, Pair, pairs};
pub use method::Method;
pub use score::{Scores, score};

use score::Tally;

/// The figures of each channel and of all together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// By name.
    pub channels: Vec<Figures>,
    /// Conversations and messages of all channels counted together, which is not the mean of the channels.
    pub total: Figures,
}

/// What was evaluated, and how each method did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// The channel's, as its file is named; `total` for all.
    pub name: String,
    /// Messages that were partitioned.
    pub messages: usize,
    /// Messages that were compared.
    pub annotated: usize,
    /// Conversations among them, lone messages included.
    pub conversations: usize,
    /// The sessionizer's scores.
    pub sessionizer: Scores,
    /// A baseline: mention within 60 minutes, else the author's last message within 5.
    pub plain: Scores,
    /// A baseline: a new session after each pause of more than 30 minutes.
    pub gap: Scores,
}

/// Compares sessions by `rules` with the conversations that people marked. Each `NAME.json` in `gold` belongs to
/// a `NAME.json` or `NAME.json.gz` in `exports`, one channel a file.
///
/// # Errors
/// If a file is missing or broken, or the two of a pair do not fit together; the error names it.
pub fn evaluate(exports: &Path, gold: &Path, rules: &Rules) -> Result<Report, EvalError> {
    let mut channels = Vec::new();
    let mut total = Count::default();
    for pair in pairs(exports, gold)? {
        let channel = pair.read()?;
        let count = Count::of(&channel, rules);
        total.add(&count);
        channels.push(count.figures(channel.name));
    }
    Ok(Report { channels, total: total.figures("total".to_owned()) })
}

/// What is counted of one channel, or of several.
#[derive(Default)]
struct Count {
    messages: usize,
    annotated: usize,
    conversations: usize,
    sessionizer: Tally,
    plain: Tally,
    gap: Tally,
}

impl Count {
    fn of(channel: &Channel, rules: &Rules) -> Self {
        let Channel { messages, conversations, .. } = channel;
        let tally = |method: Method| {
            let sessions = method.partition(messages);
            let of: HashMap<MessageId, MessageId> = messages.iter().map(|m| m.id).zip(sessions).collect();
            Tally::of(conversations, |id| of.get(&id).copied())
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

/// The total, as a table for a terminal.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { messages, annotated, conversations, .. } = self.total;
        let channels = self.channels.len();
        writeln!(
            f,
            "{channels} channels, {messages} messages, {annotated} annotated in {conversations} conversations"
        )?;
        writeln!(f)?;
        writeln!(
            f,
            "{:<14}{:>7}{:>13}{:>10}{:>11}{:>8}",
            "percent", "1-VI", "one-to-one", "exact F1", "precision", "recall"
        )?;
        let methods = [
            ("sessionizer", self.total.sessionizer),
            ("plain links", self.total.plain),
            ("30-minute gap", self.total.gap),
        ];
        for (name, Scores { vi, one_to_one, exact_f1, precision, recall }) in methods {
            writeln!(
                f,
                "{name:<14}{vi:>7.1}{one_to_one:>13.1}{exact_f1:>10.1}{precision:>11.1}{recall:>8.1}"
            )?;
        }
        Ok(())
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
        /// Two members ask and are answered, each by somebody who mentions them; somebody joins meanwhile.
        fn new() -> Self {
            let folders = Self(TempDir::new().unwrap());
            fs::create_dir(folders.exports()).unwrap();
            fs::create_dir(folders.gold()).unwrap();
            let messages = [
                said(11, 1, "Default", None),
                said(12, 9, "GuildMemberJoin", None),
                said(13, 2, "Default", None),
                said(14, 3, "Default", Some(1)),
                said(15, 4, "Default", Some(2)),
                said(16, 1, "Default", Some(3)),
            ];
            let export = json!({
                "guild": {"id": "5", "name": "guild", "iconUrl": ""},
                "channel": {"id": "7", "type": "GuildTextChat", "name": "help"},
                "messages": messages,
                "messageCount": 6,
            });
            fs::write(folders.exports().join("help.json"), export.to_string()).unwrap();
            folders.mark("help", "7", json!([["11", "14", "16"], ["13", "15"]]));
            folders
        }

        fn exports(&self) -> PathBuf {
            self.0.path().join("exports")
        }

        fn gold(&self) -> PathBuf {
            self.0.path().join("gold")
        }

        fn mark(&self, name: &str, channel: &str, conversations: Value) {
            let gold = json!({
                "guild_id": "5",
                "channel_id": channel,
                "first_annotated_message_id": "11",
                "conversations": conversations,
            });
            fs::write(self.gold().join(format!("{name}.json")), gold.to_string()).unwrap();
        }

        fn evaluate(&self) -> Result<Report, EvalError> {
            evaluate(&self.exports(), &self.gold(), &Rules::default())
        }
    }

    fn said(id: u32, author: u32, kind: &str, mention: Option<u32>) -> Value {
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
    fn methods_are_compared_over_the_annotated_messages() {
        let report = Folders::new().evaluate().unwrap();
        let Figures { messages, annotated, conversations, .. } = report.total;
        assert_eq!((messages, annotated, conversations), (5, 5, 2));
        assert_eq!(report.total.plain.exact_f1, 100.0);
        assert_eq!(report.total.gap.one_to_one, 60.0);
        assert_eq!(report.channels[0].name, "help");
        assert_eq!(report.channels[0].gap, report.total.gap);
    }

    #[test]
    fn what_does_not_fit_together_is_named() {
        let error = |change: &dyn Fn(&Folders)| {
            let folders = Folders::new();
            change(&folders);
            folders.evaluate().unwrap_err()
        };
        let other = error(&|folders| folders.mark("help", "8", json!([["11"]])));
        assert!(matches!(other, EvalError::OtherChannel { .. }), "{other}");
        let system = error(&|folders| folders.mark("help", "7", json!([["11", "12"]])));
        assert!(matches!(system, EvalError::NoSuchMessage { id, .. } if id.get() == 12), "{system}");
        let twice = error(&|folders| folders.mark("help", "7", json!([["11"], ["13", "11"]])));
        assert!(matches!(twice, EvalError::Repeated { id, .. } if id.get() == 11), "{twice}");
        let unpaired = error(&|folders| folders.mark("lounge", "9", json!([])));
        assert!(unpaired.to_string().contains("lounge.json"), "{unpaired}");
        let unmarked = error(&|folders| fs::write(folders.exports().join("off.json.gz"), "").unwrap());
        assert!(unmarked.to_string().contains("off.json"), "{unmarked}");
        let broken = error(&|folders| fs::write(folders.gold().join("help.json"), "{").unwrap());
        assert!(matches!(broken, EvalError::Gold { .. }), "{broken}");
        let none = error(&|folders| fs::remove_file(folders.gold().join("help.json")).unwrap());
        assert!(matches!(none, EvalError::NoGold(_)), "{none}");
        let missing = error(&|folders| fs::remove_dir_all(folders.exports()).unwrap());
        assert!(matches!(missing, EvalError::Read { .. }), "{missing}");
    }
}
