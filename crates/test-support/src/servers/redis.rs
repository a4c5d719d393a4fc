use std::net::TcpStream;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::process::{Process, free_port, signal};
use crate::sync::wait_until;

/// A Redis that starts empty and persists nothing.
pub struct Redis {
    process: Process,
    folder: TempDir,
    port: u16,
}

impl Redis {
    /// An address at which no server runs yet.
    pub fn stopped() -> Self {
        Self { process: Process::default(), folder: tempfile::tempdir().unwrap(), port: free_port() }
    }

    /// A running server.
    pub async fn start() -> Self {
        let mut redis = Self::stopped();
        redis.restart().await;
        redis
    }

    /// Starts it again, empty.
    pub async fn restart(&mut self) {
        self.restart_with(&[]).await;
    }

    /// Starts it with further arguments, such as `--requirepass`.
    pub async fn restart_with(&mut self, arguments: &[&str]) {
        self.kill();
        self.process = Process::spawn(
            Command::new("redis-server")
                .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""])
                .args(arguments)
                .current_dir(self.folder.path())
                .stdout(Stdio::null()),
        );
        wait_until("redis listens", async || TcpStream::connect(("127.0.0.1", self.port)).is_ok()).await;
    }

    /// Address without a password.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Address with a password.
    pub fn url_with(&self, password: &str) -> String {
        format!("redis://:{password}@127.0.0.1:{}", self.port)
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops it from answering, without closing a connection: a network partition.
    pub fn freeze(&self) {
        signal(self.process.id(), "STOP");
    }

    /// Ends [`freeze`](Self::freeze).
    pub fn wake(&self) {
        signal(self.process.id(), "CONT");
    }

    /// Runs a command by `redis-cli`.
    pub fn command(&self, words: &[&str]) {
        let port = self.port.to_string();
        let output = Command::new("redis-cli").args(["-e", "-p", &port]).args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
    }
}
