//! Import and sessionizing throughput.
//!
//! The program imports exports into an empty database: from files to rows of messages, sessions and jobs. A second import
//! finds all messages stored. Sessionizing is measured on messages in memory.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use guildex_producer::sessionizer::{Rules, Sessionizer, Turn};
use guildex_types::{ChannelId, GuildId, Message};
use serde_json::{Value, json};

use crate::generate::{self, Generate};
use crate::measure::median;
use crate::{BenchError, Program, Report, Sandbox, Servers, Spent, round};

/// Messages and guilds that are generated if no exports are given.
const GENERATED: (u64, u32) = (200_000, 5);
/// Repetitions of the sessionizer per run: a single one is too short to measure.
const ROUNDS: u32 = 3;

/// Options of the benchmark.
#[derive(Debug, Clone)]
pub struct Ingest {
    /// Exports, or directories of exports; generated if empty.
    pub exports: Vec<PathBuf>,
    /// Number of runs.
    pub runs: usize,
}

/// Imports into an empty database, imports again, and sessionizes.
///
/// # Errors
/// If the exports contain no messages, or a server or the program fails.
pub async fn run(servers: &Servers, program: &Program, options: &Ingest) -> Result<Report, BenchError> {
    let generated = tempfile::tempdir().map_err(BenchError::Folder)?;
    let mut paths = options.exports.clone();
    if paths.is_empty() {
        let (messages, guilds) = GENERATED;
        let out = generated.path().to_owned();
        generate::run(
            &Generate { messages, guilds, exports: generate::or_samples(Vec::new()), out, seed: 1 },
            |_| {},
        )?;
        paths.push(generated.path().to_owned());
    }
    let channels = channels(&paths);
    let messages: usize = channels.values().map(Vec::len).sum();
    if messages == 0 {
        return Err(BenchError::Nothing { path: paths.first().cloned().unwrap_or_default() });
    }
    let about = format!(
        "import of {messages} messages of {} channels; medians of {} runs",
        channels.len(),
        options.runs
    );
    let mut report =
        Report::new("ingest", about, &["what", "messages/s", "cpu us/message", "peak MiB", "sessions"]);

    let (mut first, mut again) = (Vec::new(), Vec::new());
    for _ in 0..options.runs {
        Sandbox::with(servers, async |sandbox| {
            program.run(sandbox, &["migrate"]).await?;
            let shown: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            let import: Vec<&str> = ["import"].into_iter().chain(shown.iter().map(String::as_str)).collect();
            first.push(program.run(sandbox, &import).await?);
            again.push(program.run(sandbox, &import).await?);
            Ok(())
        })
        .await?;
    }
    for (what, spent) in [("import", first), ("import again", again)] {
        let median_of = |value: &dyn Fn(&Spent) -> f64| median(spent.iter().map(value)).unwrap_or_default();
        report.row([
            json!(what),
            round(messages as f64 / median_of(&|spent| spent.time.as_secs_f64()), 0),
            round(median_of(&|spent| spent.cost.processor.as_secs_f64() * 1e6 / messages as f64), 1),
            round(median_of(&|spent| spent.cost.peak_mib), 0),
            Value::Null,
        ]);
    }

    let (mut sessions, mut rates) = (0, Vec::new());
    for _ in 0..options.runs {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            sessions = channels.values().map(|channel| sessionize(channel)).sum();
        }
        rates.push(f64::from(ROUNDS) * messages as f64 / start.elapsed().as_secs_f64());
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

/// Reads the messages of each channel in order.
fn channels(paths: &[PathBuf]) -> BTreeMap<(i64, i64), Vec<Message>> {
    let key = |guild: GuildId, channel: ChannelId| (guild.get(), channel.get());
    let mut channels: BTreeMap<(i64, i64), Vec<Message>> = BTreeMap::new();
    for path in guildex_discord_export::find_exports(paths).0 {
        // The import reports errors of files.
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

/// Number of sessions of a channel.
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
