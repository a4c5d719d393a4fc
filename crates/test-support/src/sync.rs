//! Waiting for and blocking other tasks.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::TEST_TIMEOUT;

/// A point that callers pass. While it is closed, callers wait and are counted.
pub struct Gate {
    open: watch::Sender<bool>,
    waiting_callers: watch::Sender<usize>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { open: watch::Sender::new(true), waiting_callers: watch::Sender::new(0) }
    }
}

impl Gate {
    /// Makes later callers wait.
    pub fn close(&self) {
        self.open.send_replace(false);
    }

    /// Lets all callers pass.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Returns once the gate is open.
    pub async fn pass(&self) {
        if !*self.open.borrow() {
            self.waiting_callers.send_modify(|count| *count += 1);
            self.open.subscribe().wait_for(|open| *open).await.unwrap();
        }
    }

    /// Waits until `count` callers have had to wait.
    ///
    /// # Panics
    /// If they do not arrive within [`TEST_TIMEOUT`].
    pub async fn until_waiting(&self, count: usize) {
        let mut waiting_callers = self.waiting_callers.subscribe();
        let waiting = waiting_callers.wait_for(|waiting_callers| *waiting_callers >= count);
        timeout(TEST_TIMEOUT, waiting).await.expect("a caller at the gate").unwrap();
    }
}

/// Polls a condition until it holds.
///
/// # Panics
/// If it does not hold within [`TEST_TIMEOUT`]; the message names `what`.
pub async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let polling = async {
        while !holds().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(TEST_TIMEOUT, polling).await.is_ok(), "timed out waiting for {what}");
}
