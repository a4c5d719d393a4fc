use std::fmt::Write;

use guildex_search::{Request, Results};

use super::print;
use crate::app::App;
use crate::cli::Search;
use crate::open::{Purpose, open};

/// Searches through the process that holds the index, if one does, and else directly.
pub async fn run(app: &App, args: Search) -> anyhow::Result<()> {
    let Search { guild, channels, limit, json, query } = args;
    let request = Request {
        guild_id: guild,
        channels: (!channels.is_empty()).then_some(channels),
        query: query.join(" "),
        limit: usize::try_from(limit)?,
    };
    let results = match guildex_api::Client::connect(&app.socket()).await? {
        Some(holder) => holder.search(&request).await?,
        None => {
            let pool = app.database().await?;
            let open = open(app, &pool, Purpose::Read).await?;
            app.searcher(pool, &open).search(&request).await?
        }
    };
    if json {
        print(&format!("{}\n", serde_json::to_string_pretty(&results)?))?;
    } else {
        print(&text(&results))?;
    }
    Ok(())
}

fn text(results: &Results) -> String {
    if results.results.is_empty() {
        return "nothing found\n".to_owned();
    }
    let mut text = String::new();
    for (found, place) in results.results.iter().zip(1..) {
        let (from, messages) = (found.start_time.format("%Y-%m-%d %H:%M"), found.message_count);
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{place}. {:.4}  #{}  {from} UTC  {messages} message{}",
            found.score,
            found.channel_name,
            if messages == 1 { "" } else { "s" },
        );
        for line in found.preview.lines() {
            let _ = writeln!(text, "   {line}");
        }
        let _ = writeln!(text, "   {}\n", found.link);
    }
    text
}
