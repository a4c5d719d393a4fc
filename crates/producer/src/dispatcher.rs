//! The dispatcher: keeps a bounded window of ready jobs in Redis, and the ledger in order.
//!
//! The backlog waits in Postgres, so Redis stays small whatever is asked for. What Redis loses, all or some of
//! it, is missed within seconds and pushed again. Any number of dispatchers may run; one at a time works, under an
//! advisory lock.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use guildex_queue::{QueueError, Queues, WINDOW};
use guildex_store::jobs::Dispatched;
use guildex_store::{StoreError, erasures, jobs, statistics};
use guildex_types::{JobQueue, RetryPolicy};
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// How the dispatcher works.
#[derive(Debug, Clone)]
pub struct DispatcherConfig {
    /// Jobs of one class that are queued at a time, at most [`WINDOW`]; of live ones, fewer. A job that comes
    /// back from a dead worker waits behind as many.
    pub window: usize,
    /// How often it looks without being woken.
    pub poll: Duration,
    /// How long a job may wait in Redis before it is pushed again, though Redis still knows of it.
    pub queued_lease: Duration,
    /// How long done jobs are kept.
    pub keep_done: Duration,
    /// Delays before jobs whose lease expired run again.
    pub retry: RetryPolicy,
}

impl Default for DispatcherConfig {
    fn default() -> Self {
        Self {
            window: 256,
            poll: Duration::from_secs(1),
            queued_lease: Duration::from_secs(120),
            keep_done: Duration::from_secs(24 * 3600),
            retry: RetryPolicy::default(),
        }
    }
}

/// Live jobs that are queued at a time, at most: enough for the workers of the moment until the next round, which
/// is soon. Guilds take turns where jobs are dispatched, and in Redis no more: the fewer wait there, the sooner a
/// guild with a single message has its turn beside one with thousands.
const LIVE_WINDOW: usize = 128;
/// How often Redis is asked whether it still knows what is queued, and how long a job must have been queued: the
/// push may be under way.
const LOSS_PERIOD: Duration = Duration::from_secs(2);
/// The first and the longest pause between two tries while a server is away; twice that with jitter.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_millis(2_500));
/// How many looks there are to a poll while the window is full or being filled, at least.
const BUSY: u32 = 20;
/// The shortest pause between two looks at a class, however fast workers are.
const SHORTEST_LOOK: Duration = Duration::from_millis(5);
/// How often finished jobs are trimmed, in the ledger and in Redis, and receipts of forgetting are completed.
const JANITOR_PERIOD: Duration = Duration::from_secs(30);
/// How often it is looked whether Postgres plans by what there was long ago.
const STATISTICS_PERIOD: Duration = Duration::from_secs(10);
/// How many rows the janitor deletes at a time.
const JANITOR_BATCH: i64 = 5_000;

#[derive(Debug, thiserror::Error)]
enum DispatchError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Moves due jobs from Postgres into Redis.
#[derive(Clone)]
pub struct Dispatcher {
    pool: PgPool,
    queues: Queues,
    config: DispatcherConfig,
}

impl Dispatcher {
    /// A dispatcher from the ledger behind `pool` into `queues`.
    pub fn new(pool: PgPool, queues: Queues, config: DispatcherConfig) -> Self {
        Self { pool, queues, config }
    }

    /// Works until `stop`. Outages are waited out.
    pub async fn run(&self, stop: CancellationToken) {
        let (wake, mut woken) = mpsc::channel(64);
        let listening = tokio::spawn(listen(self.pool.clone(), wake));
        let mut agenda = Agenda::new(Instant::now());
        // The pauses of an outage, while there is one.
        let mut outage = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                // Jobs that come meanwhile are no reason to try more often.
                Some(delay) = woken.recv() => {
                    if outage.is_none() {
                        agenda.look_by(Instant::now() + delay);
                    }
                    continue;
                }
                () = sleep_until(agenda.next()) => {}
            }
            match self.round(&mut agenda).await {
                Ok(()) => {
                    if outage.take().is_some() {
                        tracing::info!("dispatching works again");
                    }
                }
                Err(error) => {
                    if outage.is_none() {
                        tracing::warn!(%error, "dispatching fails; it goes on trying");
                    }
                    let pause = outage.get_or_insert_with(pauses).next().unwrap_or(PAUSES.1);
                    agenda.put_off(Instant::now() + pause);
                }
            }
        }
        listening.abort();
    }

    /// Does what is due.
    async fn round(&self, agenda: &mut Agenda) -> Result<(), DispatchError> {
        if is_due(&mut agenda.sweep, self.config.poll) {
            let swept = jobs::rescue_expired(&self.pool, &self.config.retry).await?;
            if swept != jobs::Rescued::default() {
                tracing::warn!(requeued = swept.requeued, died = swept.dead, "jobs outlived their lease");
                agenda.look_by(Instant::now());
            }
        }
        if is_due(&mut agenda.losses, LOSS_PERIOD) && self.take_back_lost().await? {
            agenda.look_by(Instant::now());
        }
        for (class, look) in &mut agenda.classes {
            if look.at <= Instant::now() {
                let pause = match self.dispatch(*class).await? {
                    Fill::Idle => self.config.poll,
                    Fill::Full => self.config.poll / BUSY,
                    Fill::Dispatched(count) => self.refill(look.since.elapsed(), count),
                };
                *look = Look { since: Instant::now(), at: Instant::now() + pause };
            }
        }
        if is_due(&mut agenda.janitor, JANITOR_PERIOD) {
            self.tidy().await?;
        }
        if is_due(&mut agenda.statistics, STATISTICS_PERIOD) {
            statistics::refresh(&self.pool).await?;
        }
        Ok(())
    }

    /// When to look again after so many jobs found room since the last look: when about half of the window will be
    /// empty, if the workers go on like this.
    fn refill(&self, since: Duration, dispatched: usize) -> Duration {
        let half = self.config.window / 2;
        let until_half = since.mul_f64(half as f64 / dispatched.max(1) as f64);
        until_half.clamp(SHORTEST_LOOK.min(self.config.poll / BUSY), self.config.poll / BUSY)
    }

    /// Redis may have been flushed, restarted empty or from an old snapshot, or a dispatcher died before it pushed.
    /// Whatever it was: what the ledger has had queued for a while and Redis does not know of is pending again. If
    /// it was on its way after all, it is delivered twice.
    /// Returns whether anything was lost.
    async fn take_back_lost(&self) -> Result<bool, DispatchError> {
        let mut any = false;
        for class in JobQueue::ALL {
            let mut lost = jobs::queued_for(&self.pool, class, LOSS_PERIOD, self.config.queued_lease).await?;
            if lost.is_empty() {
                continue;
            }
            let known = self.queues.known(class).await?;
            lost.retain(|id| !known.contains(id));
            if !lost.is_empty() {
                tracing::warn!(%class, jobs = lost.len(), "redis lost jobs; they are queued again");
                jobs::requeue(&self.pool, &lost).await?;
                any = true;
            }
        }
        Ok(any)
    }

    /// Fills the window of one class: commits first and pushes then, so that a crash in between leaves jobs
    /// that the sweeper finds, and never an id in Redis that the ledger does not know of.
    async fn dispatch(&self, class: JobQueue) -> Result<Fill, DispatchError> {
        let most = if class == JobQueue::Live { LIVE_WINDOW } else { WINDOW };
        let (window, depth) = (self.config.window.min(most), self.queues.depth(class).await?);
        let Dispatched { ids, full } =
            jobs::dispatch(&self.pool, class, window, depth, self.config.queued_lease).await?;
        if ids.is_empty() {
            return Ok(if full { Fill::Full } else { Fill::Idle });
        }
        let push = self.queues.push(class, &ids).await;
        // Of a push that failed some may be in Redis; those are delivered twice.
        let pushed = *push.as_ref().unwrap_or(&0);
        if let Some(surplus) = ids.get(pushed..).filter(|surplus| !surplus.is_empty()) {
            jobs::requeue(&self.pool, surplus).await?;
        }
        push?;
        tracing::debug!(%class, jobs = pushed, "dispatched");
        Ok(Fill::Dispatched(pushed))
    }

    async fn tidy(&self) -> Result<(), DispatchError> {
        // First: it reads off finished jobs when they were finished.
        erasures::settle(&self.pool).await?;
        while jobs::delete_completed(&self.pool, self.config.keep_done, JANITOR_BATCH).await? > 0 {}
        self.queues.trim().await?;
        Ok(())
    }
}

/// How a look at a class ended.
enum Fill {
    /// Nothing is due.
    Idle,
    /// The window has no room.
    Full,
    /// So many jobs were; more may wait: guilds with little left gave up their share of the window.
    Dispatched(usize),
}

/// A look at a class: when it is due, and when the last one was.
#[derive(Clone, Copy)]
struct Look {
    since: Instant,
    at: Instant,
}

/// What is to be done when.
struct Agenda {
    classes: [(JobQueue, Look); 3],
    sweep: Instant,
    losses: Instant,
    janitor: Instant,
    statistics: Instant,
}

impl Agenda {
    fn new(now: Instant) -> Self {
        Self {
            classes: JobQueue::ALL.map(|class| (class, Look { since: now, at: now })),
            sweep: now,
            losses: now + LOSS_PERIOD,
            janitor: now + JANITOR_PERIOD,
            statistics: now,
        }
    }

    /// When the next of it is due.
    fn next(&self) -> Instant {
        let chores = self.sweep.min(self.losses).min(self.janitor).min(self.statistics);
        self.classes.iter().map(|(_, look)| look.at).fold(chores, Instant::min)
    }

    /// Every class is looked at by then.
    fn look_by(&mut self, at: Instant) {
        self.classes.iter_mut().for_each(|(_, look)| look.at = look.at.min(at));
    }

    /// Nothing is done before.
    fn put_off(&mut self, until: Instant) {
        let Self { classes, sweep, losses, janitor, statistics } = self;
        let times =
            classes.iter_mut().map(|(_, look)| &mut look.at).chain([sweep, losses, janitor, statistics]);
        times.for_each(|at| *at = (*at).max(until));
    }
}

/// Whether it is time; if so, the next time is a period later.
fn is_due(at: &mut Instant, period: Duration) -> bool {
    let due = Instant::now() >= *at;
    if due {
        *at = Instant::now() + period;
    }
    due
}

/// With jitter, so that a fleet does not come back in step.
fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(PAUSES.0)
        .with_max_delay(PAUSES.1)
        .without_max_times()
        .with_jitter()
        .build()
}

/// Passes on what Postgres tells of new jobs. Polling is the net under this: it may fail at any time.
async fn listen(pool: PgPool, wake: mpsc::Sender<Duration>) {
    let mut outage = pauses();
    loop {
        if let Ok(mut listener) = PgListener::connect_with(&pool).await
            && listener.listen(jobs::NOTIFY_CHANNEL).await.is_ok()
        {
            while let Ok(told) = listener.recv().await {
                outage = pauses();
                let delay = told.payload().parse().map_or(Duration::ZERO, Duration::from_millis);
                // A full channel has a wake-up in it already.
                let _ = wake.try_send(delay);
            }
        }
        sleep(outage.next().unwrap_or(PAUSES.1)).await;
    }
}
