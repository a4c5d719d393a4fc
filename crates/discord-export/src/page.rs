//! Pages of messages, and the builder that fills them and passes them to the caller.

use std::mem;
use std::ops::ControlFlow;
use std::sync::Arc;

use guildex_types::{Message, MessageId};

use crate::error::RejectReason;
use crate::header::Header;
use crate::source::Meter;

/// Some messages of an export, in file order.
#[derive(Debug)]
pub struct Page {
    /// Guild and channel of the messages; the same for all pages of a file.
    pub header: Arc<Header>,
    /// Valid messages. An id that repeats in the file repeats here.
    pub messages: Vec<Message>,
    /// Elements that are no valid message.
    pub rejected: Vec<Rejected>,
    /// Bytes of the file on disk, compressed or not, that have been read so far.
    pub bytes_read: u64,
}

/// An element of `messages` that is no valid message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Start of the element, in bytes of the uncompressed JSON.
    pub offset: u64,
    /// Message id, if it can be read.
    pub id: Option<MessageId>,
    /// Cause of the rejection.
    pub reason: RejectReason,
}

/// Counts of a file that was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Messages passed on.
    pub messages: u64,
    /// Elements rejected.
    pub rejected: u64,
    /// The callback stopped the read before the end of the file.
    pub stopped: bool,
}

/// Bytes of JSON after which a page ends, so that a page of very long messages stays small in memory.
const MAX_PAGE_BYTES: u64 = 16 << 20;

/// Collects messages into pages.
pub(crate) struct PageBuilder<'a> {
    size: usize,
    meter: &'a Meter,
    on_page: &'a mut dyn FnMut(Page) -> ControlFlow<()>,
    header: Option<Arc<Header>>,
    messages: Vec<Message>,
    rejected: Vec<Rejected>,
    /// Start of the current page, in bytes of JSON.
    offset: u64,
    outcome: Outcome,
}

impl<'a> PageBuilder<'a> {
    pub fn new(size: usize, meter: &'a Meter, on_page: &'a mut dyn FnMut(Page) -> ControlFlow<()>) -> Self {
        Self {
            size,
            meter,
            on_page,
            header: None,
            messages: Vec::new(),
            rejected: Vec::new(),
            offset: 0,
            outcome: Outcome::default(),
        }
    }

    /// Returns true once the `messages` field was reached.
    pub fn have_begun(&self) -> bool {
        self.header.is_some()
    }

    /// Starts the messages of `header`.
    pub fn begin(&mut self, header: Arc<Header>) -> ControlFlow<()> {
        let flow = self.flush();
        self.header = Some(header);
        flow
    }

    /// Adds a message and flushes the page if it is full.
    pub fn push(&mut self, message: Result<Message, Rejected>) -> ControlFlow<()> {
        match message {
            Ok(message) => self.messages.push(message),
            Err(rejected) => self.rejected.push(rejected),
        }
        let is_full = self.messages.len() + self.rejected.len() >= self.size
            || self.meter.offset() - self.offset >= MAX_PAGE_BYTES;
        if is_full { self.flush() } else { ControlFlow::Continue(()) }
    }

    /// Flushes the last page and returns the counts.
    pub fn finish(mut self) -> Outcome {
        // A break is recorded in `outcome.stopped`.
        let _ = self.flush();
        self.outcome
    }

    fn flush(&mut self) -> ControlFlow<()> {
        self.offset = self.meter.offset();
        let Some(header) = &self.header else { return ControlFlow::Continue(()) };
        if self.messages.is_empty() && self.rejected.is_empty() {
            return ControlFlow::Continue(());
        }
        self.outcome.messages += self.messages.len() as u64;
        self.outcome.rejected += self.rejected.len() as u64;
        let flow = (self.on_page)(Page {
            header: Arc::clone(header),
            messages: mem::take(&mut self.messages),
            rejected: mem::take(&mut self.rejected),
            bytes_read: self.meter.on_disk(),
        });
        self.outcome.stopped |= flow.is_break();
        flow
    }
}
