//! Searches a guild through a running `guildex up`, as a slash command would.
//!
//! After `scripts/demo`, with `guildex up` running in another shell:
//!
//! ```sh
//! source target/demo.env
//! cargo run -p guildex --example search -- 1100000000000000001 "corners of the print come off the bed"
//! ```
//!
//! Requests go to the socket in `data_dir`, which answers for every guild: restrict `channels` to those that the asking
//! member may see.

#![allow(clippy::print_stdout)]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use guildex_api::{Client, ClientError};
use guildex_search::SearchRequest;
use guildex_types::GuildId;

/// The server's `search.timeout`.
const TIMEOUT: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(guild), Some(query)) = (arguments.next(), arguments.next()) else {
        bail!("usage: search GUILD_ID QUERY [CHANNEL_ID...]");
    };
    let channels = arguments.map(|id| id.parse()).collect::<Result<Vec<_>, _>>()?;

    let socket = data_dir()?.join("guildex.sock");
    let client = Client::connect(&socket, TIMEOUT)
        .await?
        .with_context(|| format!("no process answers on {}: start `guildex up`", socket.display()))?;
    let request = SearchRequest {
        channels: (!channels.is_empty()).then_some(channels),
        limit: 3,
        ..SearchRequest::new(guild.parse::<GuildId>()?, query)
    };
    let response = match client.search(&request).await {
        Ok(response) => response,
        // Show this to the member: it says how to correct the query.
        Err(ClientError::Request(problem)) => bail!("{problem}"),
        Err(error) => return Err(error).context("search is unavailable; try again later"),
    };

    if response.degraded {
        println!("(full-text search only: {})", response.reason.unwrap_or_default());
    }
    if response.results.is_empty() {
        println!("no results");
    }
    for hit in response.results {
        println!(
            "{:.4}  #{}  {}  {}",
            hit.score,
            hit.channel_name,
            hit.start_time.date_naive(),
            hit.chunk.link
        );
        for line in hit.preview.lines() {
            println!("    {line}");
        }
    }
    Ok(())
}

fn data_dir() -> anyhow::Result<PathBuf> {
    std::env::var_os("GUILDEX_DATA_DIR").map(PathBuf::from).context("set GUILDEX_DATA_DIR")
}
