//! A round trip that tells whether Redis does what the queues need of it.

use std::time::Duration;

use redis::AsyncCommands;
use uuid::Uuid;

use crate::{QueueError, Queues};

/// How long the key of a checkup that is cut short stays.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// What Redis says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkup {
    /// Its version.
    pub version: String,
    /// What it throws away when its memory is full.
    pub eviction: String,
    /// The most memory that it takes, in bytes; 0 for as much as there is.
    pub max_memory: u64,
    /// Whether it writes each change to a file.
    pub append_only: bool,
    /// Whether its last copy on disk came to an end.
    pub saves: bool,
    /// Whether it is one of a cluster, which apalis' scripts cannot work on.
    pub is_cluster: bool,
}

impl Queues {
    /// Writes a key under the prefix, reads it and takes it away, and asks Redis about itself.
    ///
    /// # Errors
    /// If Redis fails, or does not give what it was given.
    pub async fn checkup(&self) -> Result<Checkup, QueueError> {
        let mut redis = self.redis.clone();
        let (key, value) =
            (format!("{}:health:{}", self.config.prefix, Uuid::new_v4()), Uuid::new_v4().to_string());
        let () = redis.set_ex(&key, &value, FORGOTTEN_AFTER.as_secs()).await?;
        let read: Option<String> = redis.get_del(&key).await?;
        if read.as_ref() != Some(&value) {
            return Err(QueueError::Config("Redis does not keep what it is given: is its memory full?"));
        }
        let info: String = redis::cmd("INFO").query_async(&mut redis).await?;
        Ok(Checkup::of(&info))
    }
}

impl Checkup {
    fn of(info: &str) -> Self {
        let field = |name: &str| {
            let mut pairs = info.lines().filter_map(|line| line.split_once(':'));
            pairs.find(|(found, _)| *found == name).map(|(_, value)| value.trim()).unwrap_or_default()
        };
        Self {
            version: field("redis_version").to_owned(),
            eviction: field("maxmemory_policy").to_owned(),
            max_memory: field("maxmemory").parse().unwrap_or(0),
            append_only: field("aof_enabled") == "1",
            saves: field("rdb_last_bgsave_status") != "err",
            is_cluster: field("cluster_enabled") == "1",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_says_is_read_line_by_line() {
        let info = "# Server\r\nredis_version:7.2.4\r\n# Memory\r\nmaxmemory:1024\r\nmaxmemory_human:1K\r\n\
                    maxmemory_policy:allkeys-lru\r\naof_enabled:1\r\nrdb_last_bgsave_status:err\r\ncluster_enabled:0\r\n";
        let expected = Checkup {
            version: "7.2.4".to_owned(),
            eviction: "allkeys-lru".to_owned(),
            max_memory: 1024,
            append_only: true,
            saves: false,
            is_cluster: false,
        };
        assert_eq!(Checkup::of(info), expected);
    }
}
