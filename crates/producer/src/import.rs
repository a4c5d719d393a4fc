//! Import: export files into Postgres, page by page, several files at a time.
//!
//! A page is one transaction, so an import that is cut short keeps what it has read, and doing it again takes up
//! where it broke off: pages that are stored already change nothing. Pages of one channel wait for each other
//! ([`lock_channel`](guildex_store::lock_channel)); those of several are read and stored side by side, so that neither
//! this process nor Postgres waits for the other.

use std::num::NonZero;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use backon::{ExponentialBuilder, Retryable};
use guildex_store::channels::Channel;
use guildex_types::JobQueue;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::ingest::{Ingest, IngestError, Ingested};
use guildex_discord_export::{ExportError, Header, Page, Rejected, read_export};

/// Messages a page. Larger ones lock a channel for longer and save little.
const PAGE_SIZE: usize = 5_000;
/// The most files that are read at once, however many cores there are: each takes a connection, and the memory of
/// three pages.
const MAX_AT_ONCE: usize = 8;

/// How the import of one file went.
#[derive(Debug, Default)]
pub struct Imported {
    /// Messages read.
    pub messages: u64,
    /// What they changed.
    pub ingested: Ingested,
    /// Messages that could not be taken, at most [`MAX_REJECTED`] of them.
    pub rejected: Vec<Rejected>,
    /// How many could not be taken.
    pub rejected_total: u64,
    /// Why the file was not read to its end, if it was not.
    pub broken: Option<ExportError>,
}

/// How many rejected messages of a file are told apart.
pub const MAX_REJECTED: usize = 20;

/// Why an import had to stop. What was imported until then stays.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A page could not be stored.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The reader's thread is gone.
    #[error("the export reader stopped: {0}")]
    Reader(#[from] JoinError),
}

/// Imports files, several at a time, each until its end or until `stop`. `on_progress` hears how many bytes of all the
/// files and how many messages are done; `on_file` hears of each file how it went.
///
/// # Errors
/// If Postgres fails; with the file that could not be stored.
pub async fn files(
    ingest: &Ingest,
    paths: &[PathBuf],
    stop: &CancellationToken,
    mut on_progress: impl FnMut(u64, u64),
    mut on_file: impl FnMut(&Path, Imported),
) -> Result<(), (PathBuf, ImportError)> {
    let (told, mut tell) = mpsc::unbounded_channel::<(u64, u64)>();
    let (mut bytes, mut messages) = (0, 0);
    let mut waiting = paths.iter();
    let mut running = JoinSet::new();
    loop {
        while running.len() < at_once() && !stop.is_cancelled() {
            let Some(path) = waiting.next() else { break };
            let (ingest, path, stop, told) = (ingest.clone(), path.clone(), stop.clone(), told.clone());
            running.spawn(async move {
                let (mut before, size) = ((0, 0), path.metadata().map_or(0, |file| file.len()));
                let imported = file(&ingest, &path, &stop, |bytes, messages| {
                    let now = (bytes.min(size), messages);
                    // Nobody listens any more where another file has failed.
                    let _ = told.send((now.0 - before.0, now.1 - before.1));
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
            Some(more) = tell.recv() => {
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

/// Two for each core: while one waits for a commit or the network, another works.
fn at_once() -> usize {
    std::thread::available_parallelism().map_or(2, NonZero::get).saturating_mul(2).min(MAX_AT_ONCE)
}

/// Imports one file, until its end or until `stop`. `on_progress` hears how many bytes of the file and how many
/// messages are done.
///
/// # Errors
/// If Postgres fails. A broken file is no error of the import: it is told in [`Imported::broken`].
pub async fn file(
    ingest: &Ingest,
    path: &Path,
    stop: &CancellationToken,
    mut on_progress: impl FnMut(u64, u64),
) -> Result<Imported, ImportError> {
    // One page in the making, one waiting, one being stored.
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
        done.ingested += store.retry(ExponentialBuilder::default()).when(is_transient).await?;
        done.messages += u64::try_from(page.messages.len()).unwrap_or(0);
        done.rejected_total += u64::try_from(page.rejected.len()).unwrap_or(0);
        let room = MAX_REJECTED - done.rejected.len().min(MAX_REJECTED);
        done.rejected.extend(page.rejected.into_iter().take(room));
        on_progress(page.bytes_read, done.messages);
    }
    done.broken = reader.await?.err();
    Ok(done)
}

fn is_transient(error: &IngestError) -> bool {
    matches!(error, IngestError::Store(error) if error.is_transient())
}

/// The channel that an export is of.
pub fn channel(header: &Header) -> Channel {
    Channel {
        guild_id: header.guild_id,
        guild_name: header.guild_name.clone(),
        id: header.channel.id,
        name: header.channel.name.clone(),
        parent_id: header.channel.parent_channel().map(|parent| parent.id),
    }
}
