//! Checks each dependency with a round trip. Checks that do not depend on each other run side by side, each has its
//! time, and none shows a secret.

mod check;
mod index;
mod machine;
mod model;
mod postgres;
mod redis;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use self::check::{Check, Outcome};
use super::print;
use crate::app::App;
use crate::cli::Doctor;

/// The whole answer, as `--json` prints it.
#[derive(Serialize)]
struct Report {
    healthy: bool,
    checks: Vec<Check>,
}

/// Checks everything; fails if something fails, while a warning is none.
pub async fn run(app: &App, file: Option<PathBuf>, args: Doctor) -> anyhow::Result<ExitCode> {
    let (mut checks, (pool, postgres), redis) =
        tokio::join!(machine::check(app, file), postgres::check(app), redis::check(app));
    let (index, model) = tokio::join!(index::check(app, pool.as_ref()), model::check(app, pool.as_ref()));
    checks.extend([postgres, redis, index, model].into_iter().flatten());
    let healthy = checks.iter().all(|check| check.outcome != Outcome::Failed);
    if args.json {
        let report = Report { healthy, checks };
        print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    } else {
        print(&checks.iter().map(Check::text).collect::<String>())?;
        print(if healthy { "nothing failed\n" } else { "something failed: what to do stands below it\n" })?;
    }
    // Not by returning: the runtime would wait for what hangs in one of its threads.
    std::io::stdout().flush()?;
    std::process::exit(i32::from(!healthy));
}
