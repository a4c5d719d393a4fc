//! The dispatcher: keeps a bounded window of ready jobs in Redis, and the ledger in order.
//!
//! The backlog waits in Postgres, so Redis stays small whatever is asked for. What Redis loses, all or some of
//! it, is missed within seconds and pushed again. Any number of dispatchers may run; one at a time works, under an
//! advisory lock.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use guildex_queue::{QueueError, Queues, WINDOW};
use guildex_store::jobs::Dispatched;
use guildex_store::{StoreError, erasures, jobs};
use guildex_types::JobClass;
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
}

impl Default for DispatcherConfig {
    fn default() -> Self {
        Self {
            window: 256,
            poll: Duration::from_secs(1),
            queued_lease: Duration::from_secs(120),
            keep_done: Duration::from_secs(24 * 3600),
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
/// How often finished jobs are trimmed, in the ledger and in Redis, and receipts of forgetting are completed.
const JANITOR_PERIOD: Duration = Duration::from_secs(30);
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
        let mut next = Instant::now();
        let mut chores = Chores { losses: next + LOSS_PERIOD, janitor: next + JANITOR_PERIOD };
        // The pauses of an outage, while there is one.
        let mut outage = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                // Jobs that come meanwhile are no reason to try more often.
                Some(delay) = woken.recv() => {
                    if outage.is_none() {
                        next = next.min(Instant::now() + delay);
                    }
                    continue;
                }
                () = sleep_until(next) => {}
            }
            next = Instant::now()
                + match self.round(&mut chores).await {
                    Ok(busy) => {
                        if outage.take().is_some() {
                            tracing::info!("dispatching works again");
                        }
                        if busy { self.config.poll / 20 } else { self.config.poll }
                    }
                    Err(error) => {
                        if outage.is_none() {
                            tracing::warn!(%error, "dispatching fails; it goes on trying");
                        }
                        outage.get_or_insert_with(pauses).next().unwrap_or(PAUSES.1)
                    }
                };
        }
        listening.abort();
    }

    /// Looks after every class; returns whether there may be more to do soon.
    async fn round(&self, chores: &mut Chores) -> Result<bool, DispatchError> {
        let swept = jobs::sweep(&self.pool).await?;
        if swept != jobs::Swept::default() {
            tracing::warn!(returned = swept.returned, died = swept.died, "jobs outlived their lease");
        }
        if is_due(&mut chores.losses, LOSS_PERIOD) {
            self.take_back_lost().await?;
        }
        let mut busy = false;
        for class in JobClass::ALL {
            busy |= self.dispatch(class).await?;
        }
        if is_due(&mut chores.janitor, JANITOR_PERIOD) {
            self.tidy().await?;
        }
        Ok(busy)
    }

    /// Redis may have been flushed, restarted empty or from an old snapshot, or a dispatcher died before it pushed.
    /// Whatever it was: what the ledger has had queued for a while and Redis does not know of is pending again. If
    /// it was on its way after all, it is delivered twice.
    async fn take_back_lost(&self) -> Result<(), DispatchError> {
        for class in JobClass::ALL {
            let mut lost = jobs::queued_for(&self.pool, class, LOSS_PERIOD, self.config.queued_lease).await?;
            if lost.is_empty() {
                continue;
            }
            let known = self.queues.known(class).await?;
            lost.retain(|id| !known.contains(id));
            if !lost.is_empty() {
                tracing::warn!(%class, jobs = lost.len(), "redis lost jobs; they are queued again");
                jobs::take_back(&self.pool, &lost).await?;
            }
        }
        Ok(())
    }

    /// Fills the window of one class: commits first and pushes then, so that a crash in between leaves jobs
    /// that the sweeper finds, and never an id in Redis that the ledger does not know of. Returns whether more
    /// jobs may wait: the window is full, or guilds with little left gave up their share of it.
    async fn dispatch(&self, class: JobClass) -> Result<bool, DispatchError> {
        let most = if class == JobClass::Live { LIVE_WINDOW } else { WINDOW };
        let (window, depth) = (self.config.window.min(most), self.queues.depth(class).await?);
        let Dispatched { ids, full } =
            jobs::dispatch(&self.pool, class, window, depth, self.config.queued_lease).await?;
        if ids.is_empty() {
            return Ok(full);
        }
        let push = self.queues.push(class, &ids).await;
        // Of a push that failed some may be in Redis; those are delivered twice.
        let pushed = *push.as_ref().unwrap_or(&0);
        if let Some(surplus) = ids.get(pushed..).filter(|surplus| !surplus.is_empty()) {
            jobs::take_back(&self.pool, surplus).await?;
        }
        push?;
        tracing::debug!(%class, jobs = pushed, "dispatched");
        Ok(true)
    }

    async fn tidy(&self) -> Result<(), DispatchError> {
        // First: it reads off finished jobs when they were finished.
        erasures::settle(&self.pool).await?;
        while jobs::forget_done(&self.pool, self.config.keep_done, JANITOR_BATCH).await? > 0 {}
        self.queues.trim().await?;
        Ok(())
    }
}

/// When what is not done in every round is to be done next.
struct Chores {
    losses: Instant,
    janitor: Instant,
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
