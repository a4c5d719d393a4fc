//! Removes what apalis leaves behind: otherwise Redis' memory grows with every job.

use std::collections::HashSet;

use guildex_types::JobQueue;
use redis::{AsyncCommands, RedisResult};

use crate::{QueueError, Queues};

/// Ids processed in one round trip.
const CHUNK: usize = 500;

/// Entries that [`trim`](Queues::trim) removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Jobs that were delivered and acknowledged.
    pub finished: usize,
    /// Metadata of workers that no longer exist.
    pub workers: usize,
    /// Ids without a payload, which Redis evicted. They would end each worker that fetches them.
    pub hollow: usize,
}

impl Queues {
    /// Removes what finished jobs and former workers left behind, in small steps. Keeps ids that wait or are held by a
    /// consumer. Safe to run in any number of processes at the same time.
    ///
    /// # Errors
    /// If Redis fails. The next run removes the rest.
    pub async fn trim(&self) -> Result<Trimmed, QueueError> {
        let mut trimmed = Trimmed::default();
        for queue in JobQueue::ALL {
            let mut cleanup =
                QueueCleanup { redis: self.redis.clone(), keys: self.config.redis_queue(queue) };
            for set in [cleanup.keys.done_jobs_set(), cleanup.keys.dead_jobs_set()] {
                trimmed.finished += cleanup.trim_finished(&set).await?;
            }
            trimmed.workers += cleanup.trim_workers().await?;
            trimmed.hollow += cleanup.trim_hollow().await?;
        }
        Ok(trimmed)
    }
}

struct QueueCleanup {
    redis: redis::aio::ConnectionManager,
    keys: apalis_redis::Config,
}

impl QueueCleanup {
    /// Removes ids from the set last, so that an interrupted run leaves nothing behind.
    async fn trim_finished(&mut self, set: &str) -> RedisResult<usize> {
        let mut trimmed = 0;
        loop {
            let ids: Vec<String> =
                redis::cmd("SRANDMEMBER").arg(set).arg(CHUNK).query_async(&mut self.redis).await?;
            if ids.is_empty() {
                return Ok(trimmed);
            }
            let metas: Vec<String> = ids.iter().map(|id| self.meta_key(id)).collect();
            let (removed,): (usize,) = redis::pipe()
                .del(metas)
                .ignore()
                .hdel(self.keys.job_data_hash(), &ids)
                .ignore()
                .srem(set, &ids)
                .query_async(&mut self.redis)
                .await?;
            trimmed += removed;
        }
    }

    /// Each start of a worker leaves another hash.
    async fn trim_workers(&mut self) -> RedisResult<usize> {
        let namespace = format!("{}:metadata:", self.keys.workers_set());
        let metadata = self.scan(&format!("{namespace}*")).await?;
        // Read after the metadata, so that a worker that registers in between counts as existing.
        let registered: HashSet<String> = self.redis.zrange(self.keys.workers_set(), 0, -1).await?;
        let is_former =
            |key: &String| key.strip_prefix(&namespace).is_some_and(|name| !registered.contains(name));
        let former: Vec<String> = metadata.into_iter().filter(is_former).collect();
        let mut trimmed = 0;
        for chunk in former.chunks(CHUNK) {
            trimmed += self.redis.del::<_, usize>(chunk).await?;
        }
        Ok(trimmed)
    }

    async fn scan(&mut self, pattern: &str) -> RedisResult<Vec<String>> {
        let mut keys = Vec::new();
        let mut cursor = 0u64;
        loop {
            let mut step = redis::cmd("SCAN");
            step.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(CHUNK);
            let (next, some): (u64, Vec<String>) = step.query_async(&mut self.redis).await?;
            keys.extend(some);
            cursor = next;
            if cursor == 0 {
                return Ok(keys);
            }
        }
    }

    /// Checks all places of unfinished ids: those that wait (at most a window) and those that a worker holds (a few).
    async fn trim_hollow(&mut self) -> RedisResult<usize> {
        let mut trimmed = 0;
        let scheduled = self.keys.scheduled_jobs_set();
        let ids = self.redis.zrange(&scheduled, 0, -1).await?;
        for id in self.hollow(ids).await? {
            trimmed += self.redis.zrem::<_, _, usize>(&scheduled, id).await?;
        }
        let active = self.keys.active_jobs_list();
        let ids = self.redis.lrange(&active, 0, -1).await?;
        for id in self.hollow(ids).await? {
            trimmed += self.redis.lrem::<_, _, usize>(&active, 0, id).await?;
        }
        let workers: Vec<String> = self.redis.zrange(self.keys.workers_set(), 0, -1).await?;
        for worker in workers {
            let inflight = format!("{}:{worker}", self.keys.inflight_jobs_set());
            let ids = self.redis.smembers(&inflight).await?;
            for id in self.hollow(ids).await? {
                trimmed += self.redis.srem::<_, _, usize>(&inflight, id).await?;
            }
        }
        Ok(trimmed)
    }

    /// Ids that lack their payload or their metadata.
    async fn hollow(&mut self, ids: Vec<String>) -> RedisResult<Vec<String>> {
        let mut hollow = Vec::new();
        for chunk in ids.chunks(CHUNK) {
            let mut pipe = redis::pipe();
            for id in chunk {
                pipe.hexists(self.keys.job_data_hash(), id).exists(self.meta_key(id));
            }
            let exist: Vec<bool> = pipe.query_async(&mut self.redis).await?;
            let pairs = chunk.iter().zip(exist.chunks(2));
            hollow.extend(pairs.filter(|(_, parts)| parts.contains(&false)).map(|(id, _)| id.clone()));
        }
        Ok(hollow)
    }

    fn meta_key(&self, id: &str) -> String {
        format!("{}:{id}", self.keys.job_meta_hash())
    }
}
