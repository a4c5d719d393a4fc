//! Texts that a worker would embed for given exports.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use guildex_document::SessionText;
use guildex_embed::Tokenizer;
use guildex_evaluation::sessions::{AnnotatedChannel as Channel, Method};

use super::options::Embed;
use crate::BenchError;

/// Messages per page.
const PAGE: usize = 10_000;

/// Returns the requested number of texts, sampled evenly from all sessions of the exports, in their order.
///
/// # Errors
/// If an export cannot be read, or there is no text.
pub(super) fn read(options: &Embed, tokenizer: &Tokenizer) -> Result<Vec<String>, BenchError> {
    let (files, errors) = guildex_discord_export::find_exports(&options.exports);
    if let Some(error) = errors.into_iter().next() {
        return Err(error.into());
    }
    let method = Method::Sessionizer(Box::new(options.rules.clone()));
    let mut texts = Vec::new();
    for file in files {
        if let Some(channel) = channel(&file)? {
            texts.extend(session_texts(&channel, &method, options, tokenizer)?);
        }
    }
    if texts.is_empty() {
        return Err(BenchError::Nothing { path: options.exports.first().cloned().unwrap_or_default() });
    }
    Ok(sample(texts, options.texts))
}

/// Reads the included messages of a file; `None` if it has no messages.
fn channel(path: &Path) -> Result<Option<Channel>, BenchError> {
    let mut header = None;
    let mut messages = BTreeMap::new();
    guildex_discord_export::read_export(path, PAGE, &mut |page| {
        header = Some(page.header);
        let included = page.messages.into_iter().filter(|message| message.excluded_reason(false).is_none());
        messages.extend(included.map(|message| (message.id, message)));
        ControlFlow::Continue(())
    })?;
    let Some(header) = header else { return Ok(None) };
    let mut messages: Vec<_> = messages.into_values().collect();
    messages.sort_by_key(|message| (message.sent_at, message.id));
    Ok(Some(Channel {
        name: header.channel.name.clone(),
        guild_id: header.guild_id,
        channel_id: header.channel.id,
        channel_name: header.channel.name.clone(),
        messages,
        conversations: Vec::new(),
    }))
}

fn session_texts(
    channel: &Channel,
    method: &Method,
    options: &Embed,
    tokenizer: &Tokenizer,
) -> Result<Vec<String>, BenchError> {
    let mut texts = Vec::new();
    for session in channel.sessions(channel.guild_id, method, "none") {
        let messages = u32::try_from(session.messages.len()).unwrap_or(u32::MAX);
        let words = session.messages.iter().fold(0_u32, |sum, message| sum.saturating_add(message.words));
        if options.eligible.admits(messages, words) {
            let chunks = SessionText::new(&session).chunk_by(tokenizer, options.tokens)?.chunks;
            texts.extend(chunks.into_iter().map(|chunk| chunk.text));
        }
    }
    Ok(texts)
}

fn sample<T>(all: Vec<T>, count: usize) -> Vec<T> {
    let total = all.len();
    let count = count.min(total);
    let is_sampled = |place: usize| place * count / total != (place + 1) * count / total;
    all.into_iter().enumerate().filter(|(place, _)| is_sampled(*place)).map(|(_, one)| one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_sampled_evenly() {
        assert_eq!(sample((0..10).collect(), 5), [1, 3, 5, 7, 9]);
        assert_eq!(sample((0..10).collect(), 3).len(), 3);
        assert_eq!(sample((0..3).collect(), 10), [0, 1, 2]);
        assert!(sample(Vec::<u8>::new(), 10).is_empty());
    }
}
