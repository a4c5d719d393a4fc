//! Ends a process in which an operation hangs that cannot be stopped, so that a supervisor restarts it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use guildex_embed::ModelRegistry;
use guildex_store::StoreError;
use guildex_store::jobs;
use guildex_types::JobId;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgPool};
use tokio::time::timeout;

use crate::lease_keeper::{Lease, LeaseKeeper};
use crate::time_limits::{InFlight, TimeLimit, TimeLimits};

/// Exit code of a process that ended itself because an operation exceeded its hard limit: `EX_TEMPFAIL` of
/// sysexits(3), "try again later".
pub const EXIT_HUNG: u8 = 75;

/// Called last when an operation hangs: [`exit_hung`], or a replacement that does not return either.
pub type HangHandler = Arc<dyn Fn() + Send + Sync>;

/// Time to release jobs, and time for an orderly exit.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Ends the process with [`EXIT_HUNG`].
pub fn exit_hung() {
    // Libraries clean up at an exit, and may wait there for the thread that hangs.
    let _ = thread::Builder::new().spawn(|| {
        thread::sleep(CLOSE_TIMEOUT);
        std::process::abort();
    });
    std::process::exit(EXIT_HUNG.into());
}

/// Checks the hard limits of one worker's operations, on a separate thread: it works while all threads of the
/// runtime are blocked.
pub(crate) struct Watchdog {
    stop_tx: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

/// State that the watchdog checks.
pub(crate) struct Watch {
    pub in_flight: Arc<InFlight>,
    pub models: Arc<ModelRegistry>,
    pub leases: Arc<LeaseKeeper>,
    pub limits: TimeLimits,
    pub on_hang: HangHandler,
    pub database: Arc<PgConnectOptions>,
}

/// An operation that does not return.
#[derive(Debug, PartialEq, Eq)]
struct Hang {
    operation: String,
    elapsed: Duration,
    /// Jobs that may have caused it.
    jobs: Vec<JobId>,
    /// Set if the attempts of these jobs were consumed when the operation was abandoned.
    charged: bool,
}

impl Watchdog {
    /// Starts the thread. Without one, which is logged, hard limits are not enforced.
    pub fn start(watch: Watch) -> Self {
        let (stop_tx, stop_rx) = mpsc::channel();
        let run = move || {
            let interval = watch.interval();
            while let Err(RecvTimeoutError::Timeout) = stop_rx.recv_timeout(interval) {
                let hangs = watch.hangs(|limit| limit.hard);
                if !hangs.is_empty() {
                    return watch.end(&hangs);
                }
            }
            // A process that shuts down would wait for abandoned operations, regardless of their hard limits.
            let hangs = watch.hangs(|limit| limit.soft);
            if !hangs.is_empty() {
                watch.end(&hangs);
            }
        };
        let thread = thread::Builder::new().name("watchdog".to_owned()).spawn(run);
        if let Err(error) = &thread {
            tracing::error!(%error, "failed to start the watchdog thread; hard time limits are not enforced");
        }
        Self { stop_tx, thread: thread.ok() }
    }

    /// Checks a last time, and stops. Waits for a watchdog that is ending the process.
    pub fn stop(self) {
        let Self { stop_tx, thread } = self;
        drop(stop_tx);
        let _ = thread.map(JoinHandle::join);
    }
}

impl Watch {
    pub fn database(pool: &PgPool) -> Arc<PgConnectOptions> {
        pool.connect_options()
    }

    fn interval(&self) -> Duration {
        let TimeLimits { index_session, delete, backfill } = self.limits;
        let shortest = index_session.hard.min(delete.hard).min(backfill.hard);
        (shortest / 10).clamp(Duration::from_millis(10), Duration::from_secs(1))
    }

    /// Operations that exceed a limit.
    fn hangs(&self, bound: fn(TimeLimit) -> Duration) -> Vec<Hang> {
        let entries = self.in_flight.exceeding(bound).into_iter().map(|entry| Hang {
            operation: entry.operation.to_owned(),
            elapsed: entry.since.elapsed(),
            jobs: entry.jobs.to_vec(),
            charged: false,
        });
        let limit = bound(self.limits.index_session);
        let calls = self.models.running_calls().filter(|(_, elapsed)| *elapsed > limit);
        let calls = calls.map(|(model, elapsed)| Hang {
            operation: format!("calling the model {model}"),
            elapsed,
            jobs: self.in_flight.abandoned(),
            charged: true,
        });
        entries.chain(calls).collect()
    }

    /// Jobs that may have caused a hang keep their lease: when it expires, their attempt is consumed and they are
    /// quarantined. All other jobs are released without consuming their attempts, among them those that were charged
    /// when their call of a model was abandoned.
    fn end(&self, hangs: &[Hang]) {
        for Hang { operation, elapsed, jobs, .. } in hangs {
            let jobs: Vec<String> = jobs.iter().map(JobId::to_string).collect();
            tracing::error!(
                operation,
                ?elapsed,
                jobs = jobs.join(","),
                exit_code = EXIT_HUNG,
                "operation exceeded its hard time limit and cannot be stopped; ending this process"
            );
        }
        let charged: HashSet<JobId> =
            hangs.iter().filter(|hang| !hang.charged).flat_map(|hang| hang.jobs.iter().copied()).collect();
        let mut others = self.leases.all();
        others.retain(|(id, _)| !charged.contains(id));
        match self.release(&others) {
            Ok(()) => tracing::info!(jobs = others.len(), "released the other jobs"),
            Err(error) => {
                tracing::warn!(
                    error,
                    "failed to release jobs; they return to the queue when their leases expire"
                )
            }
        }
        (self.on_hang)();
    }

    /// Uses a separate runtime and connection, since those of the process may hang as well.
    fn release(&self, leases: &[Lease]) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let release = async {
            let mut connection = self.database.connect().await.map_err(StoreError::from)?;
            jobs::release(&mut connection, leases, Duration::ZERO).await
        };
        runtime
            .map_err(|error| error.to_string())?
            .block_on(async { timeout(CLOSE_TIMEOUT, release).await })
            .map_err(|_| "the database does not respond".to_owned())?
            .map_err(|error| error.to_string())
    }
}
