//! Errors of the queues.

/// Failure of a queue operation. No variant contains the URL or a job's content.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// A setting is invalid, or Redis is configured in a way that cannot work.
    #[error("invalid queue settings: {0}")]
    Config(&'static str),
    /// Redis is unavailable, rejected a command, or did not respond in time.
    #[error("Redis: {0}")]
    Redis(#[from] redis::RedisError),
    /// Redis or apalis rejected a push.
    #[error("Redis: {0}")]
    Push(#[from] apalis_redis::Error),
}
