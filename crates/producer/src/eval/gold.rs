//! Conversations that people marked, as `{"guild_id", "channel_id", "first_annotated_message_id",
//! "conversations": [[message id, ...], ...]}`: one file a channel, named like its export.

use std::collections::HashSet;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use guildex_types::{ChannelId, GuildId, MessageId};
use serde::Deserialize;

use super::EvalError;

/// The annotation of one channel. What was said before the first annotated message is context.
#[derive(Debug, Deserialize)]
pub(super) struct Gold {
    pub guild_id: GuildId,
    pub channel_id: ChannelId,
    pub conversations: Vec<Vec<MessageId>>,
}

impl Gold {
    /// Reads the file at `path`; each message stands in it once.
    pub fn read(path: &Path) -> Result<Self, EvalError> {
        let file = File::open(path).map_err(|source| EvalError::Read { path: path.to_owned(), source })?;
        let gold: Self = serde_json::from_reader(BufReader::new(file))
            .map_err(|source| EvalError::Gold { path: path.to_owned(), source })?;
        let mut seen = HashSet::new();
        match gold.conversations.iter().flatten().find(|id| !seen.insert(**id)) {
            Some(id) => Err(EvalError::Repeated { path: path.to_owned(), id: *id }),
            None => Ok(gold),
        }
    }
}
