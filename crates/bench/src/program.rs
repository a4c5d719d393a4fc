//! Runs the measured program in child processes.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::measure::Cost;
use crate::{BenchError, Sandbox};

/// Interval of checking a process.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Timeout for a process to accept requests, including the load of its model.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Number of log lines reported for a failed program.
const LAST_LINES: usize = 5;

/// Measured program.
#[derive(Debug, Clone)]
pub struct Program {
    /// Executable, usually that of the current process.
    pub executable: PathBuf,
    /// Flags before the subcommand, such as the configuration file and settings.
    pub flags: Vec<String>,
}

impl Program {
    /// Adds a setting.
    #[must_use]
    pub fn set(mut self, setting: impl Into<String>) -> Self {
        self.flags.extend(["--set".to_owned(), setting.into()]);
        self
    }

    /// Runs a command in a sandbox to completion.
    ///
    /// # Errors
    /// If it cannot be started or fails.
    pub async fn run(&self, sandbox: &Sandbox, arguments: &[&str]) -> Result<Spent, BenchError> {
        self.start(sandbox, arguments)?.wait().await
    }

    /// Starts a command in a sandbox with its own data directory.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&self, sandbox: &Sandbox, arguments: &[&str]) -> Result<Running, BenchError> {
        let data = sandbox.path(&uuid::Uuid::new_v4().simple().to_string()[..8]);
        let log = data.with_extension("log");
        let child = Command::new(&self.executable)
            .args(&self.flags)
            .args(arguments)
            // URLs are secret, and other users can see flags.
            .env("GUILDEX_DATABASE_URL", sandbox.database_url().as_str())
            .env("GUILDEX_REDIS_URL", sandbox.redis_url())
            .env("GUILDEX_REDIS_PREFIX", sandbox.prefix())
            .env("GUILDEX_DATA_DIR", &data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).map_err(BenchError::Folder)?)
            .kill_on_drop(true)
            .spawn()
            .map_err(BenchError::Process)?;
        let (start, command) = (Instant::now(), arguments.join(" "));
        Ok(Running { child, command, data, log, start, cost: Cost::default() })
    }
}

/// Resources used by a process from start to end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spent {
    /// Memory and processor time.
    pub cost: Cost,
    /// Wall-clock time.
    pub time: Duration,
}

/// Running process that is measured. Dropping it kills the process.
pub struct Running {
    child: Child,
    command: String,
    /// Data directory.
    pub data: PathBuf,
    /// Path of the log.
    pub log: PathBuf,
    start: Instant,
    cost: Cost,
}

impl Running {
    /// Cost so far.
    pub fn cost(&mut self) -> Cost {
        if let Some(cost) = self.child.id().and_then(Cost::of_pid) {
            self.cost = cost;
        }
        self.cost
    }

    /// Waits until it accepts connections: its model is loaded and its index is open.
    ///
    /// # Errors
    /// If it ends or takes too long.
    pub async fn wait_ready(&mut self) -> Result<(), BenchError> {
        let start = Instant::now();
        while UnixStream::connect(self.data.join("guildex.sock")).is_err() {
            if self.child.try_wait().map_err(BenchError::Process)?.is_some() {
                return Err(self.failed());
            }
            if start.elapsed() > TIMEOUT {
                return Err(BenchError::Stuck("the program did not accept connections"));
            }
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Waits until it completes.
    ///
    /// # Errors
    /// If it fails.
    pub async fn wait(mut self) -> Result<Spent, BenchError> {
        let status = loop {
            self.cost();
            tokio::select! {
                status = self.child.wait() => break status.map_err(BenchError::Process)?,
                () = sleep(POLL_INTERVAL) => {}
            }
        };
        let spent = Spent { cost: self.cost, time: self.start.elapsed() };
        if status.success() { Ok(spent) } else { Err(self.failed()) }
    }

    /// Kills it and returns its cost.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub async fn kill(mut self) -> Result<Spent, BenchError> {
        let spent = Spent { cost: self.cost(), time: self.start.elapsed() };
        self.child.kill().await.map_err(BenchError::Process)?;
        Ok(spent)
    }

    fn failed(&self) -> BenchError {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let output = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default().join("; ");
        BenchError::Failed { command: self.command.clone(), output }
    }
}
