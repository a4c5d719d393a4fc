use guildex_queue::Checkup;

use super::check::{Check, Finding, LIMIT};
use crate::app::App;

pub async fn check(app: &App) -> Vec<Check> {
    let url = app.config().redis.url.as_ref().map(ToString::to_string).unwrap_or_default();
    let advice = match url.as_str() {
        "" => "set redis.url (REDIS_URL)".to_owned(),
        url => format!("start Redis (6.2 or later) at {url}, or correct redis.url (REDIS_URL)"),
    };
    let check = Check::run("redis", LIMIT, &advice, async {
        let Checkup { version, eviction, max_memory, append_only, saves, is_cluster } =
            app.queues().await?.checkup().await?;
        let kept = if append_only { "writes an append-only file" } else { "has no append-only file" };
        let found =
            format!("Redis {version} at {url}; {eviction}, {kept}; a key was written, read and removed");
        Ok(Finding::ok(found)
            .warn_if(is_cluster, "use a single server: the queues' scripts use several keys at once")
            .warn_if(
                !eviction.is_empty() && eviction != "noeviction",
                format!(
                    "set maxmemory-policy to noeviction: {eviction} evicts jobs from the queues when memory is full \
                         (limit: {max_memory} bytes, 0 for none)"
                ),
            )
            .warn_if(
                !saves,
                "its last save to disk failed, and it may reject writes: check its log and its disk",
            ))
    });
    vec![check.await]
}
