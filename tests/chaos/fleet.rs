//! The program's processes, and a supervisor that restarts them.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// Longest graceful shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(60);

/// Settings that all processes share.
pub struct Setting {
    pub folder: PathBuf,
    pub database_url: String,
    pub redis_url: String,
}

impl Setting {
    /// Command that runs the program with these settings.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let inherited = |name: &str| !name.starts_with("GUILDEX_") || name == "GUILDEX_MODEL_DIR";
        let mut command = Command::new(env!("CARGO_BIN_EXE_guildex"));
        command
            .args(arguments)
            .current_dir(&self.folder)
            .env_clear()
            .envs(std::env::vars().filter(|(name, _)| inherited(name)))
            .env("DATABASE_URL", &self.database_url)
            .env("REDIS_URL", &self.redis_url)
            .env("GUILDEX_DATA_DIR", self.folder.join("d"))
            .stdin(Stdio::null());
        command
    }

    /// Runs the program, which must succeed.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command(arguments).output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "guildex {}: {}
{stderr}",
            arguments.join(" "),
            output.status
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// JSON output of the program, with any exit status.
    pub fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let output = self.command(arguments).output()?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)))
    }
}

/// All processes of one run.
pub struct Fleet {
    setting: Setting,
    members: Vec<Member>,
    /// Unexpected exits.
    pub unasked: usize,
}

struct Member {
    arguments: &'static [&'static str],
    child: Child,
    /// Whether the test killed or stopped it.
    stopped_by_test: bool,
}

impl Fleet {
    pub fn start(setting: Setting, roles: &[&'static [&'static str]]) -> anyhow::Result<Self> {
        let start = |arguments: &&'static [&'static str]| {
            Ok(Member { arguments, child: spawn(&setting, arguments)?, stopped_by_test: false })
        };
        let members = roles.iter().map(start).collect::<anyhow::Result<_>>()?;
        Ok(Self { setting, members, unasked: 0 })
    }

    pub fn setting(&self) -> &Setting {
        &self.setting
    }

    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// `kill -9`.
    pub fn kill(&mut self, member: usize) -> anyhow::Result<()> {
        self.members[member].stopped_by_test = true;
        Ok(self.members[member].child.kill()?)
    }

    /// Sends a signal; TERM asks for a graceful shutdown.
    pub fn signal(&mut self, member: usize, signal: &str) -> anyhow::Result<()> {
        let member = &mut self.members[member];
        member.stopped_by_test |= signal == "TERM";
        let pid = member.child.id().to_string();
        // It may have exited already.
        Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\" 2>/dev/null", signal, &pid]).status()?;
        Ok(())
    }

    /// Restarts processes that have exited.
    pub fn supervise(&mut self) -> anyhow::Result<()> {
        for member in &mut self.members {
            let Some(status) = member.child.try_wait()? else { continue };
            if !member.stopped_by_test {
                self.unasked += 1;
                eprintln!("chaos: guildex {} exited unexpectedly: {status}", member.arguments.join(" "));
            }
            member.child = spawn(&self.setting, member.arguments)?;
            member.stopped_by_test = false;
        }
        Ok(())
    }

    /// Stops all gracefully.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        for member in 0..self.members.len() {
            self.signal(member, "TERM")?;
        }
        let deadline = Instant::now() + SHUTDOWN_TIMEOUT;
        for member in &mut self.members {
            while member.child.try_wait()?.is_none() {
                ensure!(Instant::now() < deadline, "guildex {} does not stop", member.arguments.join(" "));
                sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.child.kill();
            let _ = member.child.wait();
        }
    }
}

fn spawn(setting: &Setting, arguments: &[&str]) -> anyhow::Result<Child> {
    let log = log(&setting.folder, arguments)?;
    Ok(setting.command(arguments).stdout(Stdio::null()).stderr(log).spawn()?)
}

/// Log file that all processes of a role append to; shown if the run fails.
fn log(folder: &Path, arguments: &[&str]) -> anyhow::Result<File> {
    let path = folder.join(format!("{}.log", arguments.join("-")));
    Ok(OpenOptions::new().create(true).append(true).open(path)?)
}
