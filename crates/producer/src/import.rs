//! Import: export files into Postgres, page by page.
//!
//! A page is one transaction, so an import that is cut short keeps what it has read, and doing it again takes up
//! where it broke off: pages that are stored already change nothing.

use std::ops::ControlFlow;
use std::path::Path;

use backon::{ExponentialBuilder, Retryable};
use guildex_store::channels::Channel;
use guildex_types::JobClass;
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use crate::export::{self, ExportError, Header, Page, Rejected};
use crate::ingest::{Ingest, IngestError, Ingested};

/// Messages a page. Larger ones lock a channel for longer and save little.
const PAGE_SIZE: usize = 2_000;

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
        export::read(&reader_path, PAGE_SIZE, &mut |page| {
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
        let store = || ingest.messages(&channel, &page.messages, JobClass::Backfill);
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
