use std::time::Duration;

use anyhow::bail;
use guildex_producer::backfill;
use tokio::time::Instant;

use crate::app::App;
use crate::cli::Backfill;
use crate::progress::{Progress, Unit};
use crate::shutdown;

const POLL: Duration = Duration::from_millis(500);
/// After so long without progress, a hint is due.
const PATIENCE: Duration = Duration::from_secs(30);

/// Plans the work, and watches workers do it.
pub async fn run(app: &App, args: Backfill) -> anyhow::Result<()> {
    let stop = shutdown::on_signal()?;
    let ingest = app.ingest(app.database().await?);
    let Backfill { guild, channel, detach } = args;
    let before = backfill::remaining(&ingest, guild, channel, app.model()).await?;
    let channels = backfill::plan(&ingest, guild, channel).await?;
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

    let mut progress = Progress::new("backfill", Unit::Things("messages and sessions"), 0);
    let (mut most, mut last, mut since) = (0, None, Instant::now());
    loop {
        let left = backfill::remaining(&ingest, guild, channel, app.model()).await?;
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
        if last != Some(left) {
            (last, since) = (Some(left), Instant::now());
        } else if since.elapsed() > PATIENCE {
            tracing::warn!("nothing moves: is a worker running? `guildex up` runs one, and a dispatcher");
            since = Instant::now();
        }
        tokio::select! {
            () = stop.cancelled() => {
                progress.finish("no longer watched; the jobs stay planned");
                return Ok(());
            }
            () = tokio::time::sleep(POLL) => {}
        }
    }
}
