//! What Redis still knows of. It may lose ids at any time, all of them or some, and does not tell; the ledger,
//! which knows what was pushed, asks.

use std::collections::HashSet;

use apalis::prelude::Codec;
use guildex_types::{JobId, JobQueue};
use redis::AsyncCommands;

use crate::delivery::JobIdCodec;
use crate::{QueueError, Queues};

/// Payloads read in one round trip.
const CHUNK: usize = 500;

impl Queues {
    /// The jobs of a class whose ids wait to be delivered, or are in the hands of a consumer. At most a
    /// [`WINDOW`](crate::WINDOW) of them and what all consumers may hold.
    ///
    /// One that is just being taken from a dead consumer may be left out.
    ///
    /// # Errors
    /// If Redis fails.
    pub async fn known(&self, class: JobQueue) -> Result<HashSet<JobId>, QueueError> {
        let (queue, mut redis) = (self.config.queue(class), self.redis.clone());
        let consumers: Vec<String> = redis.zrange(queue.workers_set(), 0, -1).await?;
        let mut places = redis::pipe();
        places.atomic();
        places.zrange(queue.scheduled_jobs_set(), 0, -1);
        places.lrange(queue.active_jobs_list(), 0, -1);
        for consumer in consumers {
            places.smembers(format!("{}:{consumer}", queue.inflight_jobs_set()));
        }
        let tasks: Vec<Vec<String>> = places.query_async(&mut redis).await?;
        let mut known = HashSet::new();
        for chunk in tasks.concat().chunks(CHUNK) {
            let mut payloads = redis::cmd("HMGET");
            payloads.arg(queue.job_data_hash()).arg(chunk);
            let payloads: Vec<Option<Vec<u8>>> = payloads.query_async(&mut redis).await?;
            known.extend(payloads.iter().flatten().filter_map(|payload| {
                let Ok(delivery) = JobIdCodec.decode(payload);
                delivery.job()
            }));
        }
        Ok(known)
    }
}
