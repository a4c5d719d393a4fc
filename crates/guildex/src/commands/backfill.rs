use std::time::Duration;

use anyhow::bail;
use guildex_producer::backfill;

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

    let mut progress = Progress::new("backfill", Unit::Things("jobs"), 0);
    let (mut most, mut last, mut since) = (0, u64::MAX, tokio::time::Instant::now());
    loop {
        let left = backfill::remaining(&ingest, guild, channel, app.model()).await?;
        most = most.max(left.jobs);
        let waiting = format!("{} messages to place, {} sessions to index", left.messages, left.sessions);
        progress.update(most - left.jobs, most, &waiting);
        if left.jobs == 0 {
            progress.finish(&waiting);
            return Ok(());
        }
        if left.jobs != last {
            (last, since) = (left.jobs, tokio::time::Instant::now());
        } else if since.elapsed() > PATIENCE {
            tracing::warn!("nothing moves: is a worker running? `guildex up` runs one, and a dispatcher");
            since = tokio::time::Instant::now();
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
