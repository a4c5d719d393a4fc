//! Overhead of the job queue: jobs without work through Postgres and Redis.
//!
//! Each job removes no points. It is enqueued, dispatched, delivered, claimed, run and completed by the program's
//! dispatcher and workers like any other job.

use std::time::{Duration, Instant};

use guildex_store::jobs::{self, NewJob};
use guildex_store::processes;
use guildex_types::{GuildId, Job, JobQueue, Revision, Task};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::time::sleep;

use crate::measure::median;
use crate::program::Running;
use crate::{BenchError, Program, Report, Sandbox, Servers, round};

/// Jobs enqueued per transaction.
const PAGE: usize = 1_000;
/// Number of guilds.
const GUILDS: i64 = 10;
/// Maximum jobs of the run that counts statements: each is logged, which takes time.
const MAX_COUNTED: usize = 4_000;
/// Interval of checking for completion.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Timeout without any completed job.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Options of the benchmark.
#[derive(Debug, Clone)]
pub struct Queue {
    /// Jobs per run.
    pub jobs: usize,
    /// Number of runs.
    pub runs: usize,
    /// Numbers of worker processes to compare.
    pub workers: Vec<usize>,
}

/// Figures of one run.
struct Run {
    enqueued: f64,
    completed: f64,
    processor_ms: f64,
    peak_mib: f64,
}

/// Enqueues and runs the jobs with each number of workers, and counts statements and commands in a separate run.
///
/// # Errors
/// If a server or the program fails.
pub async fn run(servers: &Servers, program: &Program, options: &Queue) -> Result<Report, BenchError> {
    let about = format!(
        "{} jobs without work through Postgres and Redis; medians of {} runs",
        options.jobs, options.runs
    );
    let mut report = Report::new(
        "queue",
        about,
        &[
            "workers",
            "enqueued/s",
            "completed/s",
            "cpu ms/job",
            "peak MiB/worker",
            "statements/job",
            "redis commands/job",
        ],
    );
    for &workers in &options.workers {
        let mut runs = Vec::with_capacity(options.runs);
        for _ in 0..options.runs {
            runs.push(
                Sandbox::with(servers, async |sandbox| once(sandbox, program, options.jobs, workers).await)
                    .await?,
            );
        }
        let counted = Sandbox::with(servers, async |sandbox| {
            count_calls(sandbox, program, options.jobs.min(MAX_COUNTED), workers).await
        })
        .await?;
        let median_of = |value: fn(&Run) -> f64| median(runs.iter().map(value)).unwrap_or_default();
        report.row([
            json!(workers),
            round(median_of(|run| run.enqueued), 0),
            round(median_of(|run| run.completed), 0),
            round(median_of(|run| run.processor_ms), 3),
            round(median_of(|run| run.peak_mib), 0),
            round(counted.0, 2),
            counted.1.map_or(Value::Null, |commands| round(commands, 1)),
        ]);
    }
    Ok(report)
}

async fn once(sandbox: &Sandbox, program: &Program, jobs: usize, workers: usize) -> Result<Run, BenchError> {
    program.run(sandbox, &["migrate"]).await?;
    let mut workers = start_workers(sandbox, program, workers).await?;
    let start = Instant::now();
    enqueue(&sandbox.pool, jobs).await?;
    let enqueued = jobs as f64 / start.elapsed().as_secs_f64();

    let before: f64 = workers.iter_mut().map(|worker| worker.cost().processor.as_secs_f64()).sum();
    let dispatcher = program.start(sandbox, &["dispatcher"])?;
    let seconds = wait_completed(sandbox, jobs).await?;
    let mut processor = dispatcher.kill().await?.cost.processor.as_secs_f64() - before;
    let mut peak_mib: f64 = 0.0;
    for worker in workers {
        let cost = worker.kill().await?.cost;
        processor += cost.processor.as_secs_f64();
        peak_mib = peak_mib.max(cost.peak_mib);
    }
    Ok(Run {
        enqueued,
        completed: jobs as f64 / seconds,
        processor_ms: processor * 1e3 / jobs as f64,
        peak_mib,
    })
}

/// Counts the program's statements and Redis commands per job. Commands include those of scripts and of other clients of
/// the same Redis.
async fn count_calls(
    sandbox: &Sandbox,
    program: &Program,
    jobs: usize,
    workers: usize,
) -> Result<(f64, Option<f64>), BenchError> {
    let program = program.clone().set("log.level=info,sqlx=debug").set("log.format=json");
    program.run(sandbox, &["migrate"]).await?;
    enqueue(&sandbox.pool, jobs).await?;
    let workers = start_workers(sandbox, &program, workers).await?;
    let before = commands(sandbox).await?;
    let dispatcher = program.start(sandbox, &["dispatcher"])?;
    wait_completed(sandbox, jobs).await?;
    let commands = commands(sandbox).await?.zip(before).map(|(after, before)| after - before);
    let mut statements = 0;
    for process in workers.into_iter().chain([dispatcher]) {
        let log = process.log.clone();
        process.kill().await?;
        let log = std::fs::read_to_string(log).map_err(BenchError::Folder)?;
        statements += log.lines().filter(|line| line.contains("sqlx::query")).count();
    }
    let per_job = |count: f64| count / jobs as f64;
    Ok((per_job(statements as f64), commands.map(per_job)))
}

/// Starts workers and waits for their heartbeats.
async fn start_workers(
    sandbox: &Sandbox,
    program: &Program,
    count: usize,
) -> Result<Vec<Running>, BenchError> {
    let workers = (0..count).map(|_| program.start(sandbox, &["bench", "worker-process"]));
    let workers = workers.collect::<Result<Vec<_>, _>>()?;
    let start = Instant::now();
    while processes::list_recent(&sandbox.pool, TIMEOUT).await?.len() < count {
        if start.elapsed() > TIMEOUT {
            return Err(BenchError::Stuck("the workers did not send heartbeats"));
        }
        sleep(POLL_INTERVAL).await;
    }
    Ok(workers)
}

async fn enqueue(pool: &PgPool, count: usize) -> Result<(), BenchError> {
    let job = |number: usize| {
        let guild_id =
            GuildId::try_from(1 + number as i64 % GUILDS).map_err(guildex_store::StoreError::from)?;
        let task = Task::RemovePoints { sessions: Vec::new() };
        let job = Job { guild_id, task };
        Ok::<_, BenchError>(NewJob {
            job,
            queue: JobQueue::Backfill,
            target_revision: Revision::NONE,
            debounce: Duration::ZERO,
        })
    };
    let jobs = (0..count).map(job).collect::<Result<Vec<_>, _>>()?;
    for page in jobs.chunks(PAGE) {
        let mut tx = pool.begin().await?;
        jobs::enqueue(&mut tx, page, 1).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Waits until this number of jobs is completed and returns the seconds that they took.
async fn wait_completed(sandbox: &Sandbox, count: usize) -> Result<f64, BenchError> {
    let (mut done, mut since) = (0, Instant::now());
    while done < count {
        sleep(POLL_INTERVAL).await;
        let now: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs WHERE state = 'completed'")
            .fetch_one(&sandbox.pool)
            .await?;
        let now = usize::try_from(now).unwrap_or(0);
        if now > done {
            (done, since) = (now, Instant::now());
        } else if since.elapsed() > TIMEOUT {
            return Err(BenchError::Stuck("no job was completed for a minute"));
        }
    }
    sandbox.busy_seconds().await
}

/// Number of commands since the start of Redis.
async fn commands(sandbox: &Sandbox) -> Result<Option<f64>, BenchError> {
    let info: redis::InfoDict =
        redis::cmd("INFO").arg("stats").query_async(&mut sandbox.redis().await?).await?;
    Ok(info.get("total_commands_processed"))
}
