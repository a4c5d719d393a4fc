#![doc = include_str!("../README.md")]

mod client;
mod server;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use client::{Client, ClientError};
pub use server::{ServeError, serve};

/// Request of [`Client::backup`].
#[derive(Debug, Serialize, Deserialize)]
struct BackupRequest {
    /// Absolute, because the two processes may have different working directories.
    folder: PathBuf,
}

/// Path of the socket of the process that holds a data folder.
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("guildex.sock")
}
