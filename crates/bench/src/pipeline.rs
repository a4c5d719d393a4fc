//! Backfill throughput from queued jobs to recorded points, compared with the model alone on the same texts.

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
use crate::{BenchError, Program, Report, Sandbox, Servers, round};

/// Sessions per page.
const PAGE: usize = 500;
/// Texts per call to the model. It sorts them by length.
const TEXTS_PER_CALL: usize = 1_024;
/// Concurrent calls, so that the texts of the next call are tokenized in the meantime.
const CONCURRENT_CALLS: usize = 2;

/// Options of the benchmark.
#[derive(Clone)]
pub struct Pipeline {
    /// Exports to import, or directories of exports.
    pub exports: Vec<PathBuf>,
    /// Number of runs, each in its own sandbox.
    pub runs: usize,
    /// Model of the program, to measure it alone too.
    pub model: Option<Arc<dyn Embedder>>,
}

/// Figures of one run.
struct Run {
    messages: i64,
    sessions: i64,
    points: i64,
    seconds: f64,
    /// Points per second of the model alone.
    model_only: Option<f64>,
    peak_mib: f64,
    processor: f64,
}

impl Run {
    fn points_per_second(&self) -> f64 {
        self.points as f64 / self.seconds
    }

    fn share(&self) -> Option<f64> {
        self.model_only.map(|rate| 100.0 * self.points_per_second() / rate)
    }
}

/// Imports the exports and runs `guildex up` until idle. Measures from the first claim to the last completion as recorded
/// in the `jobs` table.
///
/// # Errors
/// If the exports contain no messages, or a server, the model or the program fails.
pub async fn run(servers: &Servers, program: &Program, options: &Pipeline) -> Result<Report, BenchError> {
    let mut runs = Vec::with_capacity(options.runs);
    for _ in 0..options.runs {
        runs.push(Sandbox::with(servers, async |sandbox| once(sandbox, program, options).await).await?);
    }
    let mut report = Report::new(
        "pipeline",
        "from queued jobs to recorded points with one `guildex up`".to_owned(),
        &[
            "run",
            "messages",
            "sessions",
            "points",
            "seconds",
            "sessions/s",
            "points/s",
            "model only, points/s",
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
    let required = |value: fn(&Run) -> f64, decimals| {
        median(runs.iter().map(value)).map_or(Value::Null, |figure| round(figure, decimals))
    };
    let optional = |value: fn(&Run) -> Option<f64>, decimals| {
        median(runs.iter().filter_map(value)).map_or(Value::Null, |figure| round(figure, decimals))
    };
    [
        json!(name),
        required(|run| run.messages as f64, 0),
        required(|run| run.sessions as f64, 0),
        required(|run| run.points as f64, 0),
        required(|run| run.seconds, 1),
        required(|run| run.sessions as f64 / run.seconds, 1),
        required(Run::points_per_second, 1),
        optional(|run| run.model_only, 1),
        optional(Run::share, 1),
        required(|run| run.seconds * 1e3 / run.messages as f64, 3),
        required(|run| run.processor * 1e3 / run.messages as f64, 3),
        required(|run| run.peak_mib, 0),
    ]
}

async fn once(sandbox: &Sandbox, program: &Program, options: &Pipeline) -> Result<Run, BenchError> {
    program.run(sandbox, &["migrate"]).await?;
    let mut import = vec!["import".to_owned()];
    import.extend(options.exports.iter().map(|path| path.display().to_string()));
    program.run(sandbox, &import.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let spent = program.run(sandbox, &["up", "--until-idle"]).await?;

    let (sessions, points, messages): (i64, i64, i64) = sqlx::query_as(
        "SELECT count(*), coalesce(sum(points), 0)::bigint, (SELECT count(*) FROM messages) FROM indexed_sessions",
    )
    .fetch_one(&sandbox.pool)
    .await?;
    let path = || options.exports.first().cloned().unwrap_or_default();
    if sessions == 0 {
        return Err(BenchError::Nothing { path: path() });
    }
    let seconds = sandbox.busy_seconds().await?;
    let model_only = match &options.model {
        Some(embedder) => Some(model_throughput(&sandbox.pool, embedder.as_ref()).await?),
        None => None,
    };
    let (peak_mib, processor) = (spent.cost.peak_mib, spent.cost.processor.as_secs_f64());
    Ok(Run { messages, sessions, points, seconds, model_only, peak_mib, processor })
}

/// Texts per second of the model alone, for all indexed sessions.
async fn model_throughput(pool: &PgPool, embedder: &dyn Embedder) -> Result<f64, BenchError> {
    let texts = texts(pool, embedder).await?;
    let count = texts.len();
    let calls: Vec<Vec<String>> = texts.chunks(TEXTS_PER_CALL).map(<[String]>::to_vec).collect();
    let start = Instant::now();
    stream::iter(calls)
        .map(|texts| async move { embedder.embed(texts).await.map(drop) })
        .buffered(CONCURRENT_CALLS)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// Texts of all indexed sessions as the worker embeds them.
async fn texts(pool: &PgPool, embedder: &dyn Embedder) -> Result<Vec<String>, BenchError> {
    let indexed: Vec<(i64, Uuid)> = sqlx::query_as(
        "SELECT s.guild_id, s.id FROM indexed_sessions i JOIN sessions s ON s.id = i.session_id",
    )
    .fetch_all(pool)
    .await?;
    let ids = indexed
        .into_iter()
        .map(|(guild, session)| Ok((GuildId::try_from(guild)?, SessionId::from(session))))
        .collect::<Result<Vec<_>, guildex_store::StoreError>>()?;
    let model: &ModelSlug = embedder.slug();
    let mut texts = Vec::new();
    for page in ids.chunks(PAGE) {
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
