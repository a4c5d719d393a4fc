//! Lists, shows and changes jobs.

use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use chrono::{DateTime, Utc};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use guildex_store::jobs::admin::{self, ActionResult, AdminAction, JobRow, JobState, JobSummary, Tenants};
use guildex_types::JobId;
use serde::Serialize;
use sqlx::PgPool;

use super::print;
use crate::app::App;
use crate::cli::{Jobs, List, Selection, Show, tenants};

/// Maximum characters of an error in the table.
const ERROR_WIDTH: usize = 60;

/// Number of jobs that one statement changes.
const CHUNK: usize = 1_000;

pub async fn run(app: &App, args: Jobs) -> anyhow::Result<ExitCode> {
    let pool = app.database().await?;
    match args {
        Jobs::List(args) => list(&pool, args).await,
        Jobs::Show(args) => show(&pool, args).await,
        Jobs::Retry(args) => act(&pool, AdminAction::Retry, args).await,
        Jobs::Cancel(args) => act(&pool, AdminAction::Cancel, args).await,
        Jobs::Purge(args) => act(&pool, AdminAction::Purge, args).await,
    }
}

/// JSON document of `--json`.
#[derive(Serialize)]
struct Report {
    jobs: Vec<JobRow>,
    /// Number of matching jobs, including those not shown.
    total: u64,
}

async fn list(pool: &PgPool, args: List) -> anyhow::Result<ExitCode> {
    let mut filter = args.filters.into_filter(Vec::new());
    if filter.states.is_empty() {
        filter.states = JobState::UNFINISHED.into_iter().chain([JobState::Dead]).collect();
    }
    let (jobs, total) = admin::list(pool, &filter, args.limit).await?;
    if args.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&Report { jobs, total })?))?;
    } else if jobs.is_empty() {
        print("no matching jobs\n")?;
    } else {
        print(&format!("{}\n", table(&jobs)))?;
        let hidden = total.saturating_sub(u64::try_from(jobs.len())?);
        if hidden > 0 {
            print(&format!("{hidden} more: add filters or raise --limit\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn table(jobs: &[JobRow]) -> String {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_header(["id", "guild", "kind", "queue", "state", "attempts", "age", "error"]);
    let now = Utc::now();
    for job in jobs {
        let error = job.error.as_deref().unwrap_or_default();
        table.add_row([
            job.id.to_string(),
            job.guild_id.map_or_else(|| "-".to_owned(), |guild| guild.to_string()),
            job.kind.clone(),
            job.queue.to_string(),
            job.state.as_str().to_owned(),
            attempts(job),
            age(now, job.finished_at.unwrap_or(job.created_at)),
            cut(error),
        ]);
    }
    table.trim_fmt()
}

fn attempts(job: &JobRow) -> String {
    match job.max_attempts {
        Some(most) => format!("{}/{most}", job.attempts),
        None => job.attempts.to_string(),
    }
}

/// Shortens an error to one line.
fn cut(error: &str) -> String {
    let line: String = error.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().count() <= ERROR_WIDTH {
        return line;
    }
    line.chars().take(ERROR_WIDTH - 1).chain(['…']).collect()
}

fn age(now: DateTime<Utc>, then: DateTime<Utc>) -> String {
    match (now - then).num_seconds().max(0) {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

async fn show(pool: &PgPool, Show { id, guild, json }: Show) -> anyhow::Result<ExitCode> {
    let found = admin::show(pool, tenants(guild), id).await?;
    let job = found.with_context(|| match guild {
        Some(guild) => format!("guild {guild} has no job {id}"),
        None => format!("there is no job {id}; completed jobs are kept for dispatcher.completed_retention"),
    })?;
    let text = if json { serde_json::to_string_pretty(&job)? } else { details(&job)? };
    print(&format!("{text}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Formats all details of a job.
fn details(job: &JobRow) -> anyhow::Result<String> {
    let time =
        |time: Option<DateTime<Utc>>| time.map(|time| time.format("%Y-%m-%d %H:%M:%S UTC").to_string());
    let mut table = Table::new();
    table.load_style(NOTHING);
    let crash_count = match job.crash_count {
        0..2 => job.crash_count.to_string(),
        crash_count => format!("{crash_count}: quarantined; runs in isolation"),
    };
    let lines = [
        ("id", Some(job.id.to_string())),
        ("guild", job.guild_id.map(|guild| guild.to_string())),
        ("kind", Some(job.kind.clone())),
        ("queue", Some(job.queue.to_string())),
        ("state", Some(job.state.as_str().to_owned())),
        (
            "attempts",
            Some(
                job.max_attempts
                    .map_or_else(|| format!("{}; it is retried forever", job.attempts), |_| attempts(job)),
            ),
        ),
        ("crash_count", Some(crash_count)),
        ("error", job.error.clone()),
        ("worker", job.claimed_by.clone()),
        ("created", time(Some(job.created_at))),
        ("due", time(Some(job.run_at))),
        ("claimed", time(job.claimed_at)),
        ("lease expires", time(job.lease_expires_at)),
        ("finished", time(job.finished_at)),
        (
            "revision",
            Some(format!(
                "{} wanted, {} when last claimed",
                job.target_revision, job.target_revision_at_claim
            )),
        ),
        ("key", job.dedup_key.clone()),
        ("payload", Some(serde_json::to_string(&job.payload)?)),
    ];
    for (name, value) in lines {
        if let Some(value) = value {
            table.add_row([name.to_owned(), value]);
        }
    }
    let mut output = table.trim_fmt();
    if !job.attempts_log.is_empty() {
        let mut history = Table::new();
        history.load_style(NOTHING).set_header(["attempt", "ended", "worker", "error"]);
        for attempt in &job.attempts_log {
            history.add_row([
                attempt.attempt.to_string(),
                time(Some(attempt.ended_at)).unwrap_or_default(),
                attempt.claimed_by.clone().unwrap_or_else(|| "-".to_owned()),
                attempt.error.clone(),
            ]);
        }
        output = format!("{output}\n\n{}", history.trim_fmt());
    }
    Ok(output)
}

/// Runs `retry`, `cancel` and `purge`: by ids, or by filters after a confirmation.
async fn act(
    pool: &PgPool,
    act: AdminAction,
    Selection { ids, filters, yes }: Selection,
) -> anyhow::Result<ExitCode> {
    let by_ids = !ids.is_empty();
    ensure!(by_ids || filters.is_any_set(), "name job ids, or select jobs by filters such as --guild");
    let mut filter = filters.into_filter(ids.clone());
    if !by_ids && filter.states.is_empty() {
        filter.states = act.states();
    }
    let picked = admin::pick(pool, &filter).await?;
    let (refused, meant): (Vec<JobSummary>, Vec<JobSummary>) =
        picked.into_iter().partition(|job| act.refuses(job).is_some());
    report_refusals(act, &refused, by_ids);
    let missing: Vec<JobId> =
        ids.into_iter().filter(|id| !meant.iter().chain(&refused).any(|job| job.id == *id)).collect();
    missing.iter().for_each(|id| eprintln!("{id}: no such job"));

    if !by_ids && meant.len() > 1 && !yes && !confirmed(act, meant.len())? {
        return Ok(ExitCode::FAILURE);
    }
    let meant: Vec<JobId> = meant.iter().map(|job| job.id).collect();
    carry_out(pool, act, filter.tenants, &meant).await?;
    let failed = by_ids && !(refused.is_empty() && missing.is_empty());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Reports jobs that cannot be changed: each named one, or their number if filters selected them.
fn report_refusals(act: AdminAction, refused: &[JobSummary], one_by_one: bool) {
    if one_by_one {
        for job in refused {
            eprintln!("{}: {}", job.id, act.refuses(job).unwrap_or_default());
        }
        return;
    }
    let mut reasons: Vec<&str> = refused.iter().filter_map(|job| act.refuses(job)).collect();
    reasons.sort_unstable();
    for same in reasons.chunk_by(|one, other| one == other) {
        eprintln!("{} unchanged: {}", jobs_text(same.len()), same.first().copied().unwrap_or_default());
    }
}

fn confirmed(act: AdminAction, jobs: usize) -> anyhow::Result<bool> {
    let (verb, _) = words(act);
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        bail!("{} match; pass --yes to {verb} all of them", jobs_text(jobs));
    }
    eprint!("{verb} {}? [y/N] ", jobs_text(jobs));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

async fn carry_out(pool: &PgPool, act: AdminAction, tenants: Tenants, ids: &[JobId]) -> anyhow::Result<()> {
    let (mut done, mut merged, mut changed) = (0, 0, 0);
    for chunk in ids.chunks(CHUNK) {
        for (_, outcome) in act.run(pool, tenants, chunk).await? {
            match outcome {
                ActionResult::Applied => done += 1,
                ActionResult::Merged(_) => merged += 1,
                ActionResult::Skipped => changed += 1,
            }
        }
    }
    let (_, past) = words(act);
    print(&format!("{past} {}\n", jobs_text(done + merged)))?;
    if merged > 0 {
        print(&format!("{} merged into unfinished jobs with the same dedup key\n", jobs_text(merged)))?;
    }
    if changed > 0 {
        print(&format!("{} unchanged: their state changed in the meantime\n", jobs_text(changed)))?;
    }
    Ok(())
}

fn jobs_text(jobs: usize) -> String {
    if jobs == 1 { "1 job".to_owned() } else { format!("{jobs} jobs") }
}

fn words(act: AdminAction) -> (&'static str, &'static str) {
    match act {
        AdminAction::Retry => ("retry", "retried"),
        AdminAction::Cancel => ("cancel", "cancelled"),
        AdminAction::Purge => ("purge", "purged"),
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn ages_are_short() {
        let now = Utc::now();
        let ages =
            [-5, 119, 120, 7_199, 7_200, 172_799, 172_800].map(|s| age(now, now - TimeDelta::seconds(s)));
        assert_eq!(ages, ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 d"]);
    }

    #[test]
    fn errors_are_cut_to_one_line() {
        assert_eq!(cut("two\nlines\x1b"), "two lines ");
        let long = cut(&"é".repeat(100));
        assert_eq!(long.chars().count(), ERROR_WIDTH);
        assert!(long.ends_with('…'));
        assert_eq!(cut(&"é".repeat(ERROR_WIDTH)), "é".repeat(ERROR_WIDTH));
    }
}
