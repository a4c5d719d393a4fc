//! Exports and the conversations that people marked in them, pair by pair.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use guildex_store::sessions::{Session, SessionMessage};
use guildex_types::{ChannelId, GuildId, Message, MessageId, MessageKind, Revision, SessionId};

use super::gold::Gold;
use super::method::Method;
use crate::export::{self, ExportError};

/// A channel and what people marked in it.
#[derive(Debug, Clone)]
pub struct Channel {
    /// The name of its files.
    pub name: String,
    /// Its tenant.
    pub guild_id: GuildId,
    /// Its id.
    pub channel_id: ChannelId,
    /// Its name in Discord.
    pub channel_name: String,
    /// What was said, in order, each message once; all that is annotated is among it.
    pub messages: Vec<Message>,
    /// The conversations, each with its messages in the order of the annotation. Those cover the annotated
    /// messages alone: what was said before is context.
    pub conversations: Vec<Vec<MessageId>>,
}

impl Channel {
    /// Its sessions as the store would give them to a worker, in a guild of that language.
    pub fn sessions(&self, guild: GuildId, method: &Method, language: &str) -> Vec<Session> {
        let mut places: HashMap<MessageId, usize> = HashMap::new();
        let mut sessions: Vec<Session> = Vec::new();
        for (message, first) in self.messages.iter().zip(method.partition(&self.messages)) {
            let place = *places.entry(first).or_insert(sessions.len());
            if place == sessions.len() {
                sessions.push(Session {
                    id: SessionId::of(guild, self.channel_id, first),
                    guild_id: guild,
                    channel_id: self.channel_id,
                    channel_name: self.channel_name.clone(),
                    language: Some(language.to_owned()),
                    first_message_id: first,
                    revision: Revision::NONE,
                    messages: Vec::new(),
                    indexed: None,
                });
            }
            if let Some(session) = sessions.get_mut(place) {
                session.messages.push(stored(message));
            }
        }
        sessions
    }
}

fn stored(message: &Message) -> SessionMessage {
    SessionMessage {
        id: message.id,
        author_id: message.author.id,
        author_name: message.author.name.clone(),
        sent_at: message.sent_at,
        text: message.text.clone(),
        words: u32::try_from(message.text.words()).unwrap_or(u32::MAX),
    }
}

/// An export with its annotation, not read yet.
#[derive(Debug, Clone)]
pub struct Pair {
    name: String,
    export: PathBuf,
    gold: PathBuf,
}

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

/// The pairs of `NAME.json` in `gold` and `NAME.json` or `NAME.json.gz` in `exports`, by name; one channel each.
///
/// # Errors
/// If a folder cannot be read, holds nothing, or a file has no partner.
pub fn pairs(exports: &Path, gold: &Path) -> Result<Vec<Pair>, EvalError> {
    let mut found = files(exports, &[".json.gz", ".json"])?;
    let marked = files(gold, &[".json"])?;
    if marked.is_empty() {
        return Err(EvalError::NoGold(gold.to_owned()));
    }
    let mut pairs = Vec::with_capacity(marked.len());
    for (name, path) in marked {
        let Some(export) = found.remove(&name) else {
            let missing = exports.join(format!("{name}.json[.gz]")).display().to_string();
            return Err(EvalError::Unpaired { path, missing });
        };
        pairs.push(Pair { name, export, gold: path });
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

impl Pair {
    /// Reads both files.
    ///
    /// # Errors
    /// If one of them is broken, or the two do not fit together; the error names it.
    pub fn read(&self) -> Result<Channel, EvalError> {
        let gold = Gold::read(&self.gold)?;
        let mut messages = BTreeMap::new();
        let mut channel_name = String::new();
        let mut is_other = false;
        export::read(&self.export, 10_000, &mut |page| {
            is_other =
                page.messages.iter().any(|m| (m.guild_id, m.channel_id) != (gold.guild_id, gold.channel_id));
            channel_name.clone_from(&page.header.channel.name);
            let said = page.messages.into_iter().filter(|m| m.kind == MessageKind::Conversation);
            messages.extend(said.map(|message| (message.id, message)));
            if is_other { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        let paths = || (self.gold.clone(), self.export.clone());
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
        Ok(Channel {
            name: self.name.clone(),
            guild_id: gold.guild_id,
            channel_id: gold.channel_id,
            channel_name,
            messages,
            conversations: gold.conversations,
        })
    }
}
