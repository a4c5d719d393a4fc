use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use guildex_producer::Ingested;
use guildex_producer::import::{self, Imported};

use crate::app::App;
use crate::cli::Import;
use crate::progress::{Progress, Unit};
use crate::shutdown;

/// Imports every file, even if others fail. The exit status tells whether all of them were complete.
pub async fn run(app: &App, args: Import) -> anyhow::Result<ExitCode> {
    let stop = shutdown::on_signal()?;
    let (files, errors) = guildex_discord_export::find_exports(&args.paths);
    for error in &errors {
        tracing::error!("{error}");
    }
    let ingest = app.ingest(app.database().await?);
    let total: u64 = files.iter().map(|file| file.metadata().map_or(0, |m| m.len())).sum();
    let mut progress = Progress::new("importing", Unit::Bytes, total);

    let (mut messages, mut all, mut complete) = (0, Ingested::default(), errors.is_empty());
    let update = |bytes: u64, read: u64| progress.update(bytes, total, &format!("{read} messages"));
    let imported = import::files(&ingest, &files, &stop, update, |file, imported| {
        messages += imported.messages;
        all += imported.ingested;
        complete &= log_errors(file, &imported);
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
        tracing::warn!("import interrupted: run the same command again to continue");
        return Ok(ExitCode::from(130));
    }
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Logs the errors of a file; returns whether there are none.
fn log_errors(file: &Path, imported: &Imported) -> bool {
    let path = file.display();
    for rejected in &imported.rejected {
        let id = rejected.id.map_or_else(|| "without a readable id".to_owned(), |id| id.to_string());
        tracing::error!("{path}: byte {}: message {id} skipped: {}", rejected.offset, rejected.reason);
    }
    let not_listed = imported.rejected_total - u64::try_from(imported.rejected.len()).unwrap_or(0);
    if not_listed > 0 {
        tracing::error!("{path}: {not_listed} more messages skipped");
    }
    if let Some(broken) = &imported.error {
        tracing::error!("{broken}; messages imported before this error: {}", imported.messages);
    }
    imported.error.is_none() && imported.rejected_total == 0
}
