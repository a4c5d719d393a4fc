use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;
use url::Url;

use super::process::{Process, free_port};
use crate::sync::wait_until;

/// Runs SQL on a separate connection.
///
/// # Errors
/// If the server does not respond or a statement fails.
pub async fn execute_on(postgres: &Url, sql: &str) -> sqlx::Result<()> {
    let mut connection = PgConnection::connect(postgres.as_str()).await?;
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await?;
    connection.close().await
}

/// An empty PostgreSQL. Its data survives `kill -9`, but not a crash of the machine (`fsync` is off).
pub struct Postgres {
    process: Process,
    /// Owned by the server's account.
    folder: TempDir,
    programs: PathBuf,
    port: u16,
}

impl Postgres {
    /// A running server.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        if let Some((user, group)) = account() {
            chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        let mut postgres =
            Self { process: Process::default(), folder, programs: programs(), port: free_port() };
        let output = postgres
            .program("initdb")
            .args(["--pgdata=data", "--username=guildex", "--auth=trust", "--no-sync"])
            .args(["--encoding=UTF8", "--locale=C.UTF-8"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        postgres.restart().await;
        postgres
    }

    /// Address of its `postgres` database, as a superuser.
    pub fn url(&self) -> Url {
        format!("postgres://guildex:guildex@127.0.0.1:{}/postgres", self.port).parse().unwrap()
    }

    /// `kill -9`. Its child processes notice and end by themselves.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again. Retries while shared memory of the killed server's children is in the way.
    pub async fn restart(&mut self) {
        let url = self.url();
        wait_until("postgres answers", async || {
            if self.process.has_ended() {
                self.process = self.launch();
            }
            PgConnection::connect(url.as_str()).await.is_ok()
        })
        .await;
    }

    /// Runs SQL on a separate connection.
    pub async fn execute(&self, sql: &str) {
        execute_on(&self.url(), sql).await.unwrap();
    }

    fn launch(&self) -> Process {
        let log = fs::File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        Process::spawn(
            self.program("postgres")
                .args(["-D", "data", "-p", &self.port.to_string()])
                .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
                .args(["-c", "fsync=off"])
                .stdout(Stdio::null())
                .stderr(log),
        )
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        if let Some((user, group)) = account() {
            command.uid(user).gid(group);
        }
        command
    }
}

/// User and group to run as: PostgreSQL refuses to run as root.
fn account() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let find = |name: &str| {
        let user = users.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let mut ids = user.split(':').skip(1);
        Some((ids.next()?.parse().ok()?, ids.next()?.parse().ok()?))
    };
    Some(find("postgres").or_else(|| find("nobody")).expect("a user for postgres"))
}

/// Folder of PostgreSQL's programs, searched as `scripts/services` does.
fn programs() -> PathBuf {
    let output = Command::new("pg_config").arg("--bindir").output();
    let configured = output.ok().map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    configured
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain(versions.map(|version| version.path().join("bin")))
        .find(|folder: &PathBuf| has_server(folder))
        .expect("PostgreSQL's programs are needed for this test: run scripts/test")
}

fn has_server(folder: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|program| folder.join(program).exists())
}
