//! The program that is measured, as processes of their own.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::measure::Cost;
use crate::{BenchError, Scratch};

/// How often a process is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long a role may take until it answers, loading its model included.
const PATIENCE: Duration = Duration::from_secs(120);
/// How much of a failed program's log is told, in lines.
const LAST_LINES: usize = 5;

/// How the program is called.
#[derive(Debug, Clone)]
pub struct Program {
    /// The executable: that of this process, most likely.
    pub executable: PathBuf,
    /// Flags before the subcommand: the configuration file, settings.
    pub flags: Vec<String>,
}

impl Program {
    /// The same with one more setting.
    #[must_use]
    pub fn set(mut self, setting: impl Into<String>) -> Self {
        self.flags.extend(["--set".to_owned(), setting.into()]);
        self
    }

    /// Runs a command on a scratch to its good end; what it cost.
    ///
    /// # Errors
    /// If it cannot be started, or ends badly.
    pub async fn run(&self, scratch: &Scratch, arguments: &[&str]) -> Result<Spent, BenchError> {
        self.start(scratch, arguments)?.ended().await
    }

    /// Starts a command on a scratch, with a data folder of its own.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&self, scratch: &Scratch, arguments: &[&str]) -> Result<Running, BenchError> {
        let data = scratch.path(&uuid::Uuid::new_v4().simple().to_string()[..8]);
        let log = data.with_extension("log");
        let child = Command::new(&self.executable)
            .args(&self.flags)
            .args(arguments)
            // URLs are secret, and flags are for everybody to see.
            .env("GUILDEX_DATABASE_URL", scratch.database_url().as_str())
            .env("GUILDEX_REDIS_URL", scratch.redis_url())
            .env("GUILDEX_REDIS_PREFIX", scratch.prefix())
            .env("GUILDEX_DATA_DIR", &data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).map_err(BenchError::Folder)?)
            .kill_on_drop(true)
            .spawn()
            .map_err(BenchError::Process)?;
        let (begun, command) = (Instant::now(), arguments.join(" "));
        Ok(Running { child, command, data, log, begun, cost: Cost::default() })
    }
}

/// What a process has cost from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spent {
    /// Memory and processor time.
    pub cost: Cost,
    /// From its start to its end.
    pub time: Duration,
}

/// A process that is being measured. Dropping it kills it.
pub struct Running {
    child: Child,
    command: String,
    /// Its data folder.
    pub data: PathBuf,
    /// Its log.
    pub log: PathBuf,
    begun: Instant,
    cost: Cost,
}

impl Running {
    /// What it has cost so far.
    pub fn cost(&mut self) -> Cost {
        if let Some(cost) = self.child.id().and_then(Cost::of) {
            self.cost = cost;
        }
        self.cost
    }

    /// Waits until it answers on its socket: its model is loaded and its index is open.
    ///
    /// # Errors
    /// If it ends, or takes beyond all patience.
    pub async fn answers(&mut self) -> Result<(), BenchError> {
        let begun = Instant::now();
        while UnixStream::connect(self.data.join("guildex.sock")).is_err() {
            if self.child.try_wait().map_err(BenchError::Process)?.is_some() {
                return Err(self.failed());
            }
            if begun.elapsed() > PATIENCE {
                return Err(BenchError::Stuck("the program did not begin to answer"));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Waits for its good end.
    ///
    /// # Errors
    /// If it ends badly.
    pub async fn ended(mut self) -> Result<Spent, BenchError> {
        let status = loop {
            self.cost();
            tokio::select! {
                status = self.child.wait() => break status.map_err(BenchError::Process)?,
                () = sleep(LOOK) => {}
            }
        };
        let spent = Spent { cost: self.cost, time: self.begun.elapsed() };
        if status.success() { Ok(spent) } else { Err(self.failed()) }
    }

    /// Kills it; what it cost until then.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub async fn kill(mut self) -> Result<Spent, BenchError> {
        let spent = Spent { cost: self.cost(), time: self.begun.elapsed() };
        self.child.kill().await.map_err(BenchError::Process)?;
        Ok(spent)
    }

    fn failed(&self) -> BenchError {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let told = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default().join("; ");
        BenchError::Failed { command: self.command.clone(), told }
    }
}
