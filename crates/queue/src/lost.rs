//! Ids that Redis still has. It may lose some or all of them at any time without notice; the scheduler compares what it
//! pushed with what is left.

use std::collections::HashSet;

use apalis::prelude::Codec;
use guildex_types::{JobId, JobQueue};
use redis::AsyncCommands;

use crate::delivery::JobIdCodec;
use crate::{QueueError, Queues};

/// Payloads read in one round trip.
const CHUNK: usize = 500;

impl Queues {
    /// Ids in a queue that wait for delivery or are held by a consumer: at most a [`WINDOW`](crate::WINDOW), and what all
    /// consumers may hold.
    ///
    /// May miss an id that is just being moved from a dead consumer.
    ///
    /// # Errors
    /// If Redis fails.
    pub async fn known(&self, queue: JobQueue) -> Result<HashSet<JobId>, QueueError> {
        let (keys, mut redis) = (self.config.redis_queue(queue), self.redis.clone());
        let consumers: Vec<String> = redis.zrange(keys.workers_set(), 0, -1).await?;
        let mut lists = redis::pipe();
        lists.atomic();
        lists.zrange(keys.scheduled_jobs_set(), 0, -1);
        lists.lrange(keys.active_jobs_list(), 0, -1);
        for consumer in consumers {
            lists.smembers(format!("{}:{consumer}", keys.inflight_jobs_set()));
        }
        let tasks: Vec<Vec<String>> = lists.query_async(&mut redis).await?;
        let mut known = HashSet::new();
        for chunk in tasks.concat().chunks(CHUNK) {
            let mut payloads = redis::cmd("HMGET");
            payloads.arg(keys.job_data_hash()).arg(chunk);
            let payloads: Vec<Option<Vec<u8>>> = payloads.query_async(&mut redis).await?;
            known.extend(payloads.iter().flatten().filter_map(|payload| {
                let Ok(delivery) = JobIdCodec.decode(payload);
                delivery.job()
            }));
        }
        Ok(known)
    }
}
