use std::time::Duration;

use anyhow::bail;
use guildex_index::BulkLoad;
use guildex_producer::{Ingest, backfill};
use guildex_types::{ChannelId, GuildId, ModelSlug};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::cli::Backfill;
use crate::progress::{Progress, Unit};
use crate::{shutdown, startup};

const POLL: Duration = Duration::from_millis(500);
/// Time without progress after which a hint is logged.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Enqueues the jobs and waits for workers to complete them.
pub async fn run(app: &App, args: Backfill) -> anyhow::Result<()> {
    let stop = shutdown::on_signal()?;
    let ingest = app.ingest(app.database().await?);
    let Backfill { guild, channel, detach, bulk } = args;
    let model = startup::active_model(app, ingest.pool()).await?.slug;
    let before =
        backfill::remaining(ingest.pool(), &ingest.config().sessions, guild, channel, &model).await?;
    let channels = backfill::plan(ingest.pool(), ingest.enqueuer(), guild, channel).await?;
    if channels == 0 {
        match channel {
            Some(channel) => bail!("guild {guild} has no channel {channel} with messages"),
            None => bail!("unknown guild {guild}: import some of its messages first, or check the id"),
        }
    }
    tracing::info!(
        channels,
        messages = before.messages,
        sessions = before.sessions,
        "backfill jobs enqueued"
    );
    if detach {
        return Ok(());
    }

    if bulk {
        startup::bulk(app, &ingest, &model, BulkLoad::Begin).await?;
    }
    watch(&ingest, guild, channel, &model, &stop).await?;
    if bulk {
        startup::bulk(app, &ingest, &model, BulkLoad::End).await?;
    }
    Ok(())
}

async fn watch(
    ingest: &Ingest,
    guild: GuildId,
    channel: Option<ChannelId>,
    model: &ModelSlug,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let mut progress = Progress::new("backfill", Unit::Things("messages and sessions"), 0);
    let (mut most, mut stall) = (0, Stall::new());
    loop {
        let left =
            backfill::remaining(ingest.pool(), &ingest.config().sessions, guild, channel, model).await?;
        let waiting = left.messages + left.sessions;
        most = most.max(waiting);
        progress.update(most - waiting, most, &format!("{} messages without a session", left.messages));
        if left.is_over() {
            progress.finish(if waiting == 0 {
                "done"
            } else {
                "the rest has dead jobs: see `guildex jobs list --state dead`"
            });
            return Ok(());
        }
        stall.watch(left);
        tokio::select! {
            () = stop.cancelled() => {
                progress.finish("stopped waiting; the jobs continue");
                return Ok(());
            }
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

/// Detection of missing progress.
pub struct Stall<T> {
    last: Option<T>,
    since: Instant,
    limit: Duration,
}

impl<T: PartialEq> Stall<T> {
    /// Starts with the default time limit.
    pub fn new() -> Self {
        Self::after(STALL_TIMEOUT)
    }

    /// Starts with another time limit.
    pub fn after(limit: Duration) -> Self {
        Self { last: None, since: Instant::now(), limit }
    }

    /// Logs a hint if `left` has not changed for too long.
    pub fn watch(&mut self, left: T) {
        if self.last.as_ref() != Some(&left) {
            (self.last, self.since) = (Some(left), Instant::now());
        } else if self.since.elapsed() > self.limit {
            tracing::warn!(
                "no progress: no worker seems to run; start one with `guildex up` or `guildex worker`"
            );
            self.since = Instant::now();
        }
    }
}
