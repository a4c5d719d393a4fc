//! Annotation files: `{"guild_id", "channel_id", "first_annotated_message_id", "conversations": [[message id, ...],
//! ...]}`, one per channel, named like its export.

use std::collections::HashSet;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use guildex_types::{ChannelId, GuildId, MessageId};
use serde::Deserialize;

use super::error::CorpusError;

/// Annotations of one channel. Messages before the first annotated one are context.
#[derive(Debug, Deserialize)]
pub(super) struct Annotations {
    pub guild_id: GuildId,
    pub channel_id: ChannelId,
    pub conversations: Vec<Vec<MessageId>>,
}

impl Annotations {
    /// Reads the file at `path`; each message may appear once.
    pub fn read(path: &Path) -> Result<Self, CorpusError> {
        let file = File::open(path).map_err(|source| CorpusError::Read { path: path.to_owned(), source })?;
        let annotations: Self = serde_json::from_reader(BufReader::new(file))
            .map_err(|source| CorpusError::Invalid { path: path.to_owned(), source })?;
        let mut seen = HashSet::new();
        match annotations.conversations.iter().flatten().find(|id| !seen.insert(**id)) {
            Some(id) => Err(CorpusError::Repeated { path: path.to_owned(), id: *id }),
            None => Ok(annotations),
        }
    }
}
