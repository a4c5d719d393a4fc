//! Reads the JSON exports of [DiscordChatExporter](https://github.com/Tyrrrz/DiscordChatExporter).
//!
//! An export holds one channel or thread: an object with `guild`, `channel` and then `messages`, as laid out by
//! its `JsonMessageWriter`. Files may be gzipped, and larger than memory: [`read`] hands the messages over in
//! pages, in the file's order, and holds one page and one message of JSON at a time.
//!
//! A broken file ends with an [`ExportError`] after all that was sound before the break. A message that is sound
//! JSON but no message is [`Rejected`] alone. Neither tells what anybody wrote.

mod document;
mod error;
mod find;
mod header;
mod message;
mod pages;
mod source;
mod typed;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use guildex_types::{Message, MessageId};

pub use error::{ExportError, Fault, Reason};
pub use find::{FindError, find};
pub use header::{ChannelInfo, ChannelKind, Header, Parent};

use pages::Pages;
use source::Meter;

/// Some messages of an export, in the order of the file.
#[derive(Debug)]
pub struct Page {
    /// Where the messages were written; the same for all pages of a file.
    pub header: Arc<Header>,
    /// What could be read. Ids may repeat, if they do so in the file.
    pub messages: Vec<Message>,
    /// What could not.
    pub rejected: Vec<Rejected>,
    /// How much of the file on disk, compressed or not, has been read so far.
    pub bytes_read: u64,
}

/// A message that could not be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Where it begins, in bytes of the uncompressed JSON.
    pub offset: u64,
    /// Its id, if that much can be read.
    pub id: Option<MessageId>,
    /// What is wrong with it.
    pub reason: Reason,
}

/// How the reading of a whole file ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How many messages were handed over.
    pub messages: u64,
    /// How many were rejected.
    pub rejected: u64,
    /// Whether `on_page` broke off before the end of the file.
    pub stopped: bool,
}

/// Reads the export at `path`, plain or gzipped, and hands its messages to `on_page`, at most `page_size` at a
/// time (0 counts as 1). Pages of uncommonly long messages are shorter. A file without messages has no pages.
///
/// # Errors
///
/// If the file cannot be read, is no export of a guild's channel, or is broken. Messages before the break have
/// been handed over by then.
pub fn read(
    path: &Path,
    page_size: usize,
    on_page: &mut dyn FnMut(Page) -> ControlFlow<()>,
) -> Result<Outcome, ExportError> {
    let meter = Meter::default();
    let mut pages = Pages::new(page_size, &meter, on_page);
    let read = source::open(path, &meter)
        .map_err(Fault::from)
        .and_then(|json| document::read(json, &meter, &mut pages));
    let outcome = pages.finish();
    match read {
        Ok(()) => Ok(outcome),
        Err(fault) => Err(ExportError { path: path.to_owned(), offset: meter.offset(), fault }),
    }
}
