//! How well the sessionizer does on channels whose conversations people have marked.
//!
//! The partition itself is scored, before any rule on which sessions are worth indexing: it is made over all of
//! a channel, bots included, and compared over the annotated messages.

mod baseline;
mod gold;
mod score;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use guildex_types::{Message, MessageId, MessageKind};
use serde::Serialize;

use crate::export::{self, ExportError};
use crate::sessionizer::{Rules, Sessionizer, Turn};

pub use score::{Scores, score};

use gold::Gold;
use score::Tally;

/// Why an evaluation cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A file or folder cannot be read.
    #[error("{}: {source}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A folder holds nothing to evaluate.
    #[error("{}: no conversations (*.json) in this folder", .0.display())]
    NoGold(PathBuf),
    /// A file of conversations is not laid out as one.
    #[error("{}: not a file of conversations: {source}", .path.display())]
    Gold {
        /// The file.
        path: PathBuf,
        /// Where it fails.
        source: serde_json::Error,
    },
    /// A message stands in two conversations.
    #[error("{}: message {id} is in it twice", .path.display())]
    Repeated {
        /// The file of conversations.
        path: PathBuf,
        /// The message.
        id: MessageId,
    },
    /// One of a pair of files is missing.
    #[error("{}: there is no {missing} for it", .path.display())]
    Unpaired {
        /// The file that is there.
        path: PathBuf,
        /// The path of the one that is not.
        missing: String,
    },
    /// The export cannot be read.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The files of a pair are of different channels.
    #[error("{}: is of another channel than {}", .gold.display(), .export.display())]
    OtherChannel {
        /// The file of conversations.
        gold: PathBuf,
        /// The export.
        export: PathBuf,
    },
    /// An annotated message is not in the export, or is a system message there.
    #[error("{}: message {id} is no conversation message of {}", .gold.display(), .export.display())]
    NoSuchMessage {
        /// The file of conversations.
        gold: PathBuf,
        /// The export.
        export: PathBuf,
        /// The message.
        id: MessageId,
    },
}

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
    for (name, Pair { export, gold }) in pairs(exports, gold)? {
        let count = Count::of(&export, &gold, rules)?;
        total.add(&count);
        channels.push(count.figures(name));
    }
    Ok(Report { channels, total: total.figures("total".to_owned()) })
}

struct Pair {
    export: PathBuf,
    gold: PathBuf,
}

/// The pairs of files, by name.
fn pairs(exports: &Path, gold: &Path) -> Result<BTreeMap<String, Pair>, EvalError> {
    let mut found = files(exports, &[".json.gz", ".json"])?;
    let marked = files(gold, &[".json"])?;
    if marked.is_empty() {
        return Err(EvalError::NoGold(gold.to_owned()));
    }
    let mut pairs = BTreeMap::new();
    for (name, path) in marked {
        let Some(export) = found.remove(&name) else {
            let missing = exports.join(format!("{name}.json[.gz]")).display().to_string();
            return Err(EvalError::Unpaired { path, missing });
        };
        pairs.insert(name, Pair { export, gold: path });
    }
    match found.into_iter().next() {
        Some((name, path)) => {
            let missing = gold.join(format!("{name}.json")).display().to_string();
            Err(EvalError::Unpaired { path, missing })
        }
        None => Ok(pairs),
    }
}

/// The files of a folder whose names end in one of `endings`, by the rest of their names.
fn files(folder: &Path, endings: &[&str]) -> Result<BTreeMap<String, PathBuf>, EvalError> {
    let unreadable = |source| EvalError::Read { path: folder.to_owned(), source };
    let mut files = BTreeMap::new();
    for entry in folder.read_dir().map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(stem) = endings.iter().find_map(|ending| name.strip_suffix(ending)) {
            files.insert(stem.to_owned(), path.clone());
        }
    }
    Ok(files)
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
    fn of(export: &Path, gold_path: &Path, rules: &Rules) -> Result<Self, EvalError> {
        let gold = Gold::read(gold_path)?;
        let messages = conversation(export, gold_path, &gold)?;
        let tally = |sessions: Vec<MessageId>| {
            let of: HashMap<MessageId, MessageId> = messages.iter().map(|m| m.id).zip(sessions).collect();
            Tally::of(&gold.conversations, |id| of.get(&id).copied())
        };
        Ok(Self {
            messages: messages.len(),
            annotated: gold.conversations.iter().map(Vec::len).sum(),
            conversations: gold.conversations.len(),
            sessionizer: tally(partition(&messages, rules)),
            plain: tally(baseline::plain(&messages)),
            gap: tally(baseline::gap(&messages)),
        })
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

/// What was said in an export, in order, each message once; all that is annotated is among it.
fn conversation(export: &Path, gold_path: &Path, gold: &Gold) -> Result<Vec<Message>, EvalError> {
    let mut messages = BTreeMap::new();
    let mut is_other = false;
    export::read(export, 10_000, &mut |page| {
        is_other =
            page.messages.iter().any(|m| (m.guild_id, m.channel_id) != (gold.guild_id, gold.channel_id));
        let said = page.messages.into_iter().filter(|m| m.kind == MessageKind::Conversation);
        messages.extend(said.map(|message| (message.id, message)));
        if is_other { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    let paths = || (gold_path.to_owned(), export.to_owned());
    if is_other {
        let (gold, export) = paths();
        return Err(EvalError::OtherChannel { gold, export });
    }
    if let Some(id) = gold.conversations.iter().flatten().find(|id| !messages.contains_key(id)) {
        let (gold, export) = paths();
        return Err(EvalError::NoSuchMessage { gold, export, id: *id });
    }
    let mut messages: Vec<Message> = messages.into_values().collect();
    messages.sort_by_key(|message| (message.sent_at, message.id));
    Ok(messages)
}

fn partition(messages: &[Message], rules: &Rules) -> Vec<MessageId> {
    let mut sessionizer = Sessionizer::new(rules.clone());
    let turn = |message: &Message| {
        sessionizer.push(&Turn {
            id: message.id,
            author: message.author.id,
            sent_at: message.sent_at,
            reply_to: message.links.reply_to,
            mentions: &message.links.mentions,
        })
    };
    messages.iter().map(turn).collect()
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
