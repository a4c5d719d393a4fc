//! Generates any number of realistic messages as DiscordChatExporter exports.
//!
//! Learns from given exports: how often and after whom members write, pauses, replies, mentions, and the lengths and
//! words of texts. Output follows real channels passage by passage: it keeps the times, authors and links of a passage
//! under other names and splices each text from real ones. So no message is a copy, but words repeat as in real chat.
//!
//! The same seed and exports give the same files on every platform. Each file is one channel and is generated on its own,
//! so memory does not grow with the number of messages.

mod learn;
mod options;
mod plan;
mod write;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use self::learn::Chat;
pub use self::options::Generate;
use crate::BenchError;

/// Totals of the generated exports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Generated {
    /// Number of messages.
    pub messages: u64,
    /// Number of channels, with one file each.
    pub channels: u64,
    /// Size on disk.
    pub bytes: u64,
}

/// Returns `exports`, or the samples if it is empty.
pub fn or_samples(exports: Vec<PathBuf>) -> Vec<PathBuf> {
    let samples = || vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples"))];
    if exports.is_empty() { samples() } else { exports }
}

/// Writes exports as `guild-N/channel-N.json.gz`. Calls `on_progress` with the number of messages written.
///
/// # Errors
/// If there is nothing to learn from, or writing fails.
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
            worker.join().unwrap_or(Err(BenchError::Stuck("a thread that writes exports panicked")))
        })
    })?;
    let (messages, bytes) = (written.into_inner(), bytes.into_inner());
    Ok(Generated { messages, channels: channels.len() as u64, bytes })
}

#[cfg(test)]
mod tests;
