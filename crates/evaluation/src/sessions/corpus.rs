//! Finds and reads pairs of export and annotation files.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use guildex_discord_export::read_export;
use guildex_types::{Message, MessageKind};

use super::annotations::Annotations;
use super::channel::AnnotatedChannel;
use super::error::CorpusError;

/// Messages per page of an export.
const PAGE_SIZE: usize = 10_000;

/// Export and annotation files of a channel.
#[derive(Debug, Clone)]
pub struct ChannelFiles {
    name: String,
    export: PathBuf,
    annotations: PathBuf,
}

/// Pairs each `NAME.json` in `annotations` with `NAME.json` or `NAME.json.gz` in `exports`, sorted by name.
///
/// # Errors
/// If a folder cannot be read or holds no annotations, or a file has no counterpart.
pub fn find_channels(exports: &Path, annotations: &Path) -> Result<Vec<ChannelFiles>, CorpusError> {
    let mut exported = files(exports, &[".json.gz", ".json"])?;
    let annotated = files(annotations, &[".json"])?;
    if annotated.is_empty() {
        return Err(CorpusError::NoAnnotations(annotations.to_owned()));
    }
    let mut channels = Vec::with_capacity(annotated.len());
    for (name, path) in annotated {
        let Some(export) = exported.remove(&name) else {
            let missing = exports.join(format!("{name}.json[.gz]")).display().to_string();
            return Err(CorpusError::Unpaired { path, missing });
        };
        channels.push(ChannelFiles { name, export, annotations: path });
    }
    match exported.into_iter().next() {
        Some((name, path)) => {
            let missing = annotations.join(format!("{name}.json")).display().to_string();
            Err(CorpusError::Unpaired { path, missing })
        }
        None => Ok(channels),
    }
}

/// Lists the files of a folder with one of `endings`, keyed by the name without it.
fn files(folder: &Path, endings: &[&str]) -> Result<BTreeMap<String, PathBuf>, CorpusError> {
    let unreadable = |source| CorpusError::Read { path: folder.to_owned(), source };
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

impl ChannelFiles {
    /// Reads both files.
    ///
    /// # Errors
    /// If a file is invalid or the two do not match; the error names the file.
    pub fn read(&self) -> Result<AnnotatedChannel, CorpusError> {
        let annotations = Annotations::read(&self.annotations)?;
        let mut messages = BTreeMap::new();
        let mut channel_name = String::new();
        let mut is_other_channel = false;
        read_export(&self.export, PAGE_SIZE, &mut |page| {
            let is_annotated =
                |m: &Message| (m.guild_id, m.channel_id) == (annotations.guild_id, annotations.channel_id);
            is_other_channel = !page.messages.iter().all(is_annotated);
            channel_name.clone_from(&page.header.channel.name);
            let conversation = page.messages.into_iter().filter(|m| m.kind == MessageKind::Conversation);
            messages.extend(conversation.map(|message| (message.id, message)));
            if is_other_channel { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        let paths = || (self.annotations.clone(), self.export.clone());
        if is_other_channel {
            let (annotations, export) = paths();
            return Err(CorpusError::OtherChannel { annotations, export });
        }
        if let Some(id) = annotations.conversations.iter().flatten().find(|id| !messages.contains_key(id)) {
            let (annotations, export) = paths();
            return Err(CorpusError::NoSuchMessage { annotations, export, id: *id });
        }
        let mut messages: Vec<Message> = messages.into_values().collect();
        messages.sort_by_key(|message| (message.sent_at, message.id));
        Ok(AnnotatedChannel {
            name: self.name.clone(),
            guild_id: annotations.guild_id,
            channel_id: annotations.channel_id,
            channel_name,
            messages,
            conversations: annotations.conversations,
        })
    }
}
