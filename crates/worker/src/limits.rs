//! How long work may take, and keeping to it.
//!
//! What is measured is work under way: a batch that is tokenised, one call of a model, one call of the index, a
//! backfill. Waiting does not count: not for a slot, a stage, a turn at the model, nor for a service or a database
//! that is away. See `docs/jobs.md`.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use guildex_types::{JobId, JobKind};
use tokio::time::timeout;

/// How long work may take, by the kind of its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sessions that are indexed, and every call of a model.
    pub index_session: Limit,
    /// Removals.
    pub delete: Limit,
    /// Backfills.
    pub backfill: Limit,
}

/// The limits of one kind of job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// After this the attempt is given up, and others go on.
    pub soft: Duration,
    /// After this the process ends, if the work goes on all the same.
    pub hard: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let minutes = |soft, hard| Limit { soft: Duration::from_mins(soft), hard: Duration::from_mins(hard) };
        Self { index_session: minutes(2, 5), delete: minutes(2, 5), backfill: minutes(30, 60) }
    }
}

impl Limits {
    fn of(self, kind: JobKind) -> Limit {
        match kind {
            JobKind::IndexSession => self.index_session,
            JobKind::BackfillChannel => self.backfill,
            _ => self.delete,
        }
    }
}

/// Work took longer than its soft limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overdue {
    what: &'static str,
    soft: Duration,
}

impl fmt::Display for Overdue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} took longer than its soft limit of {}s", self.what, self.soft.as_secs_f32())
    }
}

/// What becomes of work that is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GivenUp {
    /// It is dropped, at its next pause.
    Dropped,
    /// It may have a thread that nobody can stop: it goes on unheeded, under its hard limit.
    GoesOn,
}

/// Runs work under its limits.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    limits: Limits,
    underway: Arc<Underway>,
}

impl Clock {
    pub fn new(limits: Limits) -> Self {
        Self { limits, underway: Arc::default() }
    }

    /// The limits of a batch: the widest of its jobs'.
    pub fn limit(&self, kinds: impl IntoIterator<Item = JobKind>) -> Limit {
        let none = Limit { soft: Duration::ZERO, hard: Duration::ZERO };
        kinds.into_iter().map(|kind| self.limits.of(kind)).fold(none, |widest, limit| Limit {
            soft: widest.soft.max(limit.soft),
            hard: widest.hard.max(limit.hard),
        })
    }

    pub fn underway(&self) -> &Arc<Underway> {
        &self.underway
    }

    /// Runs work in a task of its own. A panic in it goes on here.
    pub async fn within<T: Send + 'static>(
        &self,
        what: &'static str,
        limit: Limit,
        jobs: Arc<[JobId]>,
        given_up: GivenUp,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Overdue> {
        let mark = self.underway.begin(what, limit, jobs);
        let mut task = tokio::spawn(async move {
            let _mark = mark;
            work.await
        });
        match timeout(limit.soft, &mut task).await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(error)) if error.is_panic() => resume_unwind(error.into_panic()),
            // Or the runtime ends: whoever waits here is about to be dropped.
            _ => {
                if given_up == GivenUp::Dropped {
                    task.abort();
                }
                Err(Overdue { what, soft: limit.soft })
            }
        }
    }

    /// Runs work that blocks. A panic in it goes on here. What is given up goes on all the same.
    pub async fn blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        limit: Limit,
        jobs: Arc<[JobId]>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Overdue> {
        let mark = self.underway.begin(what, limit, jobs);
        let task = tokio::task::spawn_blocking(move || {
            let _mark = mark;
            work()
        });
        match timeout(limit.soft, task).await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(error)) if error.is_panic() => resume_unwind(error.into_panic()),
            _ => Err(Overdue { what, soft: limit.soft }),
        }
    }
}

/// The work that is under way in this process, for whoever watches over it.
#[derive(Debug, Default)]
pub(crate) struct Underway(Mutex<Pieces>);

#[derive(Debug, Default)]
struct Pieces {
    next: u64,
    pieces: BTreeMap<u64, Piece>,
    given_up: VecDeque<JobId>,
}

/// Work that has begun and is not over.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub what: &'static str,
    pub jobs: Arc<[JobId]>,
    pub since: Instant,
    pub limit: Limit,
}

/// As long as it is there, its work is under way.
pub(crate) struct Mark {
    number: u64,
    underway: Arc<Underway>,
}

/// How many jobs that a model was given up with are remembered.
const REMEMBERED: usize = 64;

impl Underway {
    fn pieces(&self) -> MutexGuard<'_, Pieces> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>, what: &'static str, limit: Limit, jobs: Arc<[JobId]>) -> Mark {
        let mut pieces = self.pieces();
        pieces.next += 1;
        let number = pieces.next;
        pieces.pieces.insert(number, Piece { what, jobs, since: Instant::now(), limit });
        Mark { number, underway: self.clone() }
    }

    /// Work that is past one of its limits.
    pub fn past(&self, bound: fn(Limit) -> Duration) -> Vec<Piece> {
        let is_past = |piece: &&Piece| piece.since.elapsed() > bound(piece.limit);
        self.pieces().pieces.values().filter(is_past).cloned().collect()
    }

    /// Remembers with which jobs a model was given up; the model tells by itself whether it still hangs.
    pub fn gave_up(&self, jobs: &[JobId]) {
        let mut pieces = self.pieces();
        pieces.given_up.extend(jobs);
        let surplus = pieces.given_up.len().saturating_sub(REMEMBERED);
        pieces.given_up.drain(..surplus);
    }

    /// The last jobs that a model was given up with.
    pub fn given_up(&self) -> Vec<JobId> {
        self.pieces().given_up.iter().copied().collect()
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.underway.pieces().pieces.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SHORT: Limit = Limit { soft: Duration::from_secs(60), hard: Duration::ZERO };

    fn clock() -> Clock {
        Clock::new(Limits::default())
    }

    fn jobs() -> Arc<[JobId]> {
        [JobId::new()].into()
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_takes_too_long_is_given_up_and_dropped() {
        let clock = clock();
        let (alive, dropped) = tokio::sync::oneshot::channel::<()>();
        let work = async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        };
        let overdue = clock.within("it", SHORT, jobs(), GivenUp::Dropped, work).await.unwrap_err();
        assert_eq!(overdue.to_string(), "it took longer than its soft limit of 60s");
        assert!(dropped.await.is_err(), "the work is gone");
        assert!(clock.underway.past(|limit| limit.hard).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_cannot_be_stopped_stays_in_sight_until_it_is_over() {
        let clock = clock();
        let (go, gate) = tokio::sync::oneshot::channel::<()>();
        let ids = jobs();
        let work = async move { gate.await.unwrap() };
        assert!(clock.within("it", SHORT, ids.clone(), GivenUp::GoesOn, work).await.is_err());
        let seen = clock.underway.past(|limit| limit.hard);
        assert_eq!((seen.len(), seen[0].what, &seen[0].jobs), (1, "it", &ids));
        go.send(()).unwrap();
        while !clock.underway.past(|limit| limit.hard).is_empty() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_thread_that_blocks_stays_in_sight_until_it_is_over() {
        let clock = clock();
        let (go, gate) = mpsc::channel::<()>();
        let limit = Limit { soft: Duration::from_millis(1), ..SHORT };
        assert!(clock.blocking("it", limit, jobs(), move || gate.recv().unwrap()).await.is_err());
        assert_eq!(clock.underway.past(|limit| limit.hard).len(), 1);
        go.send(()).unwrap();
        while !clock.underway.past(|limit| limit.hard).is_empty() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn work_in_time_gives_what_it_gives_and_a_panic_goes_on() {
        let clock = clock();
        assert_eq!(clock.within("it", SHORT, jobs(), GivenUp::Dropped, async { 7 }).await, Ok(7));
        assert_eq!(clock.blocking("it", SHORT, jobs(), || 7).await, Ok(7));
        let caller = tokio::spawn({
            let clock = clock.clone();
            async move { clock.within("it", SHORT, jobs(), GivenUp::Dropped, async { panic!("as told") }).await }
        });
        assert!(caller.await.unwrap_err().is_panic());
        assert!(clock.underway.past(|limit| limit.hard).is_empty());
    }

    #[test]
    fn a_batch_has_the_widest_limits_of_its_jobs() {
        let limits =
            Limits { delete: Limit { soft: Duration::from_hours(9), hard: SHORT.hard }, ..Limits::default() };
        let clock = Clock::new(limits);
        let limit = clock.limit([JobKind::IndexSession, JobKind::DeleteSession]);
        assert_eq!(limit, Limit { soft: limits.delete.soft, hard: limits.index_session.hard });
        assert_eq!(clock.limit([JobKind::BackfillChannel]), limits.backfill);
    }

    #[test]
    fn the_last_jobs_that_were_given_up_are_remembered() {
        let underway = Underway::default();
        let ids: Vec<JobId> = (0..REMEMBERED + 3).map(|_| JobId::new()).collect();
        ids.iter().for_each(|id| underway.gave_up(&[*id]));
        assert_eq!(underway.given_up(), ids[3..]);
    }
}
