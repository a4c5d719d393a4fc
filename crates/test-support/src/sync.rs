//! Waiting for what another task does, and holding it up.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::TEST_TIMEOUT;

/// A point that callers pass. While it is closed they are held up there, and counted.
pub struct Gate {
    open: watch::Sender<bool>,
    held_up: watch::Sender<usize>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { open: watch::Sender::new(true), held_up: watch::Sender::new(0) }
    }
}

impl Gate {
    /// Holds up all who come from now on.
    pub fn close(&self) {
        self.open.send_replace(false);
    }

    /// Lets everyone through.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Returns once the gate is open.
    pub async fn pass(&self) {
        if !*self.open.borrow() {
            self.held_up.send_modify(|count| *count += 1);
            self.open.subscribe().wait_for(|open| *open).await.unwrap();
        }
    }

    /// Waits until that many callers have been held up.
    ///
    /// # Panics
    /// If they do not come within [`TEST_TIMEOUT`].
    pub async fn until_waiting(&self, count: usize) {
        let mut held_up = self.held_up.subscribe();
        let waiting = held_up.wait_for(|held_up| *held_up >= count);
        timeout(TEST_TIMEOUT, waiting).await.expect("a caller at the gate").unwrap();
    }
}

/// Polls a condition until it holds.
///
/// # Panics
/// If it does not hold within [`TEST_TIMEOUT`]; the message says `what` was awaited.
pub async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let polling = async {
        while !holds().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(TEST_TIMEOUT, polling).await.is_ok(), "this did not happen in time: {what}");
}
