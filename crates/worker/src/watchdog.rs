//! Ends a process in which something hangs that nobody can stop, so that it can be started again.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use guildex_embed::ModelRegistry;
use guildex_store::StoreError;
use guildex_store::jobs::{self, ClaimToken};
use guildex_types::JobId;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgPool};
use tokio::time::timeout;

use crate::claims::Claims;
use crate::limits::{Limit, Limits, Underway};

/// The exit code of a process that ended itself because work in it hung past its hard limit: `EX_TEMPFAIL` of
/// sysexits(3), "try again later".
pub const EXIT_HUNG: u8 = 75;

/// What is done at the very end, in the place of [`exit_hung`]; it should not return.
pub type LastResort = Arc<dyn Fn() + Send + Sync>;

/// How long giving jobs back may take, and how long an orderly exit may.
const CLOSING: Duration = Duration::from_secs(5);

/// Ends the process with [`EXIT_HUNG`].
pub fn exit_hung() {
    // Libraries tidy up at an exit, and may wait there for the thread that hangs.
    let _ = thread::Builder::new().spawn(|| {
        thread::sleep(CLOSING);
        std::process::abort();
    });
    std::process::exit(EXIT_HUNG.into());
}

/// Looks after the work of one worker, from a thread of its own: a runtime whose threads are all blocked does not
/// stop it.
pub(crate) struct Watchdog {
    leash: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

/// What it looks at.
pub(crate) struct Watch {
    pub underway: Arc<Underway>,
    pub models: Arc<ModelRegistry>,
    pub claims: Arc<Claims>,
    pub limits: Limits,
    pub last_resort: LastResort,
    pub database: Arc<PgConnectOptions>,
}

/// Something that does not come back.
#[derive(Debug, PartialEq, Eq)]
struct Hang {
    what: String,
    after: Duration,
    /// Whose fault it may be.
    jobs: Vec<JobId>,
    /// Whether these have lost an attempt to it already, when it was given up.
    charged: bool,
}

impl Watchdog {
    /// Starts to look. Without a thread for it there is no watching, which is told.
    pub fn start(watch: Watch) -> Self {
        let (leash, loose) = mpsc::channel();
        let looking = move || {
            let often = watch.often();
            while let Err(RecvTimeoutError::Timeout) = loose.recv_timeout(often) {
                let hangs = watch.look(|limit| limit.hard);
                if !hangs.is_empty() {
                    return watch.end(&hangs);
                }
            }
            // A process that stops would wait for what hangs, whatever its limit.
            let hangs = watch.look(|limit| limit.soft);
            if !hangs.is_empty() {
                watch.end(&hangs);
            }
        };
        let thread = thread::Builder::new().name("watchdog".to_owned()).spawn(looking);
        if let Err(error) = &thread {
            tracing::error!(%error, "nobody watches over hard limits: the watchdog has no thread");
        }
        Self { leash, thread: thread.ok() }
    }

    /// A last look, and no more from here on.
    pub fn stop(self) {
        let Self { leash, thread } = self;
        drop(leash);
        // If it is about to end the process, it shall.
        let _ = thread.map(JoinHandle::join);
    }
}

impl Watch {
    pub fn database(pool: &PgPool) -> Arc<PgConnectOptions> {
        pool.connect_options()
    }

    fn often(&self) -> Duration {
        let Limits { index_session, delete, backfill } = self.limits;
        let shortest = index_session.hard.min(delete.hard).min(backfill.hard);
        (shortest / 10).clamp(Duration::from_millis(10), Duration::from_secs(1))
    }

    /// What is past that limit.
    fn look(&self, bound: fn(Limit) -> Duration) -> Vec<Hang> {
        let pieces = self.underway.past(bound).into_iter().map(|piece| Hang {
            what: piece.what.to_owned(),
            after: piece.since.elapsed(),
            jobs: piece.jobs.to_vec(),
            charged: false,
        });
        let limit = bound(self.limits.index_session);
        let calls = self.models.running_calls().filter(|(_, time)| *time > limit);
        let models = calls.map(|(model, after)| Hang {
            what: format!("the model {model}"),
            after,
            jobs: self.underway.given_up(),
            charged: true,
        });
        pieces.chain(models).collect()
    }

    /// What may have hung and is still held loses its attempt and comes back as a suspect when its lease is over.
    /// Everything else is given back, the attempt with it: nobody knows of anything against it, and what a model was
    /// given up with has paid for that already.
    fn end(&self, hangs: &[Hang]) {
        for Hang { what, after, jobs, .. } in hangs {
            let jobs: Vec<String> = jobs.iter().map(JobId::to_string).collect();
            let (seconds, code) = (after.as_secs_f32(), EXIT_HUNG);
            tracing::error!(
                what,
                seconds,
                jobs = jobs.join(","),
                code,
                "it hangs past its limit and cannot be stopped: this process ends"
            );
        }
        let suspects: HashSet<JobId> =
            hangs.iter().filter(|hang| !hang.charged).flat_map(|hang| hang.jobs.iter().copied()).collect();
        let innocent: Vec<_> =
            self.claims.all().into_iter().filter(|(id, _)| !suspects.contains(id)).collect();
        match self.give_back(&innocent) {
            Ok(()) => tracing::info!(jobs = innocent.len(), "gave the other jobs back"),
            Err(reason) => {
                tracing::warn!(reason, "jobs could not be given back; they return when their lease is over")
            }
        }
        (self.last_resort)();
    }

    /// With a runtime and a connection of its own: those of the process may hang as well.
    fn give_back(&self, claims: &[(JobId, ClaimToken)]) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let giving = async {
            let mut connection = self.database.connect().await.map_err(StoreError::from)?;
            jobs::release(&mut connection, claims, Duration::ZERO).await
        };
        runtime
            .map_err(|error| error.to_string())?
            .block_on(async { timeout(CLOSING, giving).await })
            .map_err(|_| "the database does not answer".to_owned())?
            .map_err(|error| error.to_string())
    }
}
