//! The dispatcher: keeps a bounded window of ready jobs in Redis, and the ledger in order.
//!
//! The backlog waits in Postgres, so Redis stays small whatever is asked for, and a Redis that lost everything
//! costs one lease. Any number of dispatchers may run; one at a time works, under an advisory lock.

use std::time::Duration;

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
    /// Jobs of one class that are queued at a time, at most [`WINDOW`].
    pub window: usize,
    /// How often it looks without being woken.
    pub poll: Duration,
    /// How long a job may wait in Redis before it is taken for lost.
    pub queued_lease: Duration,
    /// How long done jobs are kept.
    pub keep_done: Duration,
}

impl Default for DispatcherConfig {
    fn default() -> Self {
        Self {
            window: WINDOW,
            poll: Duration::from_secs(1),
            queued_lease: Duration::from_secs(120),
            keep_done: Duration::from_secs(24 * 3600),
        }
    }
}

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
        let mut janitor = Instant::now() + JANITOR_PERIOD;
        let mut failing = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(delay) = woken.recv() => {
                    next = next.min(Instant::now() + delay);
                    continue;
                }
                () = sleep_until(next) => {}
            }
            let round = self.round(&mut janitor).await;
            match &round {
                Err(error) if !failing => tracing::warn!(%error, "dispatching fails; it goes on trying"),
                Ok(_) if failing => tracing::info!("dispatching works again"),
                _ => {}
            }
            failing = round.is_err();
            let pause = if round.unwrap_or(false) { self.config.poll / 20 } else { self.config.poll };
            next = Instant::now() + pause;
        }
        listening.abort();
    }

    /// Looks after every class; returns whether there may be more to do soon.
    async fn round(&self, janitor: &mut Instant) -> Result<bool, DispatchError> {
        let swept = jobs::sweep(&self.pool).await?;
        if swept != jobs::Swept::default() {
            tracing::warn!(returned = swept.returned, died = swept.died, "jobs outlived their lease");
        }
        let mut busy = false;
        for class in JobClass::ALL {
            busy |= self.dispatch(class).await?;
        }
        if Instant::now() >= *janitor {
            *janitor = Instant::now() + JANITOR_PERIOD;
            self.tidy().await?;
        }
        Ok(busy)
    }

    /// Fills the window of one class: commits first and pushes then, so that a crash in between leaves jobs
    /// that the sweeper finds, and never an id in Redis that the ledger does not know of. Returns whether more
    /// jobs may wait: the window is full, or guilds with little left gave up their share of it.
    async fn dispatch(&self, class: JobClass) -> Result<bool, DispatchError> {
        let (window, depth) = (self.config.window.min(WINDOW), self.queues.depth(class).await?);
        let Dispatched { ids, full } =
            jobs::dispatch(&self.pool, class, window, depth, self.config.queued_lease).await?;
        if ids.is_empty() {
            return Ok(full);
        }
        let pushed = self.queues.push(class, &ids).await?;
        if let Some(surplus) = ids.get(pushed..).filter(|surplus| !surplus.is_empty()) {
            jobs::take_back(&self.pool, surplus).await?;
        }
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

/// Passes on what Postgres tells of new jobs. Polling is the net under this: it may fail at any time.
async fn listen(pool: PgPool, wake: mpsc::Sender<Duration>) {
    loop {
        if let Ok(mut listener) = PgListener::connect_with(&pool).await
            && listener.listen(jobs::NOTIFY_CHANNEL).await.is_ok()
        {
            while let Ok(told) = listener.recv().await {
                let delay = told.payload().parse().map_or(Duration::ZERO, Duration::from_millis);
                // A full channel has a wake-up in it already.
                let _ = wake.try_send(delay);
            }
        }
        sleep(Duration::from_secs(1)).await;
    }
}
