use anyhow::bail;
use guildex_index::bm25;
use guildex_producer::backfill;
use guildex_store::channels;

use super::print;
use crate::app::App;
use crate::cli::Language;

/// Shows or sets a guild's language. A change indexes all its sessions again.
pub async fn run(app: &App, args: Language) -> anyhow::Result<()> {
    let pool = app.database().await?;
    let Some(wanted) = args.language else {
        let language = channels::language(&pool, args.guild).await?;
        return print(&format!("{}\n", language.as_deref().unwrap_or("none")));
    };
    let name = (wanted != bm25::Language::None).then(|| wanted.to_string());
    let ingest = app.ingest(pool.clone());
    let mut tx = pool.begin().await?;
    let changed = channels::set_language(&mut tx, args.guild, name.as_deref()).await?;
    tx.commit().await?;
    if changed.is_none() && channels::language(&pool, args.guild).await? != name {
        bail!("unknown guild {}: import some of its messages first, or check the id", args.guild);
    }
    // Enqueued even if nothing changed: an earlier call may have been interrupted before this step.
    let channels = backfill::plan(&ingest, args.guild, None).await?;
    tracing::info!(language = %wanted, sessions = changed.unwrap_or(0), channels, "language set; changed sessions are indexed again");
    Ok(())
}
