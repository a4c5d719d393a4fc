//! A PostgreSQL and a Redis of the run's own, started by `scripts/services`.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use tempfile::TempDir;
use url::Url;

/// One of the two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    Postgres,
    Redis,
}

impl Server {
    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
        }
    }
}

/// Both servers, stopped when dropped.
pub struct Servers {
    folder: TempDir,
    pub database_url: String,
    pub redis_url: String,
}

impl Servers {
    pub fn start() -> anyhow::Result<Self> {
        // The servers run as another user, who needs access.
        let open = Permissions::from_mode(0o711);
        let folder = tempfile::Builder::new().prefix("gxchaos").permissions(open).tempdir_in("/tmp")?;
        let mut servers = Self { folder, database_url: String::new(), redis_url: String::new() };
        servers.revive()?;
        let urls = "eval \"$(\"$0\" env)\" && printf '%s\\n' \"$DATABASE_URL\" \"$REDIS_URL\"";
        let output = servers.command("bash").args(["-c", urls, services()]).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let output = String::from_utf8(output.stdout)?;
        let mut lines = output.lines().map(str::to_owned);
        servers.database_url = lines.next().context("no DATABASE_URL")?;
        servers.redis_url = lines.next().context("no REDIS_URL")?;
        Ok(servers)
    }

    /// Folder for files of the run.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the servers that do not run.
    pub fn revive(&self) -> anyhow::Result<()> {
        self.services(&["start"])
    }

    /// Sends a signal to all processes of a server.
    pub fn signal(&self, server: Server, signal: &str) -> anyhow::Result<()> {
        self.services(&["signal", signal, server.name()])
    }

    /// Runs a Redis command.
    pub fn redis(&self, command: &[&str]) -> anyhow::Result<()> {
        let url = Url::parse(&self.redis_url)?;
        let output = Command::new("redis-cli")
            .env("REDISCLI_AUTH", url.password().unwrap_or_default())
            .args(["-h", "127.0.0.1", "-p", &url.port().unwrap_or_default().to_string()])
            .args(command)
            .output()?;
        let answer = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success() && answer.trim() == "OK", "redis-cli {command:?}: {answer}");
        Ok(())
    }

    fn services(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let output = self.command(services()).args(arguments).output()?;
        ensure!(
            output.status.success(),
            "services {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("CARGO_TARGET_DIR", self.folder.path())
            .env_remove("DATABASE_URL")
            .env_remove("REDIS_URL")
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for server in [Server::Postgres, Server::Redis] {
            let _ = self.signal(server, "CONT");
        }
        let _ = self.services(&["stop"]);
    }
}

fn services() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/services")
}
