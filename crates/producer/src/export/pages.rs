//! Gathers messages into pages and hands them over.

use std::mem;
use std::ops::ControlFlow;
use std::sync::Arc;

use guildex_types::Message;

use super::header::Header;
use super::source::Meter;
use super::{Outcome, Page, Rejected};

/// A page ends at so many bytes of JSON, so that a page of giants does not fill the memory.
const MAX_BYTES: u64 = 16 << 20;

pub(super) struct Pages<'a> {
    size: usize,
    meter: &'a Meter,
    on_page: &'a mut dyn FnMut(Page) -> ControlFlow<()>,
    header: Option<Arc<Header>>,
    messages: Vec<Message>,
    rejected: Vec<Rejected>,
    /// Where the page in hand begins.
    offset: u64,
    outcome: Outcome,
}

impl<'a> Pages<'a> {
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

    /// Whether the messages have begun.
    pub fn have_begun(&self) -> bool {
        self.header.is_some()
    }

    /// What follows was written under `header`.
    pub fn begin(&mut self, header: Arc<Header>) -> ControlFlow<()> {
        let flow = self.hand_over();
        self.header = Some(header);
        flow
    }

    /// Adds a message, and hands the page over if that fills it.
    pub fn push(&mut self, message: Result<Message, Rejected>) -> ControlFlow<()> {
        match message {
            Ok(message) => self.messages.push(message),
            Err(rejected) => self.rejected.push(rejected),
        }
        let is_full = self.messages.len() + self.rejected.len() >= self.size
            || self.meter.offset() - self.offset >= MAX_BYTES;
        if is_full { self.hand_over() } else { ControlFlow::Continue(()) }
    }

    /// Hands the last page over and tells how many there were.
    pub fn finish(mut self) -> Outcome {
        // The answer is kept in the outcome.
        let _ = self.hand_over();
        self.outcome
    }

    fn hand_over(&mut self) -> ControlFlow<()> {
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
