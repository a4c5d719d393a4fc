//! What can go wrong between Guildex and Redis.

/// A queue operation that failed. No variant carries the URL or a job's content.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// A setting that cannot work.
    #[error("queue settings: {0}")]
    Config(&'static str),
    /// Redis cannot be reached, refused, or did not answer in time.
    #[error("Redis: {0}")]
    Redis(#[from] redis::RedisError),
    /// A push that Redis or apalis refused.
    #[error("Redis: {0}")]
    Push(#[from] apalis_redis::Error),
}
