//! What apalis leaves behind, taken away: without this Redis' memory grows with every job.

use std::collections::HashSet;

use guildex_types::JobQueue;
use redis::{AsyncCommands, RedisResult};

use crate::{QueueError, Queues};

/// Ids handled in one round trip.
const CHUNK: usize = 500;

/// What a [`trim`](Queues::trim) took away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Jobs that were delivered and done with.
    pub finished: usize,
    /// Notes about workers that are no more.
    pub workers: usize,
    /// Ids whose payload is gone (Redis evicted it); they would kill each worker that fetches them.
    pub hollow: usize,
}

impl Queues {
    /// Takes away what finished jobs and gone workers left, in small steps. Ids that wait or are being handled
    /// stay. Any number of processes may do so, at any time and as often as they like.
    ///
    /// # Errors
    /// If Redis fails; the rest is left for the next time.
    pub async fn trim(&self) -> Result<Trimmed, QueueError> {
        let mut trimmed = Trimmed::default();
        for class in JobQueue::ALL {
            let mut queue = Queue { redis: self.redis.clone(), keys: self.config.queue(class) };
            for set in [queue.keys.done_jobs_set(), queue.keys.dead_jobs_set()] {
                trimmed.finished += queue.trim_finished(&set).await?;
            }
            trimmed.workers += queue.trim_workers().await?;
            trimmed.hollow += queue.trim_hollow().await?;
        }
        Ok(trimmed)
    }
}

struct Queue {
    redis: redis::aio::ConnectionManager,
    keys: apalis_redis::Config,
}

impl Queue {
    /// The ids leave the set last, so that a janitor that dies in between leaves nothing behind.
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

    /// Each life of a worker leaves a hash of its own.
    async fn trim_workers(&mut self) -> RedisResult<usize> {
        let namespace = format!("{}:metadata:", self.keys.workers_set());
        let notes = self.scan(&format!("{namespace}*")).await?;
        // Asked for after the notes, so that a worker that registers meanwhile is not taken for gone.
        let registered: HashSet<String> = self.redis.zrange(self.keys.workers_set(), 0, -1).await?;
        let is_gone =
            |note: &String| note.strip_prefix(&namespace).is_some_and(|name| !registered.contains(name));
        let gone: Vec<String> = notes.into_iter().filter(is_gone).collect();
        let mut trimmed = 0;
        for chunk in gone.chunks(CHUNK) {
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

    /// Looks where an id can be besides the finished sets: it waits (at most a window of them) or a worker
    /// holds it (a few).
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

    /// Those of the ids that lack their payload or their metadata.
    async fn hollow(&mut self, ids: Vec<String>) -> RedisResult<Vec<String>> {
        let mut hollow = Vec::new();
        for chunk in ids.chunks(CHUNK) {
            let mut pipe = redis::pipe();
            for id in chunk {
                pipe.hexists(self.keys.job_data_hash(), id).exists(self.meta_key(id));
            }
            let whole: Vec<bool> = pipe.query_async(&mut self.redis).await?;
            let pairs = chunk.iter().zip(whole.chunks(2));
            hollow.extend(pairs.filter(|(_, parts)| parts.contains(&false)).map(|(id, _)| id.clone()));
        }
        Ok(hollow)
    }

    fn meta_key(&self, id: &str) -> String {
        format!("{}:{id}", self.keys.job_meta_hash())
    }
}
