//! The producers' side: connect, push, count.

use apalis::prelude::{Codec, TaskBuilder};
use apalis_redis::RedisTask;
use apalis_redis::queries::push_tasks;
use guildex_types::{JobId, JobQueue};
use redis::Client;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};

use crate::delivery::JobIdCodec;
use crate::{Config, Delivery, QueueError};

/// The most ids that wait in one queue. A fetch moves all due ids at once in Lua, whose stack ends at about
/// 8,000: beyond that every fetch fails, for good.
pub const WINDOW: usize = 1000;

/// Ids a push script takes: few round trips, and Redis is not held up for long by one.
const PUSH_CHUNK: usize = 250;

/// A handle on all queues; clones share one connection, which reconnects by itself.
#[derive(Clone)]
pub struct Queues {
    pub(crate) config: Config,
    pub(crate) redis: ConnectionManager,
}

impl Queues {
    /// Connects, and asks Redis whether it is there.
    ///
    /// # Errors
    /// If a setting cannot work, or Redis cannot be reached with it.
    pub async fn connect(config: &Config) -> Result<Self, QueueError> {
        let queues = Self::open(config)?;
        queues.ping().await?;
        Ok(queues)
    }

    /// A handle that connects when it is first used, for a process that may start before Redis does. Must be
    /// called within a Tokio runtime.
    ///
    /// # Errors
    /// If a setting cannot work.
    pub fn open(config: &Config) -> Result<Self, QueueError> {
        config.validate()?;
        let patience = ConnectionManagerConfig::new()
            // The default of 500 ms is too short for a script behind others.
            .set_response_timeout(Some(config.response_timeout))
            .set_connection_timeout(Some(config.response_timeout))
            // Who calls decides what a lost connection means; consumers keep trying by themselves.
            .set_number_of_retries(1);
        let redis = ConnectionManager::new_lazy_with_config(Client::open(config.url.as_str())?, patience)?;
        Ok(Self { config: config.clone(), redis })
    }

    /// Puts the first ids into the class's queue, as many as fit under its [`WINDOW`], and says how many that
    /// were. They need not be new: a job that is pushed twice is delivered twice.
    ///
    /// # Errors
    /// If Redis fails. Some of the ids may be in the queue then.
    pub async fn push(&self, class: JobQueue, ids: &[JobId]) -> Result<usize, QueueError> {
        let room = WINDOW.saturating_sub(self.depth(class).await?);
        let (taken, _) = ids.split_at(room.min(ids.len()));
        let queue = self.config.queue(class);
        for chunk in taken.chunks(PUSH_CHUNK) {
            let tasks: Vec<RedisTask> = chunk.iter().map(|id| task(*id)).collect();
            push_tasks(&mut self.redis.clone(), &queue, &tasks).await?;
        }
        Ok(taken.len())
    }

    /// How many ids of the class wait to be delivered: apalis' scheduled set and active list, counted at one
    /// moment. Ids that a consumer holds are not among them.
    ///
    /// # Errors
    /// If Redis fails.
    pub async fn depth(&self, class: JobQueue) -> Result<usize, QueueError> {
        let queue = self.config.queue(class);
        let (scheduled, active): (usize, usize) = redis::pipe()
            .atomic()
            .zcard(queue.scheduled_jobs_set())
            .llen(queue.active_jobs_list())
            .query_async(&mut self.redis.clone())
            .await?;
        Ok(scheduled + active)
    }

    /// Asks Redis whether it is there.
    ///
    /// # Errors
    /// If it is not.
    pub async fn ping(&self) -> Result<(), QueueError> {
        Ok(redis::cmd("PING").query_async(&mut self.redis.clone()).await?)
    }
}

fn task(id: JobId) -> RedisTask {
    let Ok(payload) = JobIdCodec.encode(&Delivery::Job(id));
    // apalis names the task with a fresh ULID: under the job's own id a second push of an id whose first task
    // is not trimmed yet would be dropped without a word.
    TaskBuilder::new(payload).build()
}
