use std::io::IsTerminal;
use std::time::Duration;

use anyhow::bail;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use guildex_consistency::heartbeat::STALE_AFTER;
use guildex_store::models::{self, ModelState};
use guildex_store::processes::{self, ProcessStatus};
use guildex_store::status::{self, GuildStatus, ModelStatus};
use serde::Serialize;

use super::print;
use crate::app::App;
use crate::cli::Status;

const REFRESH: Duration = Duration::from_secs(2);

/// JSON document of `--json`.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    models: Vec<ModelStatus>,
    guilds: Vec<GuildStatus>,
    processes: Vec<ProcessStatus>,
}

pub async fn run(app: &App, args: Status) -> anyhow::Result<()> {
    let pool = app.database().await?;
    let eligible = app.config().sessions.eligibility();
    loop {
        // The active model changes with a switch.
        let model = models::active(&pool).await?.unwrap_or_else(|| app.first_model().0.clone());
        let guilds = status::guilds(&pool, args.guild, &model, eligible).await?;
        let models = status::models(&pool, eligible).await?;
        let processes = processes::list_recent(&pool, STALE_AFTER).await?;
        if let (Some(guild), true) = (args.guild, guilds.is_empty() && !args.json) {
            bail!("unknown guild {guild}: import some of its messages first, or check the id");
        }
        if args.json {
            let report = Report { model: model.as_str(), models, guilds, processes };
            let json = if args.watch {
                serde_json::to_string(&report)?
            } else {
                serde_json::to_string_pretty(&report)?
            };
            print(&format!("{json}\n"))?;
        } else {
            if args.watch && std::io::stdout().is_terminal() {
                // Clears the screen and moves to its first line.
                print("\x1b[2J\x1b[H")?;
            }
            print(&format!("{}\n", table(&guilds)))?;
            print(&format!("\n{}\n", models_table(&models)))?;
            print(&format!("\n{}\n", processes_table(&processes)))?;
        }
        if !args.watch {
            return Ok(());
        }
        tokio::select! {
            pressed = tokio::signal::ctrl_c() => return Ok(pressed?),
            () = tokio::time::sleep(REFRESH) => {}
        }
    }
}

fn table(guilds: &[GuildStatus]) -> String {
    if guilds.is_empty() {
        return "no guilds yet: run `guildex import PATH`".to_owned();
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header([
        "guild",
        "name",
        "messages",
        "sessions",
        "eligible",
        "indexed",
        "pending",
        "dead",
        "oldest pending",
    ]);
    for guild in guilds {
        table.add_row([
            guild.guild_id.to_string(),
            guild.name.clone(),
            guild.messages.to_string(),
            guild.sessions.to_string(),
            guild.eligible.to_string(),
            guild.indexed.to_string(),
            guild.pending.to_string(),
            guild.dead.to_string(),
            guild.oldest_pending_seconds.map_or_else(|| "-".to_owned(), |age| format!("{age:.0} s")),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

fn models_table(models: &[ModelStatus]) -> String {
    if models.is_empty() {
        return "no models yet: run `guildex up` or `guildex init`".to_owned();
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["model", "state", "dimensions", "indexed", "missing", "points"]);
    for model in models {
        let state = match model.state {
            ModelState::Active => "active",
            ModelState::Filling => "filling",
            ModelState::Retired => "retired",
            ModelState::Dropping => "dropping",
        };
        table.add_row([
            model.model.to_string(),
            state.to_owned(),
            model.dimensions.to_string(),
            model.indexed.to_string(),
            model.missing.to_string(),
            model.points.to_string(),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

fn processes_table(processes: &[ProcessStatus]) -> String {
    if processes.is_empty() {
        return "no running processes: run `guildex up`".to_owned();
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["process", "role", "memory", "peak", "jobs", "slots"]);
    for process in processes {
        let memory = |bytes: Option<i64>| {
            bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{} MiB", bytes / (1024 * 1024)))
        };
        table.add_row([
            process.name.clone(),
            process.role.clone(),
            memory(process.memory_bytes),
            memory(process.peak_bytes),
            process.jobs.to_string(),
            process.slots.to_string(),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}
