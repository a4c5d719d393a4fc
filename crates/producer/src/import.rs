//! Imports export files into Postgres, page by page and several files at a time.
//!
//! Each page is one transaction. An interrupted import keeps the pages it stored; running it again is idempotent and
//! continues from there. Pages of one channel are serialized by
//! [`lock_channel`](guildex_store::lock_channel); different files are read and stored in parallel.

use std::num::NonZero;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backon::Retryable;
use guildex_store::channels::Channel;
use guildex_types::{JobQueue, RetryPolicy};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::ingest::{Ingest, IngestError, Ingested};
use guildex_discord_export::{ExportError, Header, Page, Rejected, read_export};

/// Messages per page. Larger pages hold the channel lock longer and save little.
const PAGE_SIZE: usize = 5_000;
/// Delays after transient errors of Postgres.
const RETRY: RetryPolicy = RetryPolicy::new(Duration::from_secs(1), Duration::from_secs(60)).without_jitter();
/// Attempts to store a page again.
const RETRIES: usize = 3;
/// Maximum number of parallel files, independent of the number of cores: each takes a connection and the memory of three
/// pages.
const MAX_PARALLEL_FILES: usize = 8;

/// Result of importing one file.
#[derive(Debug, Default)]
pub struct Imported {
    /// Messages read.
    pub messages: u64,
    /// Counts of the ingest.
    pub ingested: Ingested,
    /// Rejected messages, at most [`MAX_REJECTED`].
    pub rejected: Vec<Rejected>,
    /// Number of rejected messages.
    pub rejected_total: u64,
    /// Error that ended the read early.
    pub error: Option<ExportError>,
}

/// Maximum number of rejected messages reported for a file.
pub const MAX_REJECTED: usize = 20;

/// An import failed. Stored pages remain.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A page could not be stored.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The reader thread panicked.
    #[error("the export reader stopped: {0}")]
    Reader(#[from] JoinError),
}

/// Imports files in parallel until their ends or until `stop`. `on_progress` receives the bytes and messages processed
/// so far, over all files; `on_file` receives the result of each file.
///
/// # Errors
/// If Postgres fails; with the path of the file that could not be stored.
pub async fn files(
    ingest: &Ingest,
    paths: &[PathBuf],
    stop: &CancellationToken,
    mut on_progress: impl FnMut(u64, u64),
    mut on_file: impl FnMut(&Path, Imported),
) -> Result<(), (PathBuf, ImportError)> {
    let (progress_tx, mut progress_rx) = mpsc::unbounded_channel::<(u64, u64)>();
    let (mut bytes, mut messages) = (0, 0);
    let mut pending = paths.iter();
    let mut running = JoinSet::new();
    loop {
        while running.len() < parallel_files() && !stop.is_cancelled() {
            let Some(path) = pending.next() else { break };
            let (ingest, path, stop, progress_tx) =
                (ingest.clone(), path.clone(), stop.clone(), progress_tx.clone());
            running.spawn(async move {
                let (mut before, size) = ((0, 0), path.metadata().map_or(0, |file| file.len()));
                let imported = file(&ingest, &path, &stop, |bytes, messages| {
                    let now = (bytes.min(size), messages);
                    // The receiver is closed if another file failed.
                    let _ = progress_tx.send((now.0 - before.0, now.1 - before.1));
                    before = now;
                });
                match imported.await {
                    Ok(imported) => Ok((path, imported)),
                    Err(error) => Err((path, error)),
                }
            });
        }
        if running.is_empty() {
            return Ok(());
        }
        tokio::select! {
            Some(more) = progress_rx.recv() => {
                (bytes, messages) = (bytes + more.0, messages + more.1);
                on_progress(bytes, messages);
            }
            Some(ended) = running.join_next() => {
                let (path, imported) = ended.map_err(|error| (PathBuf::new(), error.into())).flatten()?;
                on_file(&path, imported);
            }
        }
    }
}

/// Returns twice the number of cores: while one file waits for a commit or the network, another is processed.
fn parallel_files() -> usize {
    std::thread::available_parallelism().map_or(2, NonZero::get).saturating_mul(2).min(MAX_PARALLEL_FILES)
}

/// Imports one file until its end or until `stop`. `on_progress` receives the bytes and messages processed so far.
///
/// # Errors
/// If Postgres fails. An invalid file is reported in [`Imported::error`] instead.
pub async fn file(
    ingest: &Ingest,
    path: &Path,
    stop: &CancellationToken,
    mut on_progress: impl FnMut(u64, u64),
) -> Result<Imported, ImportError> {
    // One page is being read, one waits and one is being stored.
    let (pages, mut read) = mpsc::channel::<Page>(1);
    let (reader_path, reader_stop) = (path.to_owned(), stop.clone());
    let reader = tokio::task::spawn_blocking(move || {
        read_export(&reader_path, PAGE_SIZE, &mut |page| {
            if reader_stop.is_cancelled() || pages.blocking_send(page).is_err() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
    });

    let mut done = Imported::default();
    while let Some(page) = read.recv().await {
        let channel = channel(&page.header);
        let store = || ingest.messages(&channel, &page.messages, JobQueue::Backfill);
        done.ingested += store.retry(RETRY.delays().take(RETRIES)).when(is_transient).await?;
        done.messages += u64::try_from(page.messages.len()).unwrap_or(0);
        done.rejected_total += u64::try_from(page.rejected.len()).unwrap_or(0);
        let room = MAX_REJECTED - done.rejected.len().min(MAX_REJECTED);
        done.rejected.extend(page.rejected.into_iter().take(room));
        on_progress(page.bytes_read, done.messages);
    }
    done.error = reader.await?.err();
    Ok(done)
}

fn is_transient(error: &IngestError) -> bool {
    matches!(error, IngestError::Store(error) if error.is_transient())
}

/// Converts the header of an export to a channel.
pub fn channel(header: &Header) -> Channel {
    Channel {
        guild_id: header.guild_id,
        guild_name: header.guild_name.clone(),
        id: header.channel.id,
        name: header.channel.name.clone(),
        parent_id: header.channel.parent_channel().map(|parent| parent.id),
    }
}
