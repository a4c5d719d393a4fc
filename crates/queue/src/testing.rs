//! Namespaces of their own for tests with a real Redis.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Duration;

use futures::FutureExt;
use guildex_types::JobQueue;
use redis::aio::ConnectionManager;
use uuid::Uuid;

use crate::{Config, QueueError, Queues};

/// Settings for the Redis at `REDIS_URL`, with a prefix that nobody else has and redelivery in two seconds.
///
/// # Panics
/// If `REDIS_URL` is unset.
#[allow(clippy::expect_used, reason = "for tests only")]
pub fn config() -> Config {
    Config {
        url: std::env::var("REDIS_URL").expect("REDIS_URL is unset: run scripts/test"),
        prefix: format!("test-{}", Uuid::new_v4().simple()),
        poll_interval: Duration::from_millis(10),
        heartbeat_interval: Duration::from_millis(500),
        missed_heartbeats: 4,
        ..Config::default()
    }
}

/// Runs a test with queues of its own, and takes their keys away afterwards, whatever came of it.
///
/// # Panics
/// If Redis is not there, or if the test does.
#[allow(clippy::expect_used, reason = "for tests only")]
pub async fn with_queues<F: Future<Output = ()>>(test: impl FnOnce(Queues) -> F) {
    let queues = Queues::connect(&config()).await.expect("Redis at REDIS_URL");
    let outcome = AssertUnwindSafe(test(queues.clone())).catch_unwind().await;
    purge(&queues).await.expect("Redis at REDIS_URL");
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

/// A connection beside the queues' own, to look at Redis or to spoil it.
pub fn connection(queues: &Queues) -> ConnectionManager {
    queues.redis.clone()
}

/// The names of the keys of a queue, as apalis has them.
pub fn layout(queues: &Queues, class: JobQueue) -> apalis_redis::Config {
    queues.config.queue(class)
}

/// The names of all keys under the queues' prefix.
///
/// # Errors
/// If Redis fails.
pub async fn keys(queues: &Queues) -> Result<Vec<String>, QueueError> {
    let pattern = format!("{}:*", queues.config.prefix);
    Ok(redis::cmd("KEYS").arg(pattern).query_async(&mut queues.redis.clone()).await?)
}

/// Takes away every key under the queues' prefix, waiting jobs and all.
///
/// # Errors
/// If Redis fails.
pub async fn purge(queues: &Queues) -> Result<(), QueueError> {
    let mut pipe = redis::pipe();
    for class in JobQueue::ALL {
        // The one key that apalis shares between all queues of a server.
        pipe.zrem("core:apalis:queues:list", queues.config.queue(class).workers_set());
    }
    for key in keys(queues).await? {
        pipe.del(key);
    }
    Ok(pipe.exec_async(&mut queues.redis.clone()).await?)
}
