use std::time::Duration;

use anyhow::bail;
use guildex_index::Bulk;
use guildex_producer::Ingest;
use guildex_producer::backfill;
use guildex_types::{ChannelId, GuildId, ModelSlug};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::cli::Backfill;
use crate::progress::{Progress, Unit};
use crate::{shutdown, startup};

const POLL: Duration = Duration::from_millis(500);
/// After so long without progress, a hint is due.
const PATIENCE: Duration = Duration::from_secs(30);

/// Plans the work, and watches workers do it.
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
            None => bail!("guild {guild} is not known: import something of it first, or check the id"),
        }
    }
    tracing::info!(channels, messages = before.messages, sessions = before.sessions, "planned");
    if detach {
        return Ok(());
    }

    if bulk {
        startup::bulk(app, &ingest, &model, Bulk::Begin).await?;
    }
    watch(&ingest, guild, channel, &model, &stop).await?;
    if bulk {
        startup::bulk(app, &ingest, &model, Bulk::End).await?;
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
        progress.update(most - waiting, most, &format!("{} messages to place", left.messages));
        if left.is_over() {
            progress.finish(if waiting == 0 {
                "done"
            } else {
                "what is left has dead jobs: see `guildex status`"
            });
            return Ok(());
        }
        stall.watch(left);
        tokio::select! {
            () = stop.cancelled() => {
                progress.finish("no longer watched; the jobs stay planned");
                return Ok(());
            }
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

/// Notices that nothing moves.
pub struct Stall<T> {
    last: Option<T>,
    since: Instant,
    patience: Duration,
}

impl<T: PartialEq> Stall<T> {
    /// Begins to watch.
    pub fn new() -> Self {
        Self::after(PATIENCE)
    }

    /// Begins to watch, and gives the hint after another time.
    pub fn after(patience: Duration) -> Self {
        Self { last: None, since: Instant::now(), patience }
    }

    /// Gives a hint if what is left has been the same for long.
    pub fn watch(&mut self, left: T) {
        if self.last.as_ref() != Some(&left) {
            (self.last, self.since) = (Some(left), Instant::now());
        } else if self.since.elapsed() > self.patience {
            tracing::warn!("nothing moves: is a worker running? `guildex up` runs one, and a dispatcher");
            self.since = Instant::now();
        }
    }
}
