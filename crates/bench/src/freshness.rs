//! How soon a search finds what somebody just wrote.
//!
//! Real messages of exports arrive at a steady rate, from several channels at once. Their times are those of the export,
//! so that they form the sessions that they formed; what is measured begins when the message's transaction has
//! committed.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use guildex_api::Client;
use guildex_index::Mode;
use guildex_producer::{Ingest, IngestConfig};
use guildex_search::Request;
use guildex_store::channels::Channel;
use guildex_store::jobs;
use guildex_types::{Eligibility, JobQueue, Message, MessageId};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};
use uuid::Uuid;

use crate::measure::percentile;
use crate::program::Running;
use crate::{BenchError, Program, Report, Scratch, Servers, round};

/// How often the books are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How often a search is tried until it finds.
const ASK: Duration = Duration::from_millis(20);
/// One message in so many is searched for; all are looked up in the books.
const PROBED: usize = 10;
/// After this a message counts as lost.
const PATIENCE: Duration = Duration::from_secs(60);
/// Channels that messages arrive in, at most.
const MOST_CHANNELS: usize = 500;
/// Messages of each channel that are stored and indexed before, so that the channel is one that goes on.
const BEFORE: usize = 50;
/// Words and letters that a message needs, and may have, to be searched for.
const WORTH_ASKING: (usize, usize) = (5, 2_000);

/// How much to measure.
#[derive(Debug, Clone)]
pub struct Freshness {
    /// The exports whose messages arrive.
    pub exports: Vec<PathBuf>,
    /// Messages a second.
    pub rate: u32,
    /// For how many seconds.
    pub seconds: u32,
    /// How messages are stored, as the bot's process would.
    pub ingest: IngestConfig,
}

/// A message whose session is worth a place in the index, and what its session was when it came.
struct Came {
    id: MessageId,
    at: Instant,
    session: Uuid,
    revision: i64,
    /// Who is told when it is in the books.
    asks: Option<oneshot::Sender<()>>,
}

/// Stores messages at the rate, and measures each until it is recorded, and some until a search finds them.
///
/// # Errors
/// If the exports hold too little, a server or the program fails, or a message is not found at all.
pub async fn run(servers: &Servers, program: &Program, options: &Freshness) -> Result<Report, BenchError> {
    let (channels, mut recorded, mut found, peak_mib) =
        Scratch::with(servers, async |scratch| once(scratch, program, options).await).await?;
    let debounce = options.ingest.debounce.as_millis();
    let about = format!(
        "{} messages/s in {channels} channels for {} s; from commit to found, a debounce of {debounce} ms included",
        options.rate, options.seconds
    );
    let mut report = Report::new(
        "freshness",
        about,
        &["until", "messages", "p50 ms", "p90 ms", "p99 ms", "max ms", "peak MiB"],
    );
    for (until, waits) in [("recorded", &mut recorded), ("found by search", &mut found)] {
        let count = waits.len();
        let [p50, p90, p99, max] = [50, 90, 99, 100]
            .map(|percent| percentile(waits, percent).map_or(Value::Null, |ms| round(ms, 0)));
        report.row([json!(until), json!(count), p50, p90, p99, max, round(peak_mib, 0)]);
    }
    Ok(report)
}

async fn once(
    scratch: &Scratch,
    program: &Program,
    options: &Freshness,
) -> Result<(usize, Vec<f64>, Vec<f64>, f64), BenchError> {
    let (channels, mut lines) = read(&options.exports, (options.rate * options.seconds) as usize)?;
    program.run(scratch, &["migrate"]).await?;
    let ingest = Ingest::new(scratch.pool.clone(), options.ingest.clone());
    for (channel, lines) in channels.iter().zip(&mut lines) {
        let before: Vec<Message> = lines.by_ref().take(BEFORE).collect();
        ingest.messages(channel, &before, JobQueue::Backfill).await?;
    }
    let mut up = program.start(scratch, &["up"])?;
    up.answers().await?;
    while jobs::unfinished(&scratch.pool, None).await? > 0 {
        sleep(ASK).await;
    }
    let (told, came) = mpsc::unbounded_channel();
    let watching = tokio::spawn(watch(scratch.pool.clone(), came));
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
        let Some(mut came) =
            session_of(&scratch.pool, &message, at, options.ingest.sessions.eligibility()).await?
        else {
            continue;
        };
        let asked = message.text.words() >= WORTH_ASKING.0 && message.text.as_str().len() <= WORTH_ASKING.1;
        if number % PROBED == 0 && asked {
            let (sender, recorded) = oneshot::channel();
            came.asks = Some(sender);
            probes.spawn(probe(client.clone(), message, at, recorded));
        }
        let _ = told.send(came);
    }
    drop(told);
    let mut found = Vec::new();
    while let Some(probe) = probes.join_next().await {
        found.push(probe.map_err(|_| BenchError::Stuck("a search"))??);
    }
    let recorded = watching.await.map_err(|_| BenchError::Stuck("the books"))??;
    Ok((channels.len(), recorded, found, up.kill().await?.cost.peak_mib))
}

async fn client(up: &Running) -> Result<Client, BenchError> {
    let client = Client::connect(&guildex_api::socket_path(&up.data), PATIENCE).await?;
    client.ok_or(BenchError::Stuck("the program does not answer searches"))
}

type Lines = Vec<std::vec::IntoIter<Message>>;

/// The channels of the exports and their messages in order. The more channels, the more it is like the traffic of many
/// guilds: messages of one session that follow each other faster than it is indexed wait for each other.
fn read(exports: &[PathBuf], wanted: usize) -> Result<(Vec<Channel>, Lines), BenchError> {
    let (mut channels, mut lines, mut room) = (Vec::new(), Lines::new(), 0);
    for file in guildex_discord_export::find_exports(exports).0.into_iter().take(MOST_CHANNELS) {
        let (channel, messages) = read_file(&file)?;
        if let Some(channel) = channel
            && messages.len() > 2 * BEFORE
        {
            room += messages.len() - BEFORE;
            channels.push(channel);
            lines.push(messages.into_iter());
        }
    }
    if room < wanted {
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

/// The session that holds a message, as it is after the message; none if the message is in none, or its session is
/// too small to be indexed.
async fn session_of(
    pool: &PgPool,
    message: &Message,
    at: Instant,
    eligible: Eligibility,
) -> Result<Option<Came>, BenchError> {
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
    Ok(row.map(|(session, revision)| Came { id: message.id, at, session, revision, asks: None }))
}

/// How long it took, in milliseconds, until what came was recorded in the books: from then on searches find it.
async fn watch(pool: PgPool, mut came: mpsc::UnboundedReceiver<Came>) -> Result<Vec<f64>, BenchError> {
    let (mut waiting, mut waits, mut more): (HashMap<MessageId, Came>, _, _) =
        (HashMap::new(), Vec::new(), true);
    while more || !waiting.is_empty() {
        sleep(LOOK).await;
        loop {
            match came.try_recv() {
                Ok(next) => drop(waiting.insert(next.id, next)),
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => {
                    more = false;
                    break;
                }
            }
        }
        let sessions: HashSet<Uuid> = waiting.values().map(|came| came.session).collect();
        let sessions: Vec<Uuid> = sessions.into_iter().collect();
        // Not `= ANY`, which compares each with all: who measures must not be in the way.
        let books: Vec<(Uuid, i64)> = sqlx::query_as(
            "SELECT i.session_id, i.indexed_revision
             FROM UNNEST($1::uuid[]) AS u (id) JOIN indexed_sessions i ON i.session_id = u.id",
        )
        .bind(sessions)
        .fetch_all(&pool)
        .await?;
        let (books, now): (HashMap<Uuid, i64>, _) = (books.into_iter().collect(), Instant::now());
        waiting.retain(|_, came| {
            let is_there = books.get(&came.session).is_some_and(|revision| *revision >= came.revision);
            if is_there {
                waits.push((now - came.at).as_secs_f64() * 1e3);
                // Who asked may have given up.
                let _ = came.asks.take().map(|asks| asks.send(()));
            }
            !is_there
        });
        if waiting.values().any(|came| came.at.elapsed() > PATIENCE) {
            return Err(BenchError::Stuck("a message was not indexed within a minute"));
        }
    }
    Ok(waits)
}

/// How long it took, in milliseconds, until a search for its words found the message. Searches begin when it is in the
/// books, before which none can find it: more of them would only take the cores from what is measured.
async fn probe(
    client: Client,
    message: Message,
    at: Instant,
    recorded: oneshot::Receiver<()>,
) -> Result<f64, BenchError> {
    // If nobody is left to tell, the reason is told elsewhere, and patience runs out here.
    let _ = recorded.await;
    let request = Request {
        channels: Some(vec![message.channel_id]),
        mode: Some(Mode::Sparse),
        limit: 50,
        ..Request::new(message.guild_id, message.text.as_str())
    };
    loop {
        let results = client.search(&request).await?.results;
        if results.iter().any(|found| found.chunk.message_ids.contains(&message.id)) {
            return Ok(at.elapsed().as_secs_f64() * 1e3);
        }
        if at.elapsed() > PATIENCE {
            return Err(BenchError::Stuck("a message was not found within a minute"));
        }
        sleep(ASK).await;
    }
}
