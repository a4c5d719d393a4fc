//! Any number of messages in the shape of real chat, as exports of DiscordChatExporter's layout.
//!
//! Learned from given exports: who speaks how often and after whom, the gaps between messages, replies and mentions,
//! and how long texts are and of which words. What is written goes passage by passage through what was learned: a
//! stretch of a real channel keeps its times, speakers and links, under other names, while each text is
//! spliced from real ones. So nothing is a copy, and single words, as in chat, come again.
//!
//! The same seed and exports give the same files, byte for byte. Each file is a channel and is made for itself, so
//! memory does not grow with the number of messages.

mod learn;
mod plan;
mod random;
mod write;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::BenchError;
use learn::Chat;

/// What to make.
#[derive(Debug, Clone)]
pub struct Generate {
    /// How many messages, in all.
    pub messages: u64,
    /// Of how many guilds: few are large, many are small.
    pub guilds: u32,
    /// Exports to learn from, or folders that hold some.
    pub exports: Vec<PathBuf>,
    /// The folder to write to; made if it is not there.
    pub out: PathBuf,
    /// Another seed makes other messages.
    pub seed: u64,
}

/// What was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Generated {
    /// Messages.
    pub messages: u64,
    /// Channels, a file each.
    pub channels: u64,
    /// Bytes on the disk.
    pub bytes: u64,
}

/// The exports to learn from: those given, or the samples where there are none.
pub fn or_samples(exports: Vec<PathBuf>) -> Vec<PathBuf> {
    let samples = || vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples"))];
    if exports.is_empty() { samples() } else { exports }
}

/// Writes the exports, `guild-N/channel-N.json.gz`. `on_progress` hears how many messages are written.
///
/// # Errors
/// If there is nothing to learn from, or the disk refuses.
pub fn run(options: &Generate, on_progress: impl Fn(u64) + Sync) -> Result<Generated, BenchError> {
    let chat = Chat::learn(&options.exports)?;
    let channels = plan::channels(options.messages, options.guilds);
    let (next, written, bytes) = (Mutex::new(channels.iter()), AtomicU64::new(0), AtomicU64::new(0));
    let failed = AtomicBool::new(false);
    let work = || -> Result<(), BenchError> {
        while !failed.load(Ordering::Relaxed)
            && let Some(channel) = next.lock().ok().and_then(|mut next| next.next())
        {
            let size = write::channel(&chat, channel, options).map_err(|error| {
                failed.store(true, Ordering::Relaxed);
                BenchError::Folder(error)
            })?;
            bytes.fetch_add(size, Ordering::Relaxed);
            on_progress(written.fetch_add(channel.messages, Ordering::Relaxed) + channel.messages);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> =
            (0..thread::available_parallelism().map_or(1, usize::from)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or(Err(BenchError::Stuck("a thread that writes exports died")))
        })
    })?;
    let (messages, bytes) = (written.into_inner(), bytes.into_inner());
    Ok(Generated { messages, channels: channels.len() as u64, bytes })
}

#[cfg(test)]
mod tests;
