//! Injects faults under live traffic and counts what was lost: see `scripts/chaos` and `docs/chaos.md`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test may panic, and prints its report"
)]

mod check;
mod faults;
mod fleet;
mod probe;
mod report;
mod servers;
mod traffic;
mod world;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::faults::Fault;
use crate::probe::probe;
use crate::report::Report;
use crate::traffic::Traffic;
use crate::world::{Index, World};

/// The first guild's id.
const FIRST_GUILD: i64 = 1_400_000_000_000_000_000;
const GUILDS: i64 = 3;
/// Longest recovery from a fault.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(120);

/// Kills, freezes and fills up Guildex's processes and servers under live traffic; then compares Postgres, the index and
/// the acknowledged changes.
#[derive(Debug, Parser)]
#[command(name = "chaos")]
struct Args {
    /// Minutes of faults, over all kinds of index; the final drain comes on top
    #[arg(long, value_name = "N", default_value_t = 3.0)]
    minutes: f64,
    /// Seed of faults and traffic; the same seed gives the same plan, though not the same races
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Kind of index
    #[arg(long, value_name = "KIND", default_value = "both")]
    index: IndexChoice,
    /// Faults to choose from, such as 'process killed'; repeatable [default: all]
    #[arg(long = "fault", value_name = "NAME")]
    faults: Vec<String>,
    /// Changes a second in each of the three guilds
    #[arg(long, value_name = "N", default_value_t = 4.0)]
    rate: f64,
    /// Lease in seconds: a dead worker's jobs are rescued after it
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    lease: u64,
    /// Print JSON, one document per kind of index
    #[arg(long)]
    json: bool,
    /// Keep the logs of successful runs, too
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum IndexChoice {
    /// The embedded index of one process
    Embedded,
    /// A server that three workers share
    Server,
    /// Both in turn, half of the time each
    Both,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let seed = args.seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    let kinds: &[Index] = match args.index {
        IndexChoice::Embedded => &[Index::Embedded],
        IndexChoice::Server => &[Index::Server],
        IndexChoice::Both => &[Index::Embedded, Index::Server],
    };
    let minutes = args.minutes / kinds.len() as f64;
    let mut good = true;
    for kind in kinds {
        eprintln!("chaos: {kind:?}, {minutes} minutes of faults, seed {seed}");
        let report = runtime.block_on(run(&args, *kind, Duration::from_secs_f64(minutes * 60.0), seed))?;
        if args.json {
            println!("{}", report.to_json());
        } else {
            println!("\n{kind:?}, seed {seed}\n{report}");
        }
        good &= report.is_good();
    }
    println!("{}", if good { "nothing was lost" } else { "the run failed" });
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run(args: &Args, index: Index, time: Duration, seed: u64) -> anyhow::Result<Report> {
    let world = Arc::new(World::start(index, Duration::from_secs(args.lease)).await?);
    let (stop, mut report) = (CancellationToken::new(), Report::default());
    let supervisor = tokio::spawn({
        let world = world.clone();
        async move { world.supervise().await }
    });
    let talkers: Vec<_> = (0..GUILDS)
        .map(|number| {
            let (guild, seed) = (FIRST_GUILD + number * 1_000, seed.wrapping_add(number.unsigned_abs()));
            let traffic = Traffic::new(guild, world.ingest(), world.socket.clone(), seed, args.rate);
            tokio::spawn(traffic.run(stop.clone()))
        })
        .collect();

    let outcome = inject_faults(args, &world, time, seed, &mut report).await;
    // Stop the traffic in any case.
    stop.cancel();
    outcome?;
    let mut guilds = Vec::new();
    for talker in talkers {
        guilds.push(talker.await?);
    }
    eprintln!("chaos: draining");
    world
        .until(
            "SELECT NOT EXISTS (SELECT FROM jobs WHERE state IN ('pending', 'queued', 'running'))",
            RECOVERY_TIMEOUT,
        )
        .await?;
    supervisor.abort();
    report.unasked = world.fleet.lock().await.unasked;
    for guild in &guilds {
        report.counts += guild.counts;
        check::messages(&world, guild.guild, &guild.said, &mut report).await?;
    }
    check::jobs(&world, &mut report).await?;
    check::index(&world, &mut report).await?;
    world.fleet.lock().await.stop().await?;
    if args.keep || !report.is_good() {
        eprintln!("chaos: the logs are in {}", world.keep_logs()?.display());
    }
    Ok(report)
}

/// Injects one fault after another, and waits for the recovery from each.
async fn inject_faults(
    args: &Args,
    world: &World,
    time: Duration,
    seed: u64,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let chosen = |fault: &Fault| args.faults.is_empty() || args.faults.contains(&fault.to_string());
    let all: Vec<Fault> = Fault::all(world).into_iter().filter(chosen).collect();
    ensure!(!all.is_empty(), "no such fault here; there are: {}", Fault::names(world));
    let end = Instant::now() + time;
    let mut round = Vec::new();
    while Instant::now() < end {
        if round.is_empty() {
            round = all.clone();
            round.shuffle(&mut random);
        }
        let Some(fault) = round.pop() else { continue };
        *report.faults.entry(fault).or_default() += 1;
        let began = Instant::now();
        fault.inject(world, &mut random).await.with_context(|| fault.to_string())?;
        let recovered = Instant::now();
        let found =
            probe(&world.ingest(), RECOVERY_TIMEOUT).await.with_context(|| format!("after: {fault}"))?;
        report.recovered(fault, found.duration_since(recovered));
        eprintln!(
            "chaos: {fault}, {:.1} s; recovered in {:.1} s",
            (recovered - began).as_secs_f64(),
            (found - recovered).as_secs_f64()
        );
        sleep(Duration::from_millis(random.random_range(0..2_000))).await;
    }
    Ok(())
}
