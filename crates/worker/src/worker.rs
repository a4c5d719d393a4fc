//! The worker itself: queues in, outcomes out.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use guildex_embed::Models;
use guildex_index::VectorIndex;
use guildex_producer::Ingest;
use guildex_queue::{Delivery, Queues};
use guildex_store::jobs;
use guildex_types::JobQueue;
use sqlx::PgPool;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::breaker::Breaker;
use crate::claims::{Claims, Held};
use crate::config::WorkerConfig;
use crate::finish::{self, Finisher, Pauses};
use crate::intake::{Arrived, Intake};
use crate::limits::Clock;
use crate::targets::Targets;
use crate::tasks::{Route, Tasks};
use crate::watchdog::{LastResort, Watch, Watchdog};

/// How long the last claims may take when a worker stops.
const CLOSING: Duration = Duration::from_secs(5);

/// Runs jobs. Any number of workers share the queues; each is one process or a part of one.
pub struct Worker {
    /// Its name in the ledger.
    pub name: String,
    /// Writes sessions for backfill jobs; its pool holds the truth.
    pub ingest: Ingest,
    /// Where deliveries come from.
    pub queues: Queues,
    /// The models at hand.
    pub models: Arc<Models>,
    /// The view of the truth that is kept in step.
    pub index: Arc<dyn VectorIndex>,
    /// What the names of its collections begin with.
    pub base: String,
    /// How to go about it.
    pub config: WorkerConfig,
    /// What is done when something hangs past its hard limit: [`exit_hung`](crate::exit_hung), or something that
    /// comes to the same.
    pub last_resort: LastResort,
}

impl Worker {
    /// Works until `stop`. Then it takes no more deliveries, ends what runs within the queues' grace, and gives
    /// the rest back, the attempts with it.
    pub async fn run(&self, stop: CancellationToken) {
        let pool = self.ingest.pool().clone();
        let claims = Arc::new(Claims::default());
        let slots = Arc::new(Semaphore::new(self.config.concurrency.total()));
        let finisher = finish::start(pool.clone(), claims.clone(), Pauses::of(&self.config));
        let tasks = self.tasks(&stop);
        let watchdog = self.watchdog(&pool, &claims, &tasks);

        // Models come and go where no job does, too.
        let targets = tasks.targets.clone();
        let watch = async move { targets.watch().await };

        let mut intakes = JoinSet::new();
        let consumers = join_all(JobQueue::ALL.map(|class| {
            let (arrived, arrivals) = mpsc::channel(self.config.batch_size.max(1));
            let batches = start_route(tasks.clone());
            let intake = self.intake(&claims, &slots, &finisher, &tasks);
            intakes.spawn(intake.run(arrivals, batches));
            self.consume(class, arrived, stop.clone())
        }));
        tokio::select! {
            _ = consumers => {}
            () = claims.keep_alive(&pool, self.config.lease) => {}
            () = watch => {}
        }
        // A claim that was under way at the stop is noted before what is left is given back. Where the database
        // is away nothing can be given back, either.
        let _ = timeout(CLOSING, intakes.join_all()).await;
        self.give_back(&pool, &claims).await;
        watchdog.stop();
    }

    fn watchdog(&self, pool: &PgPool, claims: &Arc<Claims>, tasks: &Tasks) -> Watchdog {
        Watchdog::start(Watch {
            underway: tasks.clock.underway().clone(),
            models: self.models.clone(),
            claims: claims.clone(),
            limits: self.config.limits,
            last_resort: self.last_resort.clone(),
            database: Watch::database(pool),
        })
    }

    fn intake(
        &self,
        claims: &Arc<Claims>,
        slots: &Arc<Semaphore>,
        finisher: &Finisher,
        tasks: &Tasks,
    ) -> Intake {
        Intake {
            pool: self.ingest.pool().clone(),
            worker: self.name.clone(),
            claims: claims.clone(),
            slots: slots.clone(),
            config: self.config.clone(),
            finisher: finisher.clone(),
            breaker: tasks.breaker.clone(),
            stop: tasks.stop.clone(),
        }
    }

    fn tasks(&self, stop: &CancellationToken) -> Tasks {
        let (ingest, index) = (self.ingest.clone(), self.index.clone());
        Tasks {
            targets: Arc::new(Targets::new(ingest.clone(), index.clone(), self.base.clone())),
            ingest,
            models: self.models.clone(),
            index,
            breaker: Breaker::new(stop.clone()),
            clock: Clock::new(self.config.limits),
            eligible: self.config.eligible,
            previews: self.config.previews,
            stop: stop.clone(),
        }
    }

    /// A delivery is acknowledged when its job's outcome is in the ledger.
    async fn consume(&self, class: JobQueue, arrived: mpsc::Sender<Arrived>, stop: CancellationToken) {
        let pool = self.ingest.pool().clone();
        let handler = move |delivery: Delivery| {
            let (arrived, pool) = (arrived.clone(), pool.clone());
            async move {
                match delivery {
                    Delivery::Job(id) => {
                        let (ended, acknowledged) = oneshot::channel();
                        if arrived.send((id, ended)).await.is_ok() {
                            let _ = acknowledged.await;
                        }
                    }
                    Delivery::Undecodable(raw) => bury(&pool, class, &raw).await,
                }
            }
        };
        self.queues.consume(class, self.config.concurrency.of(class), &self.name, handler, stop).await;
    }

    async fn give_back(&self, pool: &PgPool, claims: &Claims) {
        let left = claims.all();
        if left.is_empty() {
            return;
        }
        tracing::info!(jobs = left.len(), "giving unfinished jobs back");
        if let Err(error) = jobs::release(pool, &left, Duration::ZERO).await {
            tracing::warn!(%error, "could not give jobs back; they return when their lease is over");
        }
    }
}

fn start_route(tasks: Tasks) -> mpsc::Sender<Vec<Held>> {
    let (batches, mut claimed) = mpsc::channel::<Vec<Held>>(1);
    tokio::spawn(async move {
        let mut route = Route::new(tasks);
        while let Some(batch) = claimed.recv().await {
            route.take(batch).await;
        }
    });
    batches
}

async fn bury(pool: &PgPool, class: JobQueue, raw: &[u8]) {
    tracing::error!(%class, bytes = raw.len(), "redis delivered what is no job id; kept among the dead jobs");
    if let Err(error) = jobs::dead_letter(pool, class, &String::from_utf8_lossy(raw)).await {
        tracing::warn!(%error, "an undecodable delivery could not be kept");
    }
}
