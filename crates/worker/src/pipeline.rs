//! Index jobs, in stages that overlap: while one batch is being embedded, the next is read and the last one
//! written, so that the model never waits for a database.
//!
//! One session that fails fails alone: a batch that errors is tried again session by session.

mod embed;
mod read;
mod strays;
mod write;

pub(crate) use self::write::SyncError;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::future::try_join_all;
use futures::{FutureExt, StreamExt};
use guildex_embed::ModelRegistry;
use guildex_index::{Error, Point, VectorIndex};
use guildex_store::sessions::Session;
use guildex_types::{Eligibility, GuildId, JobId, Revision, SessionId};
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::breaker::Breaker;
use crate::limits::{Clock, Limit};
use crate::parts::Part;
use crate::targets::Target;
use guildex_document::PointDraft;

/// Batches that a stage works on at a time. Two: while one waits for I/O or for the last text of its batch,
/// the other goes on.
const OVERLAP: usize = 2;

/// What the stages of one model work with.
pub(crate) struct Parts {
    pub pool: PgPool,
    pub models: Arc<ModelRegistry>,
    pub index: Arc<dyn VectorIndex>,
    pub target: Target,
    pub breaker: Breaker,
    pub clock: Clock,
    pub eligible: Eligibility,
    pub previews: bool,
    /// Cancelled when no more work is to be begun: batches are let go before they are read or embedded.
    pub stop: CancellationToken,
}

/// Sessions by guild, each with the revision below which its points are to go.
type Older = BTreeMap<GuildId, Vec<(SessionId, Revision)>>;

impl Parts {
    /// Removes what is older, of all guilds at once: the index may then make it durable at once. The first that
    /// fails ends it: an index that is away is not asked once more for each guild.
    async fn delete_below(&self, older: &Older) -> Result<(), Error> {
        let delete = older
            .iter()
            .map(|(guild, sessions)| self.index.delete_below(&self.target.collection, *guild, sessions));
        try_join_all(delete).await.map(drop)
    }
}

/// A model's part of a job with the session that it is about, as it was read, and what is to be done: `D` to have points
/// written, which are drafts before the embedding and whole after it.
struct Work<D> {
    part: Part,
    session: Session,
    plan: Plan<D>,
}

enum Plan<D> {
    /// The session is gone or too small: its points go.
    Remove,
    /// The points show what the session is now: only the books change.
    Keep,
    /// The session's points are made anew.
    Write { parts: Vec<D>, content_hash: Vec<u8> },
}

type Drafted = Vec<Work<PointDraft>>;
type Embedded = Vec<Work<Point>>;

/// The jobs of a batch, and how long each of its steps may take.
fn bounds<'a>(parts: &Parts, batch: impl Iterator<Item = &'a Part> + Clone) -> (Limit, Arc<[JobId]>) {
    let limit = parts.clock.limit(batch.clone().map(|part| part.job().kind()));
    (limit, batch.map(Part::id).collect())
}

/// The stages of one job class and model.
pub(crate) struct Pipeline(mpsc::Sender<Vec<Part>>);

impl Pipeline {
    /// Starts the stages; they end when the pipeline is dropped and everything in it is done.
    pub fn start(parts: Arc<Parts>) -> Self {
        let (batches, read) = mpsc::channel(1);
        let drafted =
            stage(read, parts.clone(), |parts, batch| async move { read::read(&parts, batch).await });
        let embedded =
            stage(drafted, parts.clone(), |parts, batch| async move { embed::embed(&parts, batch).await });
        let mut written =
            stage(embedded, parts, |parts, batch| async move { write::write(&parts, batch).await });
        tokio::spawn(async move { while written.recv().await.is_some() {} });
        Self(batches)
    }

    pub async fn push(&self, batch: Vec<Part>) {
        let _ = self.0.send(batch).await;
    }
}

/// Runs `work` on each batch, [`OVERLAP`] at a time, and passes on what comes out, in a task of its own.
fn stage<A, B, F>(
    batches: mpsc::Receiver<A>,
    parts: Arc<Parts>,
    work: impl Fn(Arc<Parts>, A) -> F + Send + 'static,
) -> mpsc::Receiver<B>
where
    A: Send + 'static,
    B: Send + 'static,
    F: Future<Output = B> + Send + 'static,
{
    let (sender, results) = mpsc::channel(1);
    tokio::spawn(async move {
        // A panic must not end the stage. Its batch is dropped, which tells of each of its jobs.
        let mut done = ReceiverStream::new(batches)
            .map(move |batch| AssertUnwindSafe(work(parts.clone(), batch)).catch_unwind())
            .buffer_unordered(OVERLAP);
        while let Some(outcome) = done.next().await {
            if let Ok(result) = outcome
                && sender.send(result).await.is_err()
            {
                break;
            }
        }
    });
    results
}
