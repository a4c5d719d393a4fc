//! Shared by the tests: a consumer that reports its deliveries, and a private Redis server.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::HashSet;
use std::time::Duration;

use guildex_queue::{Config, Delivery, Queues};
use guildex_types::{JobId, JobQueue};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use guildex_test_support::TEST_TIMEOUT as TIMEOUT;
pub use guildex_test_support::servers::Redis;

pub fn new_ids(count: usize) -> Vec<JobId> {
    std::iter::repeat_with(JobId::new).take(count).collect()
}

/// A consumer with its deliveries.
pub struct Consumer {
    deliveries: UnboundedReceiver<Delivery>,
    pub stop: CancellationToken,
    pub task: JoinHandle<()>,
}

impl Consumer {
    /// Acknowledges deliveries at once.
    pub fn start(queues: &Queues, queue: JobQueue, concurrency: usize) -> Self {
        Self::start_with(queues, queue, concurrency, |_| async {})
    }

    /// Reports deliveries and passes them to `handler`.
    pub fn start_with<F>(
        queues: &Queues,
        queue: JobQueue,
        concurrency: usize,
        handler: impl Fn(Delivery) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let shutdown_timeout = Duration::from_secs(30);
        let consumer = guildex_queue::Consumer { queue, name: "test", concurrency, shutdown_timeout };
        Self::start_consumer(queues, consumer, handler)
    }

    /// Starts a consumer with other settings.
    pub fn start_consumer<F>(
        queues: &Queues,
        consumer: guildex_queue::Consumer<'static>,
        handler: impl Fn(Delivery) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (sender, deliveries) = unbounded_channel();
        let stop = CancellationToken::new();
        let (queues, until) = (queues.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let handler = move |delivery: Delivery| {
                // Fails once the test has dropped the consumer.
                let _ = sender.send(delivery.clone());
                handler(delivery)
            };
            queues.consume(consumer, handler, until).await;
        });
        Self { deliveries, stop, task }
    }

    pub async fn next(&mut self) -> Delivery {
        timeout(TIMEOUT, self.deliveries.recv()).await.expect("a delivery").expect("a running consumer")
    }

    pub async fn next_job(&mut self) -> JobId {
        self.next().await.job().expect("a job's id")
    }

    pub async fn next_jobs(&mut self, count: usize) -> Vec<JobId> {
        let mut jobs = Vec::new();
        while jobs.len() < count {
            jobs.push(self.next_job().await);
        }
        jobs
    }

    /// Shuts down gracefully. Returns deliveries that were not awaited.
    pub async fn stop(mut self) -> Vec<Delivery> {
        self.stop.cancel();
        timeout(TIMEOUT, self.task).await.expect("a consumer that stops").expect("a consumer that returns");
        std::iter::from_fn(|| self.deliveries.try_recv().ok()).collect()
    }

    /// Aborts the consumer.
    pub async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

pub fn assert_same(got: &[JobId], expected: &[JobId]) {
    assert_eq!(got.len(), expected.len(), "some ids are missing or duplicate");
    let (got, expected): (HashSet<_>, HashSet<_>) = (got.iter().collect(), expected.iter().collect());
    assert_eq!(got, expected);
}

/// Queue settings for a server of the test's own.
pub fn config_of(redis: &Redis) -> Config {
    Config {
        url: redis.url(),
        poll_interval: Duration::from_millis(10),
        heartbeat_interval: Duration::from_millis(500),
        missed_heartbeats: 4,
        ..Config::default()
    }
}

/// Pushes as the scheduler does: until it succeeds.
pub async fn push_until_ok(queues: &Queues, queue: JobQueue, ids: &[JobId]) {
    timeout(TIMEOUT, async {
        while queues.push(queue, ids).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("a successful push");
}
