use std::fmt::Write;

use guildex_search::{SearchRequest, SearchResponse, SurroundingMessage};

use super::print;
use crate::app::App;
use crate::cli::Search;
use crate::startup;

/// Searches through the process that holds the index if there is one, and otherwise directly.
pub async fn run(app: &App, args: Search) -> anyhow::Result<()> {
    let json = args.json;
    let request = request(args)?;
    let deadline = app.config().search.timeout;
    let results = match guildex_api::Client::connect(&app.socket(), deadline).await? {
        Some(holder) => holder.search(&request).await?,
        None => {
            let pool = app.database().await?;
            let index = startup::existing_index(app).await?;
            let active = startup::check_active(app, &pool, index.as_ref()).await?;
            let models = app.models()?;
            // Loads the model before the search's timeout starts. The search reports errors of the model.
            let _ = models.get(request.model.as_ref().unwrap_or(&active)).await;
            app.searcher(pool, models, index).search(&request).await?
        }
    };
    if results.degraded {
        let reason = results.reason.as_deref().unwrap_or("the index is unavailable");
        eprintln!("warning: answered by Postgres full-text search: {reason}");
    }
    if json {
        print(&format!("{}\n", serde_json::to_string_pretty(&results)?))?;
    } else {
        print(&text(&results))?;
    }
    Ok(())
}

fn request(args: Search) -> anyhow::Result<SearchRequest> {
    Ok(SearchRequest {
        channels: (!args.channels.is_empty()).then_some(args.channels),
        authors: (!args.authors.is_empty()).then_some(args.authors),
        since: args.since,
        until: args.until,
        mode: args.mode.map(Into::into),
        min_score: args.min_score,
        limit: args.limit.try_into()?,
        offset: args.offset.try_into()?,
        surrounding: args.surrounding.try_into()?,
        model: args.model,
        ..SearchRequest::new(args.guild, args.query.join(" "))
    })
}

fn text(results: &SearchResponse) -> String {
    if results.results.is_empty() {
        return "no results\n".to_owned();
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
        let surrounding = found.surrounding.clone().unwrap_or_default();
        for line in surrounding.before.iter().map(beside) {
            let _ = writeln!(text, "{line}");
        }
        for line in found.preview.lines() {
            let _ = writeln!(text, "   {line}");
        }
        for line in surrounding.after.iter().map(beside) {
            let _ = writeln!(text, "{line}");
        }
        let _ = writeln!(text, "   {}\n", found.chunk.link);
    }
    text
}

/// Formats a surrounding message, marked with `:` if it belongs to another conversation.
fn beside(neighbor: &SurroundingMessage) -> String {
    let mark = if neighbor.in_session { '|' } else { ':' };
    format!(" {mark} {}: {}", neighbor.author_name, neighbor.text.replace('\n', " "))
}
