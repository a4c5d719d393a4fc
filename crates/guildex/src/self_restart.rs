//! `up` is its own supervisor: where a worker's process ends with [`EXIT_HUNG`](guildex_worker::EXIT_HUNG) and is
//! started again by others, it takes its own place. The process id, the arguments and the environment stay; memory,
//! threads, files, locks and connections do not.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// Tells a process how often in a row it has been started again.
const VARIABLE: &str = "GUILDEX_RESTARTS";

/// After so long in good order the next restart counts as the first.
const QUIET: Duration = Duration::from_hours(1);

/// The longest pause before a start.
const LONGEST: Duration = Duration::from_mins(5);

/// How often this process has been started again.
#[derive(Debug, Clone, Copy)]
pub struct Restarts {
    count: u32,
    since: Instant,
}

impl Restarts {
    /// Of this process, from its environment; its clock starts now.
    pub fn of_process() -> Self {
        let count = std::env::var(VARIABLE).ok().and_then(|count| count.parse().ok());
        Self { count: count.unwrap_or(0), since: Instant::now() }
    }

    /// How many restarts in a row led here.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// How long to wait before work begins, so that what hangs at once does not make the process spin: 1 s, and
    /// twice as long each time.
    pub fn pause(&self) -> Duration {
        match self.count {
            0 => Duration::ZERO,
            count => Duration::from_secs(2_u64.saturating_pow(count - 1)).min(LONGEST),
        }
    }

    /// Replaces this process by a new one of the same program. Returns only if that cannot be done, with the reason.
    pub fn again(&self) -> std::io::Error {
        let program = match std::env::current_exe() {
            Ok(program) => program,
            Err(error) => return error,
        };
        let count = if self.since.elapsed() > QUIET { 1 } else { self.count.saturating_add(1) };
        Command::new(program).args(std::env::args_os().skip(1)).env(VARIABLE, count.to_string()).exec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pause = |count| Restarts { count, since: Instant::now() }.pause();
        let seconds = [0, 1, 2, 3, 9, 10, u32::MAX].map(|count| pause(count).as_secs());
        assert_eq!(seconds, [0, 1, 2, 4, 256, 300, 300]);
    }

    /// This test is two: the one that starts a process, and that process, which replaces itself twice.
    #[test]
    fn a_process_takes_its_own_place_and_counts() {
        const ROLE: &str = "GUILDEX_TEST_RESTARTS";
        if std::env::var_os(ROLE).is_some() {
            let restarts = Restarts::of_process();
            eprintln!("start {} of {}", restarts.count(), std::process::id());
            if restarts.count() == 2 {
                std::process::exit(9);
            }
            panic!("{}", restarts.again());
        }
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "self_restart::tests::a_process_takes_its_own_place_and_counts", "--nocapture"])
            .env(ROLE, "1")
            .env_remove(VARIABLE)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id();
        let output = child.wait_with_output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(9), "{told}");
        for count in 0..=2 {
            assert!(told.contains(&format!("start {count} of {pid}")), "{told}");
        }
    }
}
