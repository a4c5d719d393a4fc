//! Explores a model of the given bounds, and prints its number of states and a trace for each violated invariant.
//!
//!     cargo run --release --example explore -- --changes 3 --faults 2 --repairs 1 --sessions 1,2

#![allow(clippy::print_stdout)]

use std::process::ExitCode;
use std::time::Instant;

use guildex_protocol::Config;
use stateright::{Checker, Model};

fn main() -> ExitCode {
    let mut config = Config::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        let number = value.parse();
        match (name.as_str(), number) {
            ("--changes", Ok(number)) => config.changes = number,
            ("--faults", Ok(number)) => config.faults = number,
            ("--repairs", Ok(number)) => config.repairs = number,
            ("--max-attempts", Ok(number)) => config.max_attempts = number,
            ("--workers", Ok(number)) => config.workers = number.into(),
            ("--sessions", _) => {
                config.sessions = value.split(',').filter_map(|id| id.parse().ok()).collect()
            }
            _ => {
                println!("unknown option or invalid value: {name} {value}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{config:?}");
    let (started, threads) = (Instant::now(), std::thread::available_parallelism().map_or(1, usize::from));
    let checker = config.checker().threads(threads).spawn_bfs().join();
    println!(
        "{} states, {} unique, depth {}, {:.1} s",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        started.elapsed().as_secs_f64()
    );
    for (property, path) in checker.discoveries() {
        println!("violated: {property}");
        for (state, step) in path.into_vec() {
            println!("  {state:?}\n    {step:?}");
        }
    }
    if checker.discoveries().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
