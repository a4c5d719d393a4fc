use std::io::IsTerminal;
use std::time::Duration;

use anyhow::bail;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use guildex_store::status::{self, GuildStatus};
use serde::Serialize;

use super::print;
use crate::app::App;
use crate::cli::Status;

const REFRESH: Duration = Duration::from_secs(2);

/// The whole answer, as `--json` prints it.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    guilds: Vec<GuildStatus>,
}

pub async fn run(app: &App, args: Status) -> anyhow::Result<()> {
    let pool = app.database().await?;
    let eligible = app.config().sessions.eligibility();
    loop {
        let guilds = status::guilds(&pool, args.guild, app.model(), eligible).await?;
        if let (Some(guild), true) = (args.guild, guilds.is_empty() && !args.json) {
            bail!("guild {guild} is not known: import something of it first, or check the id");
        }
        if args.json {
            let report = Report { model: app.model().as_str(), guilds };
            let json = if args.watch {
                serde_json::to_string(&report)?
            } else {
                serde_json::to_string_pretty(&report)?
            };
            print(&format!("{json}\n"))?;
        } else {
            if args.watch && std::io::stdout().is_terminal() {
                // Clears the screen and goes to its first line.
                print("\x1b[2J\x1b[H")?;
            }
            print(&format!("{}\n", table(&guilds)))?;
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
        return "no guild yet: `guildex import PATH` brings one".to_owned();
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
