//! Checks each dependency with a round trip. Independent checks run concurrently, each within a time limit, and none
//! shows a secret.

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

/// JSON document of `--json`.
#[derive(Serialize)]
struct Report {
    healthy: bool,
    checks: Vec<Check>,
}

/// Runs all checks. Fails if a check fails; a warning is not a failure.
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
        print(if healthy { "no check failed\n" } else { "some checks failed; see the advice below each\n" })?;
    }
    // Exits instead of returning: the runtime would wait for hanging threads.
    std::io::stdout().flush()?;
    std::process::exit(i32::from(!healthy));
}
