//! Time limits of running work.
//!
//! Limits apply to work in progress: tokenizing a batch, one call of a model or of the index, a backfill. Waiting does
//! not count: not for a slot, a stage or a turn at the model, nor for an unavailable service. See `docs/jobs.md`.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use guildex_types::config::{DAY, SECOND, allowed_if, duration, duration_between};
use guildex_types::{JobId, JobKind};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tracing::{Instrument, Span};

/// Time limits of one kind of job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, garde::Validate)]
#[serde(deny_unknown_fields)]
pub struct TimeLimit {
    /// Time after which the attempt is abandoned, so that other jobs continue.
    #[serde(with = "duration")]
    #[garde(custom(duration_between(SECOND..=DAY)))]
    pub soft: Duration,
    /// Time after which the process ends, if the abandoned work still runs.
    #[serde(with = "duration")]
    // What is abandoned at the soft limit is recorded before the process ends.
    #[garde(
        custom(duration_between(SECOND..=DAY)),
        custom(|hard: &Duration, _| allowed_if(*hard > self.soft, duration::text(*hard), "more than `soft`"))
    )]
    pub hard: Duration,
}

impl TimeLimit {
    pub(crate) const fn from_mins(soft: u64, hard: u64) -> Self {
        Self { soft: Duration::from_mins(soft), hard: Duration::from_mins(hard) }
    }
}

/// Time limits, by job kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, garde::Validate)]
#[serde(default, deny_unknown_fields)]
pub struct TimeLimits {
    /// `index_session` jobs, and calls of a model.
    #[garde(dive)]
    pub index_session: TimeLimit,
    /// `delete_session` and `remove_points` jobs.
    #[garde(dive)]
    pub delete: TimeLimit,
    /// `backfill_channel` jobs.
    #[garde(dive)]
    pub backfill: TimeLimit,
}

impl TimeLimits {
    fn get(&self, kind: JobKind) -> TimeLimit {
        match kind {
            JobKind::IndexSession => self.index_session,
            JobKind::BackfillChannel => self.backfill,
            JobKind::DeleteSession | JobKind::RemovePoints => self.delete,
        }
    }
}

/// An operation exceeded its soft limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimedOut {
    operation: &'static str,
    soft: Duration,
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} took longer than its soft limit of {}s", self.operation, self.soft.as_secs_f32())
    }
}

/// Treatment of work at its soft limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnTimeout {
    /// It is cancelled at its next await point.
    Cancel,
    /// It continues under its hard limit and its result is ignored: it may hold a thread that cannot be stopped.
    Detach,
}

/// Runs work under a time limit, and knows what runs.
#[derive(Debug, Clone)]
pub(crate) struct TimeLimiter {
    limits: TimeLimits,
    in_flight: Arc<InFlight>,
}

impl TimeLimiter {
    pub fn new(limits: TimeLimits) -> Self {
        Self { limits, in_flight: Arc::default() }
    }

    /// Limit of a batch of jobs: the longest of theirs.
    pub fn limit(&self, kinds: impl IntoIterator<Item = JobKind>) -> TimeLimit {
        let none = TimeLimit { soft: Duration::ZERO, hard: Duration::ZERO };
        kinds.into_iter().map(|kind| self.limits.get(kind)).fold(none, |longest, limit| TimeLimit {
            soft: longest.soft.max(limit.soft),
            hard: longest.hard.max(limit.hard),
        })
    }

    pub fn in_flight(&self) -> &Arc<InFlight> {
        &self.in_flight
    }

    /// Runs work in a separate task, in the current span. Its panics are resumed here.
    pub async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        limit: TimeLimit,
        jobs: Arc<[JobId]>,
        on_timeout: OnTimeout,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, TimedOut> {
        let guard = self.in_flight.begin(operation, limit, jobs);
        let work = async move {
            let _guard = guard;
            work.await
        };
        let mut task = tokio::spawn(work.in_current_span());
        match timeout(limit.soft, &mut task).await {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(error)) if error.is_panic() => resume_unwind(error.into_panic()),
            // Or the runtime shuts down, and drops this future, too.
            _ => {
                if on_timeout == OnTimeout::Cancel {
                    task.abort();
                }
                Err(TimedOut { operation, soft: limit.soft })
            }
        }
    }

    /// Runs blocking work on a separate thread, in the current span. Its panics are resumed here. At its soft limit
    /// it is detached.
    pub async fn run_blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        limit: TimeLimit,
        jobs: Arc<[JobId]>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, TimedOut> {
        let (guard, span) = (self.in_flight.begin(operation, limit, jobs), Span::current());
        let task = tokio::task::spawn_blocking(move || {
            let _guard = guard;
            span.in_scope(work)
        });
        match timeout(limit.soft, task).await {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(error)) if error.is_panic() => resume_unwind(error.into_panic()),
            _ => Err(TimedOut { operation, soft: limit.soft }),
        }
    }
}

/// Work in progress in this process, for the watchdog.
#[derive(Debug, Default)]
pub(crate) struct InFlight(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    entries: BTreeMap<u64, InFlightEntry>,
    abandoned: VecDeque<JobId>,
}

/// An operation that runs.
#[derive(Debug, Clone)]
pub(crate) struct InFlightEntry {
    pub operation: &'static str,
    pub jobs: Arc<[JobId]>,
    pub since: Instant,
    pub limit: TimeLimit,
}

/// Removes its entry when dropped.
pub(crate) struct InFlightGuard {
    number: u64,
    in_flight: Arc<InFlight>,
}

/// Jobs remembered whose call of a model was abandoned.
const MAX_ABANDONED: usize = 64;

impl InFlight {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(
        self: &Arc<Self>,
        operation: &'static str,
        limit: TimeLimit,
        jobs: Arc<[JobId]>,
    ) -> InFlightGuard {
        let mut state = self.state();
        state.next += 1;
        let number = state.next;
        state.entries.insert(number, InFlightEntry { operation, jobs, since: Instant::now(), limit });
        InFlightGuard { number, in_flight: self.clone() }
    }

    /// Entries that exceed one of their limits.
    pub fn exceeding(&self, bound: fn(TimeLimit) -> Duration) -> Vec<InFlightEntry> {
        let exceeds = |entry: &&InFlightEntry| entry.since.elapsed() > bound(entry.limit);
        self.state().entries.values().filter(exceeds).cloned().collect()
    }

    /// Remembers the jobs of an abandoned call of a model. The model itself knows whether the call still runs.
    pub fn abandon(&self, jobs: &[JobId]) {
        let mut state = self.state();
        state.abandoned.extend(jobs);
        let surplus = state.abandoned.len().saturating_sub(MAX_ABANDONED);
        state.abandoned.drain(..surplus);
    }

    /// The last jobs whose call of a model was abandoned.
    pub fn abandoned(&self) -> Vec<JobId> {
        self.state().abandoned.iter().copied().collect()
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.in_flight.state().entries.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SHORT: TimeLimit = TimeLimit { soft: Duration::from_secs(60), hard: Duration::ZERO };

    fn limiter() -> TimeLimiter {
        TimeLimiter::new(TimeLimits::default())
    }

    fn jobs() -> Arc<[JobId]> {
        [JobId::new()].into()
    }

    fn past_hard_limit(limiter: &TimeLimiter) -> Vec<InFlightEntry> {
        limiter.in_flight.exceeding(|limit| limit.hard)
    }

    #[tokio::test(start_paused = true)]
    async fn work_past_its_soft_limit_is_cancelled() {
        let limiter = limiter();
        let (alive, dropped) = tokio::sync::oneshot::channel::<()>();
        let work = async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        };
        let error = limiter.run("indexing", SHORT, jobs(), OnTimeout::Cancel, work).await.unwrap_err();
        assert_eq!(error.to_string(), "indexing took longer than its soft limit of 60s");
        assert!(dropped.await.is_err(), "the work is dropped");
        assert!(past_hard_limit(&limiter).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn detached_work_stays_in_flight_until_it_ends() {
        let limiter = limiter();
        let (go, gate) = tokio::sync::oneshot::channel::<()>();
        let ids = jobs();
        let work = async move { gate.await.unwrap() };
        assert!(limiter.run("indexing", SHORT, ids.clone(), OnTimeout::Detach, work).await.is_err());
        let entries = past_hard_limit(&limiter);
        assert_eq!((entries.len(), entries[0].operation, &entries[0].jobs), (1, "indexing", &ids));
        go.send(()).unwrap();
        while !past_hard_limit(&limiter).is_empty() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn blocking_work_stays_in_flight_until_it_ends() {
        let limiter = limiter();
        let (go, gate) = mpsc::channel::<()>();
        let limit = TimeLimit { soft: Duration::from_millis(1), ..SHORT };
        let work = move || gate.recv().unwrap();
        assert!(limiter.run_blocking("indexing", limit, jobs(), work).await.is_err());
        assert_eq!(past_hard_limit(&limiter).len(), 1);
        go.send(()).unwrap();
        while !past_hard_limit(&limiter).is_empty() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn work_within_its_limit_returns_its_output_or_panics() {
        let limiter = limiter();
        assert_eq!(limiter.run("indexing", SHORT, jobs(), OnTimeout::Cancel, async { 7 }).await, Ok(7));
        assert_eq!(limiter.run_blocking("indexing", SHORT, jobs(), || 7).await, Ok(7));
        let caller = tokio::spawn({
            let limiter = limiter.clone();
            async move {
                let work = async { panic!("expected by the test") };
                limiter.run("indexing", SHORT, jobs(), OnTimeout::Cancel, work).await
            }
        });
        assert!(caller.await.unwrap_err().is_panic());
        assert!(past_hard_limit(&limiter).is_empty());
    }

    #[test]
    fn a_batch_has_the_longest_limits_of_its_jobs() {
        let limits = TimeLimits { delete: TimeLimit::from_mins(9, 1), ..TimeLimits::default() };
        let limiter = TimeLimiter::new(limits);
        let limit = limiter.limit([JobKind::IndexSession, JobKind::DeleteSession]);
        assert_eq!(limit, TimeLimit { soft: limits.delete.soft, hard: limits.index_session.hard });
        assert_eq!(limiter.limit([JobKind::BackfillChannel]), limits.backfill);
    }

    #[test]
    fn the_last_abandoned_jobs_are_remembered() {
        let in_flight = InFlight::default();
        let ids: Vec<JobId> = (0..MAX_ABANDONED + 3).map(|_| JobId::new()).collect();
        ids.iter().for_each(|id| in_flight.abandon(&[*id]));
        assert_eq!(in_flight.abandoned(), ids[3..]);
    }
}
