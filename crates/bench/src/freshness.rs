//! Freshness: time from storing a message until a search finds it.
//!
//! Messages of exports arrive at a steady rate in several channels. They keep their times, so that they form the same
//! sessions as in the export. Measurement starts when the message's transaction has committed.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use guildex_api::Client;
use guildex_index::Mode;
use guildex_producer::{Ingest, IngestConfig};
use guildex_search::SearchRequest;
use guildex_store::channels::Channel;
use guildex_store::jobs;
use guildex_types::{Eligibility, JobQueue, Message, MessageId};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};
use uuid::Uuid;

use crate::measure::Durations;
use crate::program::Running;
use crate::{BenchError, Program, Report, Sandbox, Servers, round};

/// Interval of checking `indexed_sessions`.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Interval of repeating a search.
const SEARCH_INTERVAL: Duration = Duration::from_millis(20);
/// One in this number of messages is searched for; all are looked up in `indexed_sessions`.
const PROBE_EVERY: usize = 10;
/// Age at which a message counts as lost.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum number of channels.
const MAX_CHANNELS: usize = 500;
/// Messages of each channel that are indexed before the measurement.
const HISTORY: usize = 50;
/// Minimum words of a message that is searched for.
const MIN_WORDS: usize = 5;
/// Maximum bytes of a message that is searched for.
const MAX_BYTES: usize = 2_000;

/// Options of the benchmark.
#[derive(Debug, Clone)]
pub struct Freshness {
    /// Exports with the messages.
    pub exports: Vec<PathBuf>,
    /// Messages per second.
    pub rate: u32,
    /// Duration in seconds.
    pub seconds: u32,
    /// Settings for storing messages, as in the bot's process.
    pub ingest: IngestConfig,
}

/// Stored message of an eligible session, with the state of the session after the message.
struct StoredMessage {
    id: MessageId,
    at: Instant,
    session: Uuid,
    revision: i64,
    /// Notifies the probe when the session is recorded.
    probe: Option<oneshot::Sender<()>>,
}

/// Stores messages at the given rate, and measures the time until each is recorded and until a search finds some of them.
///
/// # Errors
/// If the exports have too few messages, a server or the program fails, or a message is never found.
pub async fn run(servers: &Servers, program: &Program, options: &Freshness) -> Result<Report, BenchError> {
    let (channels, recorded, found, peak_mib) =
        Sandbox::with(servers, async |sandbox| once(sandbox, program, options).await).await?;
    let debounce = options.ingest.enqueue.debounce.as_millis();
    let about = format!(
        "{} messages/s in {channels} channels for {} s; from commit, including a debounce of {debounce} ms",
        options.rate, options.seconds
    );
    let mut report = Report::new(
        "freshness",
        about,
        &["until", "messages", "p50 ms", "p90 ms", "p99 ms", "max ms", "peak MiB"],
    );
    for (until, waits) in [("recorded", recorded), ("found by search", found)] {
        let count = waits.count();
        let [p50, p90, p99, max] = [50.0, 90.0, 99.0, 100.0]
            .map(|percent| waits.percentile_ms(percent).map_or(Value::Null, |ms| round(ms, 0)));
        report.row([json!(until), json!(count), p50, p90, p99, max, round(peak_mib, 0)]);
    }
    Ok(report)
}

async fn once(
    sandbox: &Sandbox,
    program: &Program,
    options: &Freshness,
) -> Result<(usize, Durations, Durations, f64), BenchError> {
    let (channels, mut lines) = read(&options.exports, (options.rate * options.seconds) as usize)?;
    program.run(sandbox, &["migrate"]).await?;
    let ingest = Ingest::new(sandbox.pool.clone(), options.ingest.clone());
    for (channel, lines) in channels.iter().zip(&mut lines) {
        let history: Vec<Message> = lines.by_ref().take(HISTORY).collect();
        ingest.messages(channel, &history, JobQueue::Backfill).await?;
    }
    let mut up = program.start(sandbox, &["up"])?;
    up.wait_ready().await?;
    while jobs::unfinished(&sandbox.pool, None).await? > 0 {
        sleep(SEARCH_INTERVAL).await;
    }
    let (sender, receiver) = mpsc::unbounded_channel();
    let watching = tokio::spawn(watch(sandbox.pool.clone(), receiver));
    let mut probes = JoinSet::new();
    let client = client(&up).await?;
    let mut ticks = interval(Duration::from_secs(1) / options.rate.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0..(options.rate * options.seconds) as usize {
        ticks.tick().await;
        let place = number % channels.len().max(1);
        let Some((channel, message)) = channels.get(place).zip(lines.get_mut(place).and_then(Iterator::next))
        else {
            continue;
        };
        ingest.messages(channel, std::slice::from_ref(&message), JobQueue::Live).await?;
        let at = Instant::now();
        let Some(mut stored) =
            stored_message(&sandbox.pool, &message, at, options.ingest.sessions.eligibility()).await?
        else {
            continue;
        };
        let is_searchable = message.text.words() >= MIN_WORDS && message.text.as_str().len() <= MAX_BYTES;
        if number % PROBE_EVERY == 0 && is_searchable {
            let (notify, recorded) = oneshot::channel();
            stored.probe = Some(notify);
            probes.spawn(probe(client.clone(), message, at, recorded));
        }
        let _ = sender.send(stored);
    }
    drop(sender);
    let mut found = Durations::default();
    while let Some(probe) = probes.join_next().await {
        found.record(probe.map_err(|_| BenchError::Stuck("a search panicked"))??);
    }
    let recorded =
        watching.await.map_err(|_| BenchError::Stuck("the lookup of recorded sessions panicked"))??;
    Ok((channels.len(), recorded, found, up.kill().await?.cost.peak_mib))
}

async fn client(up: &Running) -> Result<Client, BenchError> {
    let client = Client::connect(&guildex_api::socket_path(&up.data), TIMEOUT).await?;
    client.ok_or(BenchError::Stuck("the program does not accept searches"))
}

type Lines = Vec<std::vec::IntoIter<Message>>;

/// Reads the channels of the exports and their messages in order. Many channels resemble the traffic of many guilds:
/// messages of one session wait for each other if they arrive faster than it is indexed.
fn read(exports: &[PathBuf], required: usize) -> Result<(Vec<Channel>, Lines), BenchError> {
    let (mut channels, mut lines, mut available) = (Vec::new(), Lines::new(), 0);
    for file in guildex_discord_export::find_exports(exports).0.into_iter().take(MAX_CHANNELS) {
        let (channel, messages) = read_file(&file)?;
        if let Some(channel) = channel
            && messages.len() > 2 * HISTORY
        {
            available += messages.len() - HISTORY;
            channels.push(channel);
            lines.push(messages.into_iter());
        }
    }
    if available < required {
        return Err(BenchError::Nothing { path: exports.first().cloned().unwrap_or_default() });
    }
    Ok((channels, lines))
}

fn read_file(path: &Path) -> Result<(Option<Channel>, Vec<Message>), BenchError> {
    let (mut channel, mut messages) = (None, Vec::new());
    let read = guildex_discord_export::read_export(path, 2_000, &mut |page| {
        channel.get_or_insert_with(|| guildex_producer::import::channel(&page.header));
        messages.extend(page.messages);
        ControlFlow::Continue(())
    });
    read.map_err(|_| BenchError::Nothing { path: path.to_owned() })?;
    Ok((channel, messages))
}

/// Reads the session of a message; `None` if it has no session, or an ineligible one.
async fn stored_message(
    pool: &PgPool,
    message: &Message,
    at: Instant,
    eligible: Eligibility,
) -> Result<Option<StoredMessage>, BenchError> {
    let row: Option<(Uuid, i64)> = sqlx::query_as(
        "SELECT s.id, s.revision FROM messages m
         JOIN sessions s ON s.guild_id = m.guild_id AND s.channel_id = m.channel_id AND s.first_message_id = m.first_message_id
         WHERE m.guild_id = $1 AND m.channel_id = $2 AND m.id = $3 AND m.text <> ''
           AND is_eligible(s.message_count, s.word_count, $4, $5)",
    )
    .bind(message.guild_id.get())
    .bind(message.channel_id.get())
    .bind(message.id.get())
    .bind(i64::from(eligible.min_messages))
    .bind(i64::from(eligible.lone_message_min_words))
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|(session, revision)| StoredMessage { id: message.id, at, session, revision, probe: None }))
}

/// Measures the time until each message is recorded in `indexed_sessions`; from then on searches can find it.
async fn watch(
    pool: PgPool,
    mut receiver: mpsc::UnboundedReceiver<StoredMessage>,
) -> Result<Durations, BenchError> {
    let mut waiting: HashMap<MessageId, StoredMessage> = HashMap::new();
    let (mut waits, mut is_open) = (Durations::default(), true);
    while is_open || !waiting.is_empty() {
        sleep(POLL_INTERVAL).await;
        loop {
            match receiver.try_recv() {
                Ok(next) => drop(waiting.insert(next.id, next)),
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => {
                    is_open = false;
                    break;
                }
            }
        }
        let sessions: HashSet<Uuid> = waiting.values().map(|stored| stored.session).collect();
        let sessions: Vec<Uuid> = sessions.into_iter().collect();
        // A join with UNNEST uses the index. `= ANY` compares each row with all ids, which would disturb the measurement.
        let recorded: Vec<(Uuid, i64)> = sqlx::query_as(
            "SELECT i.session_id, i.indexed_revision
             FROM UNNEST($1::uuid[]) AS u (id) JOIN indexed_sessions i ON i.session_id = u.id",
        )
        .bind(sessions)
        .fetch_all(&pool)
        .await?;
        let (recorded, now): (HashMap<Uuid, i64>, _) = (recorded.into_iter().collect(), Instant::now());
        waiting.retain(|_, stored| {
            let is_recorded =
                recorded.get(&stored.session).is_some_and(|revision| *revision >= stored.revision);
            if is_recorded {
                waits.record(now - stored.at);
                // The probe may have failed.
                let _ = stored.probe.take().map(|probe| probe.send(()));
            }
            !is_recorded
        });
        if waiting.values().any(|stored| stored.at.elapsed() > TIMEOUT) {
            return Err(BenchError::Stuck("a message was not indexed within a minute"));
        }
    }
    Ok(waits)
}

/// Measures the time until a search for its words finds the message. Starts searching when the message is recorded;
/// earlier searches could not find it and would only compete for the processor.
async fn probe(
    client: Client,
    message: Message,
    at: Instant,
    recorded: oneshot::Receiver<()>,
) -> Result<Duration, BenchError> {
    // If the sender is dropped, the lookup reports the error, and the search below times out.
    let _ = recorded.await;
    let request = SearchRequest {
        channels: Some(vec![message.channel_id]),
        mode: Some(Mode::Sparse),
        limit: 50,
        ..SearchRequest::new(message.guild_id, message.text.as_str())
    };
    loop {
        let results = client.search(&request).await?.results;
        if results.iter().any(|found| found.chunk.message_ids.contains(&message.id)) {
            return Ok(at.elapsed());
        }
        if at.elapsed() > TIMEOUT {
            return Err(BenchError::Stuck("a message was not found within a minute"));
        }
        sleep(SEARCH_INTERVAL).await;
    }
}
