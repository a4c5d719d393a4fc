//! The workers' side: one apalis worker, kept alive until it is told to stop.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use apalis::layers::limit::GlobalConcurrencyLimitLayer;
use apalis::prelude::{
    BackendExt, Event, Monitor, ParallelizeExt, PollSnapshot, PollStrategy, WorkerBuilder,
};
use apalis_redis::RedisStorage;
use futures::FutureExt;
use guildex_types::JobQueue;
use redis::AsyncCommands;
use tokio::time::{Interval, MissedTickBehavior, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};
use uuid::Uuid;

use crate::delivery::JobIdCodec;
use crate::outage::Outage;
use crate::{Delivery, QueueError, Queues};

/// How long a stopping consumer waits for the word that its last deliveries are done to reach Redis. Should it not,
/// they come again, and find nothing to claim.
const ACKNOWLEDGING: Duration = Duration::from_millis(100);

impl Queues {
    /// Hands every id of the class's queue to `handler`, up to `concurrency` (one at least) at a time, until
    /// `stop` is cancelled. Then it takes no more, waits for the running handlers up to the
    /// [grace](crate::Config::stop_grace) and returns.
    ///
    /// It lives through outages of Redis, from the start on: handlers go on, and it keeps trying. What a
    /// handler was given counts as delivered when it returns, and also when it panics. What was not delivered
    /// when the consumer died comes again to another one. Dropping the future drops the running handlers.
    ///
    /// `name` tells workers apart in Redis; host, process and a random part are added to it.
    pub async fn consume<H, F>(
        &self,
        class: JobQueue,
        concurrency: usize,
        name: &str,
        handler: H,
        stop: CancellationToken,
    ) where
        H: Fn(Delivery) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let handlers = Handlers::new(handler);
        let _abandon = handlers.abandon.clone().drop_guard();
        let name = unique(name);
        let monitor = self.monitor(class, concurrency, name.clone(), handlers.clone(), stop.clone());
        let work = async {
            // Its errors were reported as they came; it ends when it is told to.
            let _ = monitor.run_with_signal(stop.cancelled().map(Ok)).await;
            handlers.finished().await;
            // Without it others wait for the silence to be long enough.
            let _ = self.sign_off(class, &name).await;
        };
        // apalis does not always notice that its last task has ended while it stops.
        let handled = async {
            stop.cancelled().await;
            handlers.finished().await;
            sleep(ACKNOWLEDGING).await;
        };
        let grace_over = async {
            stop.cancelled().await;
            sleep(self.config.stop_grace).await;
        };
        tokio::select! {
            () = work => (),
            () = handled => (),
            () = grace_over => warn!(%class, left = handlers.running.len(), "stopping before all is done"),
        }
    }

    fn monitor<H, F>(
        &self,
        class: JobQueue,
        concurrency: usize,
        name: String,
        handlers: Handlers<H>,
        stop: CancellationToken,
    ) -> Monitor
    where
        H: Fn(Delivery) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let queues = self.clone();
        // One for all lives of the worker: handlers of an earlier one may still run.
        let limit = GlobalConcurrencyLimitLayer::new(concurrency.max(1));
        let outage = Arc::new(Outage::new(class));
        let (ended, alive) = (outage.clone(), outage.clone());
        Monitor::new()
            .register(move |life| {
                let (handlers, outage) = (handlers.clone(), outage.clone());
                let (redis, queue) = (queues.redis.clone(), queues.config.queue(class));
                // Redis refuses a name that it has seen of late.
                let name = format!("{name}-{life}");
                let backend = RedisStorage::<Delivery>::new(redis)
                    .with_config(queue)
                    .with_codec(JobIdCodec)
                    .poll_with_strategy(EveryTick::new(queues.config.poll_interval))
                    .before_start(move |_| sleep(outage.pause()).map(Ok));
                WorkerBuilder::new(name.as_str())
                    .backend(backend)
                    // A handler that blocks would hold up the heartbeats.
                    .parallelize(tokio::spawn)
                    .layer(limit.clone())
                    .build(move |delivery| handlers.clone().handle(delivery))
            })
            // The worker ends at its first error, and an outage is no reason to end.
            .should_restart(move |_, error| {
                ended.begins(error);
                !stop.is_cancelled()
            })
            .on_event(move |_, event| {
                if matches!(event, Event::HeartBeat) {
                    alive.ends();
                }
            })
    }

    /// Makes the registrations of all lives of a worker expire. What it fetched in its last moment then goes to
    /// others with their next heartbeat. apalis means to do so when it closes, but names the wrong member.
    async fn sign_off(&self, class: JobQueue, name: &str) -> Result<(), QueueError> {
        let mut redis = self.redis.clone();
        let workers = self.config.queue(class).workers_set();
        let registered: Vec<String> = redis.zrange(&workers, 0, -1).await?;
        let mut pipe = redis::pipe();
        for life in registered.iter().filter(|worker| worker.starts_with(name)) {
            pipe.cmd("ZADD").arg(&workers).arg("XX").arg(0).arg(life);
            pipe.del(format!("{workers}:metadata:{life}"));
        }
        Ok(pipe.exec_async(&mut redis).await?)
    }
}

/// `name-host-process-random`: Redis refuses a worker whose name it has seen of late.
fn unique(name: &str) -> String {
    let host = whoami::hostname().unwrap_or_else(|_| "host".to_owned());
    format!("{name}-{host}-{}-{:08x}", std::process::id(), Uuid::new_v4().as_fields().0)
}

/// The handler with those of its calls that run, over all lives of the worker.
struct Handlers<H> {
    handler: Arc<H>,
    running: TaskTracker,
    abandon: CancellationToken,
}

impl<H> Clone for Handlers<H> {
    fn clone(&self) -> Self {
        Self { handler: self.handler.clone(), running: self.running.clone(), abandon: self.abandon.clone() }
    }
}

impl<H> Handlers<H> {
    fn new(handler: H) -> Self {
        Self { handler: Arc::new(handler), running: TaskTracker::new(), abandon: CancellationToken::new() }
    }

    /// Never fails towards apalis, whose retries ignore their limits.
    fn handle<F>(self, delivery: Delivery) -> impl Future<Output = ()> + Send
    where
        H: Fn(Delivery) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let Self { handler, running, abandon } = self;
        running.track_future(async move {
            let job = delivery.job();
            let call = AssertUnwindSafe(async move { handler(delivery).await }).catch_unwind();
            if let Some(Err(_)) = abandon.run_until_cancelled(call).await {
                // Without the panic's text, which may quote a message.
                error!(job = job.map(tracing::field::display), "a handler panicked");
            }
        })
    }

    async fn finished(&self) {
        self.running.close();
        self.running.wait().await;
    }
}

/// Wakes the worker at every tick. apalis' own interval strategy can lose its waker, as a timer that has fired
/// and was started again is not polled again.
struct EveryTick(Interval);

impl EveryTick {
    fn new(period: Duration) -> Self {
        let mut interval = tokio::time::interval(period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self(interval)
    }
}

impl PollStrategy for EveryTick {
    fn poll_drive(&mut self, cx: &mut Context<'_>, _: &PollSnapshot) -> Poll<Option<()>> {
        // Until it is pending, and so has the waker.
        while self.0.poll_tick(cx).is_ready() {}
        Poll::Pending
    }
}
