//! Restart of `up` after a hang. A worker exits with [`EXIT_HUNG`](guildex_worker::EXIT_HUNG) and leaves the restart to
//! its supervisor; `up` replaces its own process image instead. Process id, arguments and environment stay; memory,
//! threads, files, locks and connections do not.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// Variable that passes the number of consecutive restarts to the new process.
const VARIABLE: &str = "GUILDEX_RESTARTS";

/// Uptime after which the next restart counts as the first.
const STABLE_AFTER: Duration = Duration::from_hours(1);

/// Longest delay before a start.
const MAX_DELAY: Duration = Duration::from_mins(5);

/// Number of consecutive restarts of this process.
#[derive(Debug, Clone, Copy)]
pub struct Restarts {
    count: u32,
    since: Instant,
}

impl Restarts {
    /// Reads the number from the environment; the uptime starts now.
    pub fn of_process() -> Self {
        let count = std::env::var(VARIABLE).ok().and_then(|count| count.parse().ok());
        Self { count: count.unwrap_or(0), since: Instant::now() }
    }

    /// Number of consecutive restarts.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Delay before work starts, so that an immediate hang does not become a restart loop: 1 s, doubled with each
    /// restart.
    pub fn delay(&self) -> Duration {
        match self.count {
            0 => Duration::ZERO,
            count => Duration::from_secs(2_u64.saturating_pow(count - 1)).min(MAX_DELAY),
        }
    }

    /// Replaces this process with a new instance of the program. Returns only on failure, with the error.
    pub fn restart(&self) -> std::io::Error {
        let program = match std::env::current_exe() {
            Ok(program) => program,
            Err(error) => return error,
        };
        let count = if self.since.elapsed() > STABLE_AFTER { 1 } else { self.count.saturating_add(1) };
        Command::new(program).args(std::env::args_os().skip(1)).env(VARIABLE, count.to_string()).exec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum() {
        let delay = |count| Restarts { count, since: Instant::now() }.delay();
        let seconds = [0, 1, 2, 3, 9, 10, u32::MAX].map(|count| delay(count).as_secs());
        assert_eq!(seconds, [0, 1, 2, 4, 256, 300, 300]);
    }

    /// The test starts itself as a child process, which replaces itself twice.
    #[test]
    fn a_process_replaces_itself_and_counts() {
        const ROLE: &str = "GUILDEX_TEST_RESTARTS";
        if std::env::var_os(ROLE).is_some() {
            let restarts = Restarts::of_process();
            eprintln!("start {} of {}", restarts.count(), std::process::id());
            if restarts.count() == 2 {
                std::process::exit(9);
            }
            panic!("{}", restarts.restart());
        }
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "self_restart::tests::a_process_replaces_itself_and_counts", "--nocapture"])
            .env(ROLE, "1")
            .env_remove(VARIABLE)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(9), "{stderr}");
        for count in 0..=2 {
            assert!(stderr.contains(&format!("start {count} of {pid}")), "{stderr}");
        }
    }
}
