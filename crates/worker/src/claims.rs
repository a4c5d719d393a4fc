//! The claims that this process holds, and keeping them alive.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use guildex_store::jobs::{self, ClaimToken};
use guildex_types::{Job, JobId, Revision};
use sqlx::PgPool;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use crate::finish::{Ended, Finisher, Outcome};
use crate::retry::Beat;

/// A job in this process's hands, until [`end`](Self::end) says how it ended. One that is dropped before has
/// panicked, or was let go because the worker stops.
pub(crate) struct Held {
    pub id: JobId,
    pub token: ClaimToken,
    pub job: Job,
    pub wanted: Revision,
    pub attempt: u32,
    pub finisher: Finisher,
    pub receipt: Option<Receipt>,
}

/// Dropping it acknowledges the delivery and frees its slots: that is done once the ledger knows the outcome.
pub(crate) struct Receipt {
    pub _delivery: oneshot::Sender<()>,
    /// One for most jobs; all of them for a suspect, which therefore runs alone.
    pub _slots: OwnedSemaphorePermit,
}

impl Held {
    pub fn end(mut self, outcome: Outcome) {
        self.tell(outcome);
    }

    fn tell(&mut self, outcome: Outcome) {
        // All that was wanted at the claim was asked for before anything was read; it may be a number above the
        // session's revision.
        let outcome = match outcome {
            Outcome::Done(reached) => Outcome::Done(reached.max(self.wanted)),
            other => other,
        };
        if let Some(receipt) = self.receipt.take() {
            let (id, token, kind, attempt) = (self.id, self.token, self.job.kind(), self.attempt);
            self.finisher.take(Ended { id, token, kind, attempt, outcome, _receipt: receipt });
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.tell(Outcome::of_dropped());
    }
}

/// What is claimed and not yet ended.
#[derive(Debug, Default)]
pub(crate) struct Claims(Mutex<HashSet<(JobId, ClaimToken)>>);

impl Claims {
    fn held(&self) -> MutexGuard<'_, HashSet<(JobId, ClaimToken)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, id: JobId, token: ClaimToken) {
        self.held().insert((id, token));
    }

    pub fn end(&self, claims: impl IntoIterator<Item = (JobId, ClaimToken)>) {
        let mut held = self.held();
        for claim in claims {
            held.remove(&claim);
        }
    }

    pub fn all(&self) -> Vec<(JobId, ClaimToken)> {
        self.held().iter().copied().collect()
    }

    /// Renews all claims three times a lease, for ever. Where that fails, the lease runs out and another worker
    /// does the job; what this one still does to it then has no effect.
    pub async fn keep_alive(&self, pool: &PgPool, lease: Duration) {
        let mut ticks = interval(lease / 3);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut beat = Beat::default();
        loop {
            ticks.tick().await;
            let held = self.all();
            if held.is_empty() {
                beat.rest();
                continue;
            }
            let renewed = jobs::renew(pool, &held, lease).await;
            let Some(renewed) = beat.take("renewing claims", renewed) else { continue };
            // Those that ended in the meantime are no loss.
            let now = self.held();
            let lost = held.iter().filter(|claim| now.contains(claim) && !renewed.contains(&claim.0)).count();
            if lost > 0 {
                tracing::warn!(lost, "claims were lost: other workers have these jobs now");
            }
        }
    }
}
