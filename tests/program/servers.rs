//! Servers of a test's own, which it may kill, freeze and spoil.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use url::Url;

use crate::world::{execute_on, signal, wait_until};

/// A server's process. It ends with the test.
struct Process(Option<Child>);

impl Process {
    fn id(&self) -> u32 {
        self.0.as_ref().expect("a running server").id()
    }

    fn has_ended(&mut self) -> bool {
        self.0.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some())
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.0.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A Redis with nothing in it, which keeps nothing.
pub struct Redis {
    process: Process,
    folder: TempDir,
    port: u16,
}

impl Redis {
    pub async fn start() -> Self {
        let mut redis =
            Self { process: Process(None), folder: tempfile::tempdir().unwrap(), port: free_port() };
        redis.restart().await;
        redis
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again, empty.
    pub async fn restart(&mut self) {
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .current_dir(self.folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is needed for this test: run scripts/test");
        self.process = Process(Some(child));
        wait_until("redis listens", || async { TcpStream::connect(("127.0.0.1", self.port)).is_ok() }).await;
    }

    /// Nobody gets an answer, and no connection breaks: a partition.
    pub fn freeze(&self) {
        signal(self.process.id(), "STOP");
    }

    pub fn wake(&self) {
        signal(self.process.id(), "CONT");
    }

    /// Tells it something.
    pub fn command(&self, words: &[&str]) {
        let port = self.port.to_string();
        let told = Command::new("redis-cli").args(["-e", "-p", &port]).args(words).output().unwrap();
        assert!(told.status.success(), "{words:?}: {told:?}");
    }
}

/// A Postgres with nothing in it. What it wrote survives its own death, though not the machine's.
pub struct Postgres {
    process: Process,
    /// Of the server's account.
    folder: TempDir,
    programs: PathBuf,
    port: u16,
}

impl Postgres {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        if let Some((user, group)) = account() {
            chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        let mut postgres = Self { process: Process(None), folder, programs: programs(), port: free_port() };
        let made = postgres
            .program("initdb")
            .args(["--pgdata=data", "--username=guildex", "--auth=trust", "--no-sync"])
            .args(["--encoding=UTF8", "--locale=C.UTF-8"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        postgres.restart().await;
        postgres
    }

    pub fn url(&self) -> Url {
        format!("postgres://guildex:guildex@127.0.0.1:{}/postgres", self.port).parse().unwrap()
    }

    /// `kill -9`: its children notice, and end by themselves.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again, as often as its former children's memory is in the way.
    pub async fn restart(&mut self) {
        let url = self.url();
        wait_until("postgres answers", || {
            if self.process.has_ended() {
                self.process = self.launch();
            }
            let connected = PgConnection::connect(url.as_str());
            async move { connected.await.is_ok() }
        })
        .await;
    }

    /// Runs SQL, as somebody who is not in the middle of anything.
    pub async fn execute(&self, sql: &str) {
        execute_on(&self.url(), sql).await.unwrap();
    }

    fn launch(&self) -> Process {
        let log = fs::File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let child = self
            .program("postgres")
            .args(["-D", "data", "-p", &self.port.to_string()])
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            .args(["-c", "fsync=off"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Process(Some(child))
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

/// Postgres refuses to run as root: then it runs as somebody else.
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

/// Where `scripts/services` finds them, too.
fn programs() -> PathBuf {
    let asked = Command::new("pg_config").arg("--bindir").output();
    let told = asked.ok().map(|told| PathBuf::from(String::from_utf8_lossy(&told.stdout).trim()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    told.into_iter()
        .chain(std::env::split_paths(&path))
        .chain(versions.map(|version| version.path().join("bin")))
        .find(|folder: &PathBuf| is_whole(folder))
        .expect("PostgreSQL's programs are needed for this test: run scripts/test")
}

fn is_whole(folder: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|program| folder.join(program).exists())
}
