//! Exports into Postgres, and messages into sessions.
//!
//! The import is the program's own, a process on a database of its own: from files to rows of messages, sessions and
//! jobs. Importing again finds everything stored. Sessionizing alone takes no database: messages in memory, in order.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use guildex_producer::sessionizer::{Rules, Sessionizer, Turn};
use guildex_types::{ChannelId, GuildId, Message};
use serde_json::{Value, json};

use crate::generate::{self, Generate};
use crate::measure::median;
use crate::{BenchError, Program, Report, Scratch, Servers, Spent, round};

/// Messages that are made where no exports are given, and guilds that they are of.
const MADE: (u64, u32) = (200_000, 5);
/// Runs of the sessionizer in one figure: one alone takes little longer than the clock's noise.
const ROUNDS: u32 = 3;

/// How much to measure.
#[derive(Debug, Clone)]
pub struct Ingest {
    /// Exports, or folders that hold some; where there are none, they are made.
    pub exports: Vec<PathBuf>,
    /// Runs of each kind.
    pub runs: usize,
}

/// Imports into an empty database, imports again, and sessionizes.
///
/// # Errors
/// If there are no exports, or a server or the program fails.
pub async fn run(servers: &Servers, program: &Program, options: &Ingest) -> Result<Report, BenchError> {
    let made = tempfile::tempdir().map_err(BenchError::Folder)?;
    let mut paths = options.exports.clone();
    if paths.is_empty() {
        let (messages, guilds) = MADE;
        let out = made.path().to_owned();
        generate::run(
            &Generate { messages, guilds, exports: generate::or_samples(Vec::new()), out, seed: 1 },
            |_| {},
        )?;
        paths.push(made.path().to_owned());
    }
    let channels = channels(&paths);
    let messages: usize = channels.values().map(Vec::len).sum();
    if messages == 0 {
        return Err(BenchError::Nothing { path: paths.first().cloned().unwrap_or_default() });
    }
    let about = format!(
        "{messages} messages of {} channels, from exports into Postgres; medians of {} runs",
        channels.len(),
        options.runs
    );
    let mut report =
        Report::new("ingest", about, &["what", "messages/s", "cpu us/message", "peak MiB", "sessions"]);

    let (mut first, mut again) = (Vec::new(), Vec::new());
    for _ in 0..options.runs {
        Scratch::with(servers, async |scratch| {
            program.run(scratch, &["migrate"]).await?;
            let shown: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            let import: Vec<&str> = ["import"].into_iter().chain(shown.iter().map(String::as_str)).collect();
            first.push(program.run(scratch, &import).await?);
            again.push(program.run(scratch, &import).await?);
            Ok(())
        })
        .await?;
    }
    for (what, spent) in [("import", first), ("import again", again)] {
        let of = |value: &dyn Fn(&Spent) -> f64| median(spent.iter().map(value)).unwrap_or_default();
        report.row([
            json!(what),
            round(messages as f64 / of(&|spent| spent.time.as_secs_f64()), 0),
            round(of(&|spent| spent.cost.processor.as_secs_f64() * 1e6 / messages as f64), 1),
            round(of(&|spent| spent.cost.peak_mib), 0),
            Value::Null,
        ]);
    }

    let (mut sessions, mut rates) = (0, Vec::new());
    for _ in 0..options.runs {
        let begun = Instant::now();
        for _ in 0..ROUNDS {
            sessions = channels.values().map(|channel| sessionize(channel)).sum();
        }
        rates.push(f64::from(ROUNDS) * messages as f64 / begun.elapsed().as_secs_f64());
    }
    report.row([
        json!("sessionize"),
        round(median(rates).unwrap_or_default(), 0),
        Value::Null,
        Value::Null,
        json!(sessions),
    ]);
    Ok(report)
}

/// The messages of each channel, in order.
fn channels(paths: &[PathBuf]) -> BTreeMap<(i64, i64), Vec<Message>> {
    let key = |guild: GuildId, channel: ChannelId| (guild.get(), channel.get());
    let mut channels: BTreeMap<(i64, i64), Vec<Message>> = BTreeMap::new();
    for path in guildex_discord_export::find_exports(paths).0 {
        // The import tells what is wrong with a file.
        let _ = guildex_discord_export::read_export(&path, 10_000, &mut |page| {
            let channel = key(page.header.guild_id, page.header.channel.id);
            channels.entry(channel).or_default().extend(page.messages);
            ControlFlow::Continue(())
        });
    }
    for messages in channels.values_mut() {
        messages.sort_by_key(|message| (message.sent_at, message.id));
        messages.dedup_by_key(|message| message.id);
    }
    channels
}

/// How many sessions a channel has.
fn sessionize(messages: &[Message]) -> usize {
    let mut sessionizer = Sessionizer::new(Rules::default());
    let talk = messages.iter().filter(|message| message.excluded_reason(false).is_none());
    talk.filter(|message| {
        let turn = Turn {
            id: message.id,
            author: message.author.id,
            sent_at: message.sent_at,
            reply_to: message.links.reply_to,
            mentions: &message.links.mentions,
        };
        sessionizer.push(&turn) == message.id
    })
    .count()
}
