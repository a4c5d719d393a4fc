//! Check of Redis for `doctor`.

use std::time::Duration;

use redis::AsyncCommands;
use uuid::Uuid;

use crate::{QueueError, Queues};

/// Expiry of the key of an interrupted check.
const EXPIRY: Duration = Duration::from_secs(60);

/// Properties of Redis that matter to the queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkup {
    /// Version.
    pub version: String,
    /// Policy for a full memory (`maxmemory-policy`).
    pub eviction: String,
    /// Memory limit in bytes; 0 for none.
    pub max_memory: u64,
    /// Set if changes are appended to a file.
    pub append_only: bool,
    /// Set unless the last snapshot to disk failed.
    pub saves: bool,
    /// Set for a cluster, on which apalis' scripts do not work.
    pub is_cluster: bool,
}

impl Queues {
    /// Writes, reads and deletes a key under the prefix, and reads Redis' properties.
    ///
    /// # Errors
    /// If Redis fails or does not return the value.
    pub async fn checkup(&self) -> Result<Checkup, QueueError> {
        let mut redis = self.redis.clone();
        let (key, value) =
            (format!("{}:health:{}", self.config.prefix, Uuid::new_v4()), Uuid::new_v4().to_string());
        let () = redis.set_ex(&key, &value, EXPIRY.as_secs()).await?;
        let read: Option<String> = redis.get_del(&key).await?;
        if read.as_ref() != Some(&value) {
            return Err(QueueError::Config("Redis does not store values: is its memory full?"));
        }
        let info: String = redis::cmd("INFO").query_async(&mut redis).await?;
        Ok(Checkup::from_info(&info))
    }
}

impl Checkup {
    fn from_info(info: &str) -> Self {
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
    fn info_is_parsed_line_by_line() {
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
        assert_eq!(Checkup::from_info(info), expected);
    }
}
