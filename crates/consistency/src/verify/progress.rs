//! Progress of a comparison.

use std::sync::atomic::{AtomicU64, Ordering};

/// Progress of a comparison in points and sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Number compared so far.
    pub done: u64,
    /// Number at the start.
    pub total: u64,
}

/// Counts compared points and sessions, and reports progress.
pub(super) struct ProgressCounter<'a> {
    done: AtomicU64,
    total: AtomicU64,
    report: &'a (dyn Fn(Progress) + Send + Sync),
}

impl<'a> ProgressCounter<'a> {
    pub fn new(report: &'a (dyn Fn(Progress) + Send + Sync)) -> Self {
        Self { done: AtomicU64::new(0), total: AtomicU64::new(0), report }
    }

    /// Adds to the total.
    pub fn expect(&self, count: u64) {
        self.total.fetch_add(count, Ordering::Relaxed);
    }

    /// Adds to the compared ones, and reports.
    pub fn advance(&self, count: usize) {
        let done = self.done.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
        // New points and sessions may exceed the total.
        let total = self.total.load(Ordering::Relaxed).max(done);
        (self.report)(Progress { done, total });
    }
}
