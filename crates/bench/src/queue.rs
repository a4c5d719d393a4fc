//! Jobs that do nothing, through ledger and Redis: what the machinery around the work costs.
//!
//! Each job is the removal of no points: it is enqueued, dispatched, delivered, claimed, run and completed like any
//! other, by the program's own dispatcher and workers.

use std::time::{Duration, Instant};

use guildex_store::jobs::{self, NewJob};
use guildex_store::processes;
use guildex_types::{GuildId, Job, JobQueue, Revision, Task};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::time::sleep;

use crate::measure::median;
use crate::program::Running;
use crate::{BenchError, Program, Report, Scratch, Servers, round};

/// Jobs written down in one transaction.
const PAGE: usize = 1_000;
/// Guilds that take turns.
const GUILDS: i64 = 10;
/// Jobs of the run in which statements are counted, at most: each is logged, which takes its time.
const COUNTED: usize = 4_000;
/// How often it is looked whether all is done.
const LOOK: Duration = Duration::from_millis(100);
/// Within which some job has to be done.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much to measure.
#[derive(Debug, Clone)]
pub struct Queue {
    /// Jobs of a run.
    pub jobs: usize,
    /// Runs of each kind.
    pub runs: usize,
    /// Numbers of worker processes.
    pub workers: Vec<usize>,
}

/// What one run gave.
struct Run {
    enqueued: f64,
    drained: f64,
    processor_ms: f64,
    peak_mib: f64,
}

/// Enqueues and drains, with each number of workers in turn, and counts statements and commands in a run of their own.
///
/// # Errors
/// If a server or the program fails.
pub async fn run(servers: &Servers, program: &Program, options: &Queue) -> Result<Report, BenchError> {
    let about = format!(
        "{} jobs that do nothing, through ledger and Redis; medians of {} runs",
        options.jobs, options.runs
    );
    let mut report = Report::new(
        "queue",
        about,
        &[
            "workers",
            "enqueued/s",
            "drained/s",
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
                Scratch::with(servers, async |scratch| once(scratch, program, options.jobs, workers).await)
                    .await?,
            );
        }
        let counted = Scratch::with(servers, async |scratch| {
            counts(scratch, program, options.jobs.min(COUNTED), workers).await
        })
        .await?;
        let of = |value: fn(&Run) -> f64| median(runs.iter().map(value)).unwrap_or_default();
        report.row([
            json!(workers),
            round(of(|run| run.enqueued), 0),
            round(of(|run| run.drained), 0),
            round(of(|run| run.processor_ms), 3),
            round(of(|run| run.peak_mib), 0),
            round(counted.0, 2),
            counted.1.map_or(Value::Null, |commands| round(commands, 1)),
        ]);
    }
    Ok(report)
}

async fn once(scratch: &Scratch, program: &Program, jobs: usize, workers: usize) -> Result<Run, BenchError> {
    program.run(scratch, &["migrate"]).await?;
    let mut workers = start(scratch, program, workers).await?;
    let begun = Instant::now();
    enqueue(&scratch.pool, jobs).await?;
    let enqueued = jobs as f64 / begun.elapsed().as_secs_f64();

    let before: f64 = workers.iter_mut().map(|worker| worker.cost().processor.as_secs_f64()).sum();
    let dispatcher = program.start(scratch, &["dispatcher"])?;
    let seconds = drained(scratch, jobs).await?;
    let mut processor = dispatcher.kill().await?.cost.processor.as_secs_f64() - before;
    let mut peak_mib: f64 = 0.0;
    for worker in workers {
        let cost = worker.kill().await?.cost;
        processor += cost.processor.as_secs_f64();
        peak_mib = peak_mib.max(cost.peak_mib);
    }
    Ok(Run {
        enqueued,
        drained: jobs as f64 / seconds,
        processor_ms: processor * 1e3 / jobs as f64,
        peak_mib,
    })
}

/// Statements of the program, and commands of Redis while it ran, those of its scripts included, by job. Of others
/// that use the same Redis the commands are counted, too.
async fn counts(
    scratch: &Scratch,
    program: &Program,
    jobs: usize,
    workers: usize,
) -> Result<(f64, Option<f64>), BenchError> {
    let program = program.clone().set("log.level=info,sqlx=debug").set("log.format=json");
    program.run(scratch, &["migrate"]).await?;
    enqueue(&scratch.pool, jobs).await?;
    let workers = start(scratch, &program, workers).await?;
    let before = commands(scratch).await?;
    let dispatcher = program.start(scratch, &["dispatcher"])?;
    drained(scratch, jobs).await?;
    let commands = commands(scratch).await?.zip(before).map(|(after, before)| after - before);
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

/// Workers that are there, and told so.
async fn start(scratch: &Scratch, program: &Program, count: usize) -> Result<Vec<Running>, BenchError> {
    let workers = (0..count).map(|_| program.start(scratch, &["bench", "worker-alone"]));
    let workers = workers.collect::<Result<Vec<_>, _>>()?;
    let begun = Instant::now();
    while processes::list_recent(&scratch.pool, PATIENCE).await?.len() < count {
        if begun.elapsed() > PATIENCE {
            return Err(BenchError::Stuck("the workers did not tell that they are there"));
        }
        sleep(LOOK).await;
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

/// Waits until so many jobs are done; how many seconds they took.
async fn drained(scratch: &Scratch, count: usize) -> Result<f64, BenchError> {
    let (mut done, mut since) = (0, Instant::now());
    while done < count {
        sleep(LOOK).await;
        let now: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs WHERE state = 'completed'")
            .fetch_one(&scratch.pool)
            .await?;
        let now = usize::try_from(now).unwrap_or(0);
        if now > done {
            (done, since) = (now, Instant::now());
        } else if since.elapsed() > PATIENCE {
            return Err(BenchError::Stuck("no job was done for a minute"));
        }
    }
    scratch.seconds_at_work().await
}

/// How many commands Redis has run since it was started.
async fn commands(scratch: &Scratch) -> Result<Option<f64>, BenchError> {
    let told: redis::InfoDict =
        redis::cmd("INFO").arg("stats").query_async(&mut scratch.redis().await?).await?;
    Ok(told.get("total_commands_processed"))
}
