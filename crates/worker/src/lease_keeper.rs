//! Leases of the jobs that this worker has claimed.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use guildex_store::jobs::{self, ClaimToken};
use guildex_types::{JobId, Outage};
use sqlx::PgPool;
use tokio::time::{MissedTickBehavior, interval};

use crate::retry::POSTGRES;

/// A claimed job.
pub(crate) type Lease = (JobId, ClaimToken);

/// Holds the leases of claimed jobs until the jobs end, and renews them.
#[derive(Debug)]
pub(crate) struct LeaseKeeper {
    pool: PgPool,
    duration: Duration,
    leases: Mutex<HashSet<Lease>>,
}

impl LeaseKeeper {
    pub fn new(pool: PgPool, duration: Duration) -> Self {
        Self { pool, duration, leases: Mutex::default() }
    }

    pub fn add(&self, lease: Lease) {
        self.leases().insert(lease);
    }

    pub fn remove(&self, leases: impl IntoIterator<Item = Lease>) {
        let mut held = self.leases();
        for lease in leases {
            held.remove(&lease);
        }
    }

    pub fn all(&self) -> Vec<Lease> {
        self.leases().iter().copied().collect()
    }

    /// Renews all leases three times in their duration, without end. If Postgres is unavailable, leases expire and
    /// other workers run the jobs; this worker's claim tokens are invalid then, so that it changes nothing.
    pub async fn renew_loop(&self) {
        let mut ticks = interval(self.duration / 3);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut outage: Option<Outage> = None;
        loop {
            ticks.tick().await;
            let held = self.all();
            if held.is_empty() {
                outage = None;
                continue;
            }
            match jobs::renew(&self.pool, &held, self.duration).await {
                Ok(renewed) => {
                    outage.take().into_iter().for_each(Outage::recovered);
                    self.warn_of_lost(&held, &renewed);
                }
                Err(error) => {
                    outage.get_or_insert_with(|| POSTGRES.begin("renewing leases", &error));
                }
            }
        }
    }

    /// A lease that was not renewed is lost, unless its job ended meanwhile.
    fn warn_of_lost(&self, held: &[Lease], renewed: &[JobId]) {
        let renewed: HashSet<&JobId> = renewed.iter().collect();
        let now = self.leases();
        let lost = held.iter().filter(|lease| now.contains(lease) && !renewed.contains(&lease.0)).count();
        if lost > 0 {
            tracing::warn!(lost, "leases lost; other workers may run these jobs");
        }
    }

    /// Returns all claimed jobs to the queue, without consuming their attempts.
    pub async fn release_all(&self) {
        let leases = self.all();
        if leases.is_empty() {
            return;
        }
        tracing::info!(jobs = leases.len(), "releasing unfinished jobs");
        if let Err(error) = jobs::release(&self.pool, &leases, Duration::ZERO).await {
            tracing::warn!(%error, "failed to release jobs; they return to the queue when their leases expire");
        }
    }

    fn leases(&self) -> MutexGuard<'_, HashSet<Lease>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
