//! Process heartbeats: a row per running process with its role, start and memory usage.

use std::time::Duration;

use chrono::{DateTime, Utc};
use guildex_store::processes::{self, Process};
use sqlx::PgPool;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

/// Interval between heartbeats.
const PERIOD: Duration = Duration::from_secs(5);
/// Age of a heartbeat after which a process counts as stopped. Long enough for a busy process or a short outage of
/// Postgres.
pub const STALE_AFTER: Duration = Duration::from_secs(30);
/// Age of a heartbeat after which its row is deleted.
const EXPIRE_AFTER: Duration = Duration::from_secs(3600);
/// Timeout for removing the row on shutdown.
const DEREGISTER_TIMEOUT: Duration = Duration::from_secs(2);

/// Records heartbeats of this process until `stop`. A failed heartbeat is repeated with the next tick.
pub async fn run(pool: &PgPool, name: &str, role: &'static str, slots: usize, stop: CancellationToken) {
    let (started_at, slots) = (Utc::now(), i32::try_from(slots).unwrap_or(i32::MAX));
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let process = current_process(name, role, started_at, slots);
        if let Err(error) = processes::upsert(pool, &process, EXPIRE_AFTER).await {
            tracing::debug!(%error, "heartbeat failed");
        }
    }
    let _ = timeout(DEREGISTER_TIMEOUT, processes::remove(pool, name)).await;
}

fn current_process(name: &str, role: &'static str, started_at: DateTime<Utc>, slots: i32) -> Process {
    let memory = memory();
    Process {
        name: name.to_owned(),
        role,
        started_at,
        memory_bytes: memory.map(|(current, _)| current),
        peak_bytes: memory.map(|(_, peak)| peak),
        slots,
    }
}

/// Current and peak resident memory of this process in bytes.
#[cfg(target_os = "linux")]
fn memory() -> Option<(i64, i64)> {
    let status = procfs::process::Process::myself().ok()?.status().ok()?;
    let bytes = |kib: Option<u64>| i64::try_from(kib?.saturating_mul(1024)).ok();
    Some((bytes(status.vmrss)?, bytes(status.vmhwm)?))
}

#[cfg(not(target_os = "linux"))]
fn memory() -> Option<(i64, i64)> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn memory_usage_is_known() {
        let (current, peak) = memory().unwrap();
        assert!(0 < current && current <= peak, "{current} {peak}");
    }
}
