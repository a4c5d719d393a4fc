use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use guildex_producer::Ingested;
use guildex_producer::import::{self, Imported};

use crate::app::App;
use crate::cli::Import;
use crate::progress::{Progress, Unit};
use crate::shutdown;

/// Imports every file, whatever becomes of the others. The exit status says whether all of them were sound.
pub async fn run(app: &App, args: Import) -> anyhow::Result<ExitCode> {
    let stop = shutdown::on_signal()?;
    let (files, errors) = guildex_discord_export::find_exports(&args.paths);
    for error in &errors {
        tracing::error!("{error}");
    }
    let ingest = app.ingest(app.database().await?);
    let total: u64 = files.iter().map(|file| file.metadata().map_or(0, |m| m.len())).sum();
    let mut progress = Progress::new("importing", Unit::Bytes, total);

    let (mut messages, mut all, mut sound) = (0, Ingested::default(), errors.is_empty());
    let told = |bytes: u64, read: u64| progress.update(bytes, total, &format!("{read} messages"));
    let imported = import::files(&ingest, &files, &stop, told, |file, imported| {
        messages += imported.messages;
        all += imported.ingested;
        sound &= tell_faults(file, &imported);
    });
    if let Err((file, error)) = imported.await {
        return Err(error).with_context(|| format!("importing {}", file.display()));
    }
    let Ingested { new, edited, unchanged, sessions: _, jobs: _ } = all;
    progress.finish(&format!(
        "{messages} messages of {} files: {new} new, {edited} edited, {unchanged} unchanged",
        files.len()
    ));
    if stop.is_cancelled() {
        tracing::warn!("stopped before the end: run the same import again to go on");
        return Ok(ExitCode::from(130));
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says what is wrong with a file; returns whether nothing is.
fn tell_faults(file: &Path, imported: &Imported) -> bool {
    let path = file.display();
    for rejected in &imported.rejected {
        let id = rejected.id.map_or_else(|| "without a readable id".to_owned(), |id| id.to_string());
        tracing::error!("{path}: byte {}: message {id} left out: {}", rejected.offset, rejected.reason);
    }
    let untold = imported.rejected_total - u64::try_from(imported.rejected.len()).unwrap_or(0);
    if untold > 0 {
        tracing::error!("{path}: {untold} more messages left out");
    }
    if let Some(broken) = &imported.error {
        tracing::error!("{broken}; messages imported before the break: {}", imported.messages);
    }
    imported.error.is_none() && imported.rejected_total == 0
}
