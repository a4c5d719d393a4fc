//! Pushing job ids.

use apalis::prelude::{Codec, TaskBuilder};
use apalis_redis::RedisTask;
use apalis_redis::queries::push_tasks;
use guildex_types::{JobId, JobQueue};

use crate::delivery::JobIdCodec;
use crate::{Delivery, QueueError, Queues};

/// Most ids that wait in one queue. A fetch moves all due ids at once in Lua, whose stack holds about 8,000: beyond that
/// every fetch fails, for good.
pub const WINDOW: usize = 1000;

/// Ids in one push script: few round trips, and no script that blocks Redis for long.
const CHUNK: usize = 250;

impl Queues {
    /// Pushes the first ids, as many as fit under the queue's [`WINDOW`], and returns their number. An id that is pushed
    /// twice is delivered twice.
    ///
    /// # Errors
    /// If Redis fails. Some of the ids may have been pushed then.
    pub async fn push(&self, queue: JobQueue, ids: &[JobId]) -> Result<usize, QueueError> {
        let room = WINDOW.saturating_sub(self.depth(queue).await?);
        let (pushed, _) = ids.split_at(room.min(ids.len()));
        let keys = self.config.redis_queue(queue);
        for chunk in pushed.chunks(CHUNK) {
            let tasks: Vec<RedisTask> = chunk.iter().map(|id| task(*id)).collect();
            push_tasks(&mut self.redis.clone(), &keys, &tasks).await?;
        }
        Ok(pushed.len())
    }
}

fn task(id: JobId) -> RedisTask {
    let Ok(payload) = JobIdCodec.encode(&Delivery::Job(id));
    // apalis names the task with a fresh ULID. Under the job's own id a second push would be dropped silently while the
    // first task is not cleaned up.
    TaskBuilder::new(payload).build()
}
