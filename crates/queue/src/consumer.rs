//! Consuming job ids: one apalis worker, restarted after errors until it is stopped.

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
use crate::reconnect::Reconnect;
use crate::{Delivery, QueueError, Queues};

/// Time for the last acknowledgements to reach Redis when a consumer stops. Deliveries that are not acknowledged come again,
/// and find nothing to claim.
const ACK_TIMEOUT: Duration = Duration::from_millis(100);

/// Consumer of a queue.
#[derive(Debug, Clone, Copy)]
pub struct Consumer<'a> {
    /// Queue.
    pub queue: JobQueue,
    /// Name of the worker in Redis; host name, process id and a random part are appended.
    pub name: &'a str,
    /// Handlers that run at the same time, at least one.
    pub concurrency: usize,
    /// Time that running handlers get to finish when the consumer stops.
    pub shutdown_timeout: Duration,
}

impl Queues {
    /// Passes every id in a queue to `handler` until `stop` is cancelled. Then it takes no more ids, waits for running
    /// handlers up to the shutdown timeout, and returns.
    ///
    /// Survives outages of Redis, also at the start: handlers continue, and the consumer reconnects. A delivery is
    /// acknowledged when its handler returns or panics. If the consumer dies before that, the id is delivered to another
    /// one. Dropping the future drops the running handlers.
    pub async fn consume<H, F>(&self, consumer: Consumer<'_>, handler: H, stop: CancellationToken)
    where
        H: Fn(Delivery) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let Consumer { queue, name, concurrency, shutdown_timeout } = consumer;
        let handlers = Handlers::new(handler);
        let _abandon = handlers.abandon.clone().drop_guard();
        let name = unique(name);
        let monitor = self.monitor(queue, concurrency, name.clone(), handlers.clone(), stop.clone());
        let work = async {
            // Errors were logged as they occurred.
            let _ = monitor.run_with_signal(stop.cancelled().map(Ok)).await;
            handlers.finished().await;
            // Otherwise other consumers wait until heartbeats are missed.
            let _ = self.deregister(queue, &name).await;
        };
        // apalis sometimes misses the end of its last task while it stops.
        let handled = async {
            stop.cancelled().await;
            handlers.finished().await;
            sleep(ACK_TIMEOUT).await;
        };
        let timed_out = async {
            stop.cancelled().await;
            sleep(shutdown_timeout).await;
        };
        tokio::select! {
            () = work => (),
            () = handled => (),
            () = timed_out => warn!(%queue, running = handlers.running.len(), "shutdown timeout exceeded; dropping handlers"),
        }
    }

    fn monitor<H, F>(
        &self,
        queue: JobQueue,
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
        // One limit for all restarts of the worker: handlers of an earlier one may still run.
        let limit = GlobalConcurrencyLimitLayer::new(concurrency.max(1));
        let reconnect = Arc::new(Reconnect::default());
        let (failed, alive) = (reconnect.clone(), reconnect.clone());
        Monitor::new()
            .register(move |restarts| {
                let (handlers, reconnect) = (handlers.clone(), reconnect.clone());
                let (redis, keys) = (queues.redis.clone(), queues.config.redis_queue(queue));
                // apalis rejects a name that was registered recently.
                let name = format!("{name}-{restarts}");
                let backend = RedisStorage::<Delivery>::new(redis)
                    .with_config(keys)
                    .with_codec(JobIdCodec)
                    .poll_with_strategy(EveryTick::new(queues.config.poll_interval))
                    .before_start(move |_| sleep(reconnect.delay()).map(Ok));
                WorkerBuilder::new(name.as_str())
                    .backend(backend)
                    // A blocking handler would delay the heartbeats.
                    .parallelize(tokio::spawn)
                    .layer(limit.clone())
                    .build(move |delivery| handlers.clone().handle(delivery))
            })
            // The worker ends at its first error; an outage must not end the consumer.
            .should_restart(move |_, error| {
                failed.failed(error);
                !stop.is_cancelled()
            })
            .on_event(move |_, event| {
                if matches!(event, Event::HeartBeat) {
                    alive.connected();
                }
            })
    }

    /// Expires the registrations of all restarts of a worker, so that ids it fetched last go to others with their next
    /// heartbeat. apalis tries to do so when it closes, but names the wrong member.
    async fn deregister(&self, queue: JobQueue, name: &str) -> Result<(), QueueError> {
        let mut redis = self.redis.clone();
        let workers = self.config.redis_queue(queue).workers_set();
        let registered: Vec<String> = redis.zrange(&workers, 0, -1).await?;
        let mut pipe = redis::pipe();
        for registration in registered.iter().filter(|worker| worker.starts_with(name)) {
            pipe.cmd("ZADD").arg(&workers).arg("XX").arg(0).arg(registration);
            pipe.del(format!("{workers}:metadata:{registration}"));
        }
        Ok(pipe.exec_async(&mut redis).await?)
    }
}

/// `name-host-process-random`: apalis rejects a name that was registered recently.
fn unique(name: &str) -> String {
    let host = whoami::hostname().unwrap_or_else(|_| "host".to_owned());
    format!("{name}-{host}-{}-{:08x}", std::process::id(), Uuid::new_v4().as_fields().0)
}

/// The handler and its running calls, over all restarts of the worker.
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

    /// Never fails: apalis' retries ignore their limits.
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
                // Without the panic's text, which may contain a message.
                error!(job.id = job.map(tracing::field::display), "handler panicked");
            }
        })
    }

    async fn finished(&self) {
        self.running.close();
        self.running.wait().await;
    }
}

/// Wakes the worker at every tick. apalis' own interval strategy can lose its waker: a timer that has fired and was reset is
/// not polled again.
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
        // A pending tick has the waker.
        while self.0.poll_tick(cx).is_ready() {}
        Poll::Pending
    }
}
