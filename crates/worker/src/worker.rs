//! The worker: connects queues, claims, jobs and results.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use guildex_embed::ModelRegistry;
use guildex_index::VectorIndex;
use guildex_producer::Ingest;
use guildex_queue::{Consumer, Delivery, Queues};
use guildex_store::jobs;
use guildex_types::{JobQueue, RetryPolicy};
use sqlx::PgPool;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::circuit_breaker::CircuitBreaker;
use crate::claimer::{Claimer, DeliveredId};
use crate::completer::{Completer, RunAgain};
use crate::config::WorkerConfig;
use crate::job_context::JobContext;
use crate::job_router::JobRouter;
use crate::lease_keeper::LeaseKeeper;
use crate::model_collections::ModelCollections;
use crate::time_limits::TimeLimiter;
use crate::watchdog::{HangHandler, Watch, Watchdog};

/// Time for the last claims when a worker stops.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs jobs. Any number of workers share the queues, in one process or in several.
pub struct Worker {
    /// Name, recorded with the jobs that it claims.
    pub name: String,
    /// Writes sessions for backfills, and holds the connection pool.
    pub ingest: Ingest,
    /// Queues that deliver jobs.
    pub queues: Queues,
    /// Embedding models.
    pub models: Arc<ModelRegistry>,
    /// Index to update.
    pub index: Arc<dyn VectorIndex>,
    /// Prefix of the index's collection names.
    pub collection_prefix: String,
    /// Previews: points carry the beginning of their text, for other readers of the collection.
    pub previews: bool,
    /// Delays before failed jobs run again.
    pub retry: RetryPolicy,
    /// Configuration.
    pub config: WorkerConfig,
    /// Called when an operation exceeds its hard time limit: [`exit_hung`](crate::exit_hung), or a replacement that does
    /// not return either.
    pub on_hang: HangHandler,
}

impl Worker {
    /// Runs jobs until `stop` is cancelled. Then it takes no more deliveries, finishes running jobs within the
    /// shutdown timeout, and releases the rest without consuming their attempts.
    pub async fn run(&self, stop: CancellationToken) {
        let pool = self.ingest.pool().clone();
        let leases = Arc::new(LeaseKeeper::new(pool.clone(), self.config.lease));
        let slots = Arc::new(Semaphore::new(self.config.slots()));
        let run_again = RunAgain { retry: self.retry, recheck_delay: self.config.recheck_delay() };
        let completer = Completer::start(pool.clone(), leases.clone(), run_again);
        let context = self.context(&stop);
        let watchdog = self.watchdog(&pool, &leases, &context);
        let collections = context.collections.clone();

        let mut claimers = JoinSet::new();
        let consumers = join_all(JobQueue::ALL.map(|queue| {
            let (delivered, deliveries) = mpsc::channel(self.config.batch_size.max(1));
            let batches = JobRouter::start(context.clone(), queue);
            let claimer = self.claimer(&leases, &slots, &completer, &context);
            claimers.spawn(claimer.run(deliveries, batches));
            self.consume(queue, delivered, stop.clone())
        }));
        tokio::select! {
            _ = consumers => {}
            () = leases.renew_loop() => {}
            () = collections.watch() => {}
        }
        // Claims in progress at the stop must be known before the rest is released. If the database is unavailable,
        // nothing can be released either.
        let _ = timeout(CLOSE_TIMEOUT, claimers.join_all()).await;
        leases.release_all().await;
        watchdog.stop();
    }

    fn context(&self, stop: &CancellationToken) -> JobContext {
        let (ingest, index) = (self.ingest.clone(), self.index.clone());
        let collections =
            ModelCollections::new(ingest.clone(), index.clone(), self.collection_prefix.clone());
        JobContext {
            collections: Arc::new(collections),
            ingest,
            models: self.models.clone(),
            index,
            breaker: CircuitBreaker::new(stop.clone()),
            limiter: TimeLimiter::new(self.config.time_limits),
            eligible: self.ingest.config().sessions.eligibility(),
            previews: self.previews,
            stop: stop.clone(),
        }
    }

    fn watchdog(&self, pool: &PgPool, leases: &Arc<LeaseKeeper>, context: &JobContext) -> Watchdog {
        Watchdog::start(Watch {
            in_flight: context.limiter.in_flight().clone(),
            models: self.models.clone(),
            leases: leases.clone(),
            limits: self.config.time_limits,
            on_hang: self.on_hang.clone(),
            database: Watch::database(pool),
        })
    }

    fn claimer(
        &self,
        leases: &Arc<LeaseKeeper>,
        slots: &Arc<Semaphore>,
        completer: &Completer,
        context: &JobContext,
    ) -> Claimer {
        Claimer {
            pool: self.ingest.pool().clone(),
            worker: self.name.clone(),
            leases: leases.clone(),
            slots: slots.clone(),
            retry: self.retry,
            config: self.config.clone(),
            completer: completer.clone(),
            breaker: context.breaker.clone(),
            stop: context.stop.clone(),
        }
    }

    /// Passes deliveries on. Each is acknowledged when the result of its job is written.
    async fn consume(&self, queue: JobQueue, delivered: mpsc::Sender<DeliveredId>, stop: CancellationToken) {
        let pool = self.ingest.pool().clone();
        let handler = move |delivery: Delivery| {
            let (delivered, pool) = (delivered.clone(), pool.clone());
            async move {
                match delivery {
                    Delivery::Job(id) => {
                        let (ack, acknowledged) = oneshot::channel();
                        if delivered.send(DeliveredId { id, ack }).await.is_ok() {
                            let _ = acknowledged.await;
                        }
                    }
                    Delivery::Undecodable(raw) => dead_letter(&pool, queue, &raw).await,
                }
            }
        };
        let consumer = Consumer {
            queue,
            name: &self.name,
            concurrency: self.config.concurrency.get(queue),
            shutdown_timeout: self.config.shutdown_timeout,
        };
        self.queues.consume(consumer, handler, stop).await;
    }
}

async fn dead_letter(pool: &PgPool, queue: JobQueue, raw: &[u8]) {
    tracing::error!(%queue, bytes = raw.len(), "undecodable entry in Redis moved to dead-letter state");
    if let Err(error) = jobs::dead_letter(pool, queue, &String::from_utf8_lossy(raw)).await {
        tracing::warn!(%queue, %error, "failed to store an undecodable entry");
    }
}
