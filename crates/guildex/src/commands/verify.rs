use std::fmt::Write;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use guildex_consistency::verify::{DifferenceKind, GuildReport, ModelReport, Report, Request};
use guildex_store::{StoreError, jobs, sessions};
use guildex_types::GuildId;
use sqlx::PgPool;

use super::backfill::Stall;
use super::print;
use crate::app::App;
use crate::cli::Verify;
use crate::progress::{Progress, Unit};
use crate::startup;

const POLL: Duration = Duration::from_millis(500);

const KINDS: [DifferenceKind; 6] = [
    DifferenceKind::Missing,
    DifferenceKind::Stale,
    DifferenceKind::Orphaned,
    DifferenceKind::WrongGuild,
    DifferenceKind::Misplaced,
    DifferenceKind::WrongHash,
];

/// Compares Postgres with the index, and fails if the last comparison finds a difference.
pub async fn run(app: &App, args: Verify) -> anyhow::Result<ExitCode> {
    let pool = app.database().await?;
    let mut request = Request { guild: args.guild, repair: args.repair, examples: args.examples as usize };
    let mut report = compare(app, &pool, &request).await?;
    let mut repaired = args.repair;
    if args.wait && report.repairs > 0 {
        wait(&pool, args.guild).await?;
        (request.repair, repaired) = (false, false);
        report = compare(app, &pool, &request).await?;
    }
    if args.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    } else {
        print(&text(&report, repaired))?;
    }
    Ok(if report.differences == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Compares through the process that holds the index if there is one, and otherwise directly.
async fn compare(app: &App, pool: &PgPool, request: &Request) -> anyhow::Result<Report> {
    if let Some(holder) = guildex_api::Client::connect(&app.socket(), app.config().search.timeout).await? {
        tracing::info!("comparing in the process that holds the index; this can take minutes");
        return Ok(holder.verify(request).await?);
    }
    // A repair recreates a lost index.
    let index =
        if request.repair { startup::index(app).await? } else { startup::existing_index(app).await? };
    let progress = Mutex::new(Progress::new("comparing", Unit::Things("points and sessions"), 0));
    let report = app
        .verifier(pool.clone(), index)
        .verify(request, &|now| {
            progress.lock().unwrap_or_else(PoisonError::into_inner).update(now.done, now.total, "");
        })
        .await?;
    progress.into_inner().unwrap_or_else(PoisonError::into_inner).finish("compared");
    Ok(report)
}

/// Waits until all jobs enqueued so far are completed or dead.
async fn wait(pool: &PgPool, guild: Option<GuildId>) -> anyhow::Result<()> {
    let mut db = pool.acquire().await.map_err(StoreError::from)?;
    let now = sessions::next_revision(&mut db).await?;
    drop(db);
    let most = jobs::unfinished_before(pool, guild, now).await?;
    let mut progress = Progress::new("repairing", Unit::Things("jobs"), most);
    let mut stall = Stall::new();
    loop {
        let left = jobs::unfinished_before(pool, guild, now).await?;
        progress.update(most.saturating_sub(left), most, "");
        if left == 0 {
            progress.finish("done");
            return Ok(());
        }
        stall.watch(left);
        tokio::time::sleep(POLL).await;
    }
}

fn text(report: &Report, repaired: bool) -> String {
    let mut text = String::new();
    for model in &report.models {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", table(model));
        for guild in &model.guilds {
            write_examples(&mut text, guild);
        }
        text.push('\n');
    }
    let Report { differences, in_progress, repairs, .. } = report;
    if *differences == 0 {
        text.push_str("Postgres and the index agree");
    } else {
        let _ = write!(text, "Postgres and the index differ in {differences} places");
    }
    if *in_progress > 0 {
        let _ = write!(text, "; {in_progress} more are being indexed");
    }
    text.push('\n');
    match (repaired, *differences) {
        (_, 0) => {}
        (true, _) => {
            let _ = writeln!(
                text,
                "enqueued {repairs} repair jobs: run `guildex up` or a worker, then verify again"
            );
        }
        (false, _) => text.push_str("`guildex verify --repair` repairs them\n"),
    }
    text
}

/// Rows of the guilds with differences or jobs in progress, and the total.
fn table(model: &ModelReport) -> String {
    let mut table = Table::new();
    let names = KINDS.map(|kind| kind.as_str().replace('_', " "));
    let header = [model.model.as_str(), "points", "up to date", "in progress"].map(str::to_owned);
    table.load_style(NOTHING).set_header(header.into_iter().chain(names));
    for guild in model.guilds.iter().filter(|guild| guild.count() + guild.in_progress > 0) {
        table.add_row(row(format!("guild {}", guild.guild_id), &[guild]));
    }
    table.add_row(row("all guilds".to_owned(), &model.guilds.iter().collect::<Vec<_>>()));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

fn row(name: String, guilds: &[&GuildReport]) -> Vec<String> {
    let sum = |number: &dyn Fn(&GuildReport) -> u64| guilds.iter().map(|guild| number(guild)).sum::<u64>();
    let mut row = vec![
        name,
        sum(&|guild| guild.points).to_string(),
        sum(&|guild| guild.consistent).to_string(),
        sum(&|guild| guild.in_progress).to_string(),
    ];
    for kind in KINDS {
        row.push(sum(&|guild| guild.differences.get(&kind).map_or(0, |found| found.count)).to_string());
    }
    row
}

fn write_examples(text: &mut String, guild: &GuildReport) {
    for (kind, found) in &guild.differences {
        for example in &found.examples {
            let kind = kind.as_str().replace('_', " ");
            let _ = write!(text, "  {kind}: guild {}, session {}", guild.guild_id, example.session_id);
            if let Some(point) = example.point_id {
                let _ = write!(text, ", point {point}");
            }
            text.push('\n');
        }
        let shown = found.examples.len() as u64;
        if shown > 0 && found.count > shown {
            let _ = writeln!(text, "  ... and {} more", found.count - shown);
        }
    }
}
