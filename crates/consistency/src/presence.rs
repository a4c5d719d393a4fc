//! A process tells of itself: that it is there, and what memory it takes.

use std::time::Duration;

use chrono::{DateTime, Utc};
use guildex_store::processes::{self, Process};
use sqlx::PgPool;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

/// How often a process tells of itself.
const PERIOD: Duration = Duration::from_secs(5);
/// Within what time one must have told of itself to count as there: it may have been busy, or the database away.
pub const LATELY: Duration = Duration::from_secs(30);
/// When one that does not any more is taken away.
const FORGOTTEN: Duration = Duration::from_secs(3600);
/// How long the last word may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// Tells of this process until `stop`. Where the database is away it is told later.
pub async fn run(pool: &PgPool, name: &str, role: &'static str, slots: usize, stop: CancellationToken) {
    let (started_at, slots) = (Utc::now(), i32::try_from(slots).unwrap_or(i32::MAX));
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let process = of_self(name, role, started_at, slots);
        if let Err(error) = processes::upsert(pool, &process, FORGOTTEN).await {
            tracing::debug!(%error, "could not tell that this process is there");
        }
    }
    let _ = timeout(FAREWELL, processes::remove(pool, name)).await;
}

fn of_self(name: &str, role: &'static str, started_at: DateTime<Utc>, slots: i32) -> Process {
    let memory = memory();
    Process {
        name: name.to_owned(),
        role,
        started_at,
        memory_bytes: memory.map(|(now, _)| now),
        peak_bytes: memory.map(|(_, peak)| peak),
        slots,
    }
}

/// What this process holds and has held at most, in bytes.
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
    fn a_process_knows_its_memory() {
        let (now, peak) = memory().unwrap();
        assert!(0 < now && now <= peak, "{now} {peak}");
    }
}
