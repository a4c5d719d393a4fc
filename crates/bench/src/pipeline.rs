//! The whole way of a backfill, from queued jobs to recorded points, beside what the model alone does with the same
//! texts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use futures::{StreamExt, TryStreamExt, stream};
use guildex_document::{PointDraft, SessionText};
use guildex_embed::Embedder;
use guildex_store::sessions;
use guildex_types::{GuildId, ModelSlug, SessionId};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::measure::median;
use crate::{BenchError, Program, Report, Scratch, Servers, round};

/// Sessions read at a time.
const PAGE: usize = 500;
/// Texts that the model gets in a call, and calls at a time: it sorts a call's texts by length, and reads the texts of
/// the next while it is at those of the last.
const CALL: (usize, usize) = (1_024, 2);

/// How much to measure.
#[derive(Clone)]
pub struct Pipeline {
    /// The exports that are imported, files or folders.
    pub exports: Vec<PathBuf>,
    /// Runs, each in a database of its own.
    pub runs: usize,
    /// The model that the program uses, loaded here too, to be measured alone. None leaves that out.
    pub alone: Option<Arc<dyn Embedder>>,
}

/// What one run gave.
struct Run {
    messages: i64,
    sessions: i64,
    points: i64,
    seconds: f64,
    /// Points that the model alone embeds in a second.
    alone: Option<f64>,
    peak_mib: f64,
    processor: f64,
}

impl Run {
    fn points_a_second(&self) -> f64 {
        self.points as f64 / self.seconds
    }

    fn share(&self) -> Option<f64> {
        self.alone.map(|alone| 100.0 * self.points_a_second() / alone)
    }
}

/// Imports, then lets `guildex up` do the jobs; from the first claim to the last end, by the ledger's own books.
///
/// # Errors
/// If the exports hold nothing, or a server, the model or the program fails.
pub async fn run(servers: &Servers, program: &Program, options: &Pipeline) -> Result<Report, BenchError> {
    let mut runs = Vec::with_capacity(options.runs);
    for _ in 0..options.runs {
        runs.push(Scratch::with(servers, async |scratch| once(scratch, program, options).await).await?);
    }
    let mut report = Report::new(
        "pipeline",
        "from queued jobs to recorded points, by one `guildex up`".to_owned(),
        &[
            "run",
            "messages",
            "sessions",
            "points",
            "seconds",
            "sessions/s",
            "points/s",
            "model alone, points/s",
            "share %",
            "wall ms/message",
            "cpu ms/message",
            "peak MiB",
        ],
    );
    for (number, run) in runs.iter().enumerate() {
        report.row(row(&(number + 1).to_string(), std::slice::from_ref(run)));
    }
    report.row(row("median", &runs));
    Ok(report)
}

fn row(name: &str, runs: &[Run]) -> [Value; 12] {
    let of = |value: fn(&Run) -> f64, decimals| {
        median(runs.iter().map(value)).map_or(Value::Null, |figure| round(figure, decimals))
    };
    let some = |value: fn(&Run) -> Option<f64>, decimals| {
        median(runs.iter().filter_map(value)).map_or(Value::Null, |figure| round(figure, decimals))
    };
    [
        json!(name),
        of(|run| run.messages as f64, 0),
        of(|run| run.sessions as f64, 0),
        of(|run| run.points as f64, 0),
        of(|run| run.seconds, 1),
        of(|run| run.sessions as f64 / run.seconds, 1),
        of(Run::points_a_second, 1),
        some(|run| run.alone, 1),
        some(Run::share, 1),
        of(|run| run.seconds * 1e3 / run.messages as f64, 3),
        of(|run| run.processor * 1e3 / run.messages as f64, 3),
        of(|run| run.peak_mib, 0),
    ]
}

async fn once(scratch: &Scratch, program: &Program, options: &Pipeline) -> Result<Run, BenchError> {
    program.run(scratch, &["migrate"]).await?;
    let mut import = vec!["import".to_owned()];
    import.extend(options.exports.iter().map(|path| path.display().to_string()));
    program.run(scratch, &import.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let spent = program.run(scratch, &["up", "--until-idle"]).await?;

    let (sessions, points, messages): (i64, i64, i64) = sqlx::query_as(
        "SELECT count(*), coalesce(sum(points), 0)::bigint, (SELECT count(*) FROM messages) FROM indexed_sessions",
    )
    .fetch_one(&scratch.pool)
    .await?;
    let path = || options.exports.first().cloned().unwrap_or_default();
    if sessions == 0 {
        return Err(BenchError::Nothing { path: path() });
    }
    let seconds = scratch.seconds_at_work().await?;
    let alone = match &options.alone {
        Some(embedder) => Some(alone(&scratch.pool, embedder.as_ref()).await?),
        None => None,
    };
    let (peak_mib, processor) = (spent.cost.peak_mib, spent.cost.processor.as_secs_f64());
    Ok(Run { messages, sessions, points, seconds, alone, peak_mib, processor })
}

/// Texts a second of the model alone, on the texts of all sessions that were indexed.
async fn alone(pool: &PgPool, embedder: &dyn Embedder) -> Result<f64, BenchError> {
    let texts = texts(pool, embedder).await?;
    let count = texts.len();
    let calls: Vec<Vec<String>> = texts.chunks(CALL.0).map(<[String]>::to_vec).collect();
    let begun = Instant::now();
    stream::iter(calls)
        .map(|texts| async move { embedder.embed(texts).await.map(drop) })
        .buffered(CALL.1)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

/// The texts of what is indexed, as the worker makes them.
async fn texts(pool: &PgPool, embedder: &dyn Embedder) -> Result<Vec<String>, BenchError> {
    let indexed: Vec<(i64, Uuid)> = sqlx::query_as(
        "SELECT s.guild_id, s.id FROM indexed_sessions i JOIN sessions s ON s.id = i.session_id",
    )
    .fetch_all(pool)
    .await?;
    let wanted = indexed
        .into_iter()
        .map(|(guild, session)| Ok((GuildId::try_from(guild)?, SessionId::from(session))))
        .collect::<Result<Vec<_>, guildex_store::StoreError>>()?;
    let model: &ModelSlug = embedder.slug();
    let mut texts = Vec::new();
    for page in wanted.chunks(PAGE) {
        for session in sessions::load(pool, page, model).await? {
            let split = SessionText::new(&session).chunk(embedder.tokenizer())?;
            texts.extend(
                PointDraft::from_chunks(&session, split, model, false)
                    .into_iter()
                    .map(|draft| draft.passage.text),
            );
        }
    }
    Ok(texts)
}
