//! The HTTP face of search, on a Unix socket in the data folder.
//!
//! The embedded index belongs to one process at a time. While that is `up`, a `search` elsewhere goes through
//! it: [`serve`] answers on the socket, [`Client`] asks. File permissions guard the socket: it is its owner's.

mod client;
mod server;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use client::{Client, ClientError};
pub use server::{ServeError, serve};

/// What [`Client::backup`] asks for.
#[derive(Debug, Serialize, Deserialize)]
struct BackUp {
    /// Absolute: the two processes may stand in different folders.
    folder: PathBuf,
}

/// Where the process that holds a data folder listens.
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("guildex.sock")
}
