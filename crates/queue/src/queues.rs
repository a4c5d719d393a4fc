//! The connection to Redis.

use guildex_types::JobQueue;
use redis::Client;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};

use crate::{Config, QueueError};

/// Handle to all queues. Clones share one connection, which reconnects by itself.
#[derive(Clone)]
pub struct Queues {
    pub(crate) config: Config,
    pub(crate) redis: ConnectionManager,
}

impl Queues {
    /// Connects, and pings Redis.
    ///
    /// # Errors
    /// If a setting is invalid or Redis does not respond.
    pub async fn connect(config: &Config) -> Result<Self, QueueError> {
        let queues = Self::open(config)?;
        queues.ping().await?;
        Ok(queues)
    }

    /// A handle that connects on first use, for a process that may start before Redis. Must be called within a Tokio
    /// runtime.
    ///
    /// # Errors
    /// If a setting is invalid.
    pub fn open(config: &Config) -> Result<Self, QueueError> {
        config.validate()?;
        let manager = ConnectionManagerConfig::new()
            // The default of 500 ms is too short for a script that waits for others.
            .set_response_timeout(Some(config.response_timeout))
            .set_connection_timeout(Some(config.response_timeout))
            // Callers decide how to handle a lost connection; consumers reconnect by themselves.
            .set_number_of_retries(1);
        let redis = ConnectionManager::new_lazy_with_config(Client::open(config.url.as_str())?, manager)?;
        Ok(Self { config: config.clone(), redis })
    }

    /// Number of ids in a queue that wait for delivery: apalis' scheduled set and active list, counted at one moment. Ids
    /// held by consumers are not counted.
    ///
    /// # Errors
    /// If Redis fails.
    pub async fn depth(&self, queue: JobQueue) -> Result<usize, QueueError> {
        let keys = self.config.redis_queue(queue);
        let (scheduled, active): (usize, usize) = redis::pipe()
            .atomic()
            .zcard(keys.scheduled_jobs_set())
            .llen(keys.active_jobs_list())
            .query_async(&mut self.redis.clone())
            .await?;
        Ok(scheduled + active)
    }

    /// Pings Redis.
    ///
    /// # Errors
    /// If Redis does not respond.
    pub async fn ping(&self) -> Result<(), QueueError> {
        Ok(redis::cmd("PING").query_async(&mut self.redis.clone()).await?)
    }
}
