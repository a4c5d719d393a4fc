use anyhow::{Context, bail};
use guildex_consistency::backup::backup;
use guildex_consistency::restore;

use super::print;
use crate::app::App;
use crate::cli::Backup;
use crate::startup;

/// Backs up the index, through the process that holds it if there is one.
pub async fn back_up(app: &App, args: Backup) -> anyhow::Result<()> {
    let folder = std::path::absolute(&args.folder).context("there is no working directory")?;
    let models = match guildex_api::Client::connect(&app.socket(), app.config().search.timeout).await? {
        Some(holder) => holder.backup(&folder).await?,
        None => {
            let pool = app.database().await?;
            let index = startup::existing_index(app).await?;
            backup(&pool, index.as_ref(), &app.config().index.collection_prefix, &folder).await?
        }
    };
    for model in models {
        print(&format!("{model}: backed up in {}\n", folder.display()))?;
    }
    Ok(())
}

/// Restores a backup.
pub async fn restore(app: &App, args: Backup) -> anyhow::Result<()> {
    if guildex_api::Client::connect(&app.socket(), app.config().search.timeout).await?.is_some() {
        bail!("a process is using this data folder: stop `guildex up` and all workers first");
    }
    let pool = app.database().await?;
    let index = startup::index(app).await?;
    let base = &app.config().index.collection_prefix;
    let ingest = app.ingest(pool);
    let restored = restore::restore(&ingest, index.as_ref(), base, &args.folder).await?;
    for (model, repaired) in restored {
        print(&format!(
            "{model}: restored; {} sessions up to date, {} to be indexed again, {} deleted ones removed\n",
            repaired.consistent, repaired.reindexed, repaired.orphaned
        ))?;
    }
    print("the next `guildex up` or `guildex worker` indexes later changes\n")
}
