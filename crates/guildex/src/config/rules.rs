//! What values are allowed, beyond what their types say: the one place that says so.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::schema::{Config, duration};
use super::secret::SecretUrl;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// One rule, and whether a configuration keeps it.
pub struct Rule {
    /// The dotted key that is at fault if it is broken.
    pub key: &'static str,
    /// What stands there. Of a secret it is not even the scheme, which is the secret itself if somebody puts a
    /// bare password in the URL's place.
    pub found: String,
    /// What may stand there.
    pub allowed: String,
    /// Whether it does.
    pub kept: bool,
}

impl Rule {
    /// The rule, for somebody who broke it with `found`.
    pub fn message(&self, found: &str) -> String {
        format!("{found} is not allowed; use {}", self.allowed)
    }
}

/// All rules, for this configuration.
pub fn rules(config: &Config) -> Vec<Rule> {
    let Config {
        data_dir,
        database,
        redis,
        index,
        model,
        sessions,
        worker,
        dispatcher,
        search,
        log,
        optout: _,
    } = config;
    let concurrency = &worker.concurrency;
    vec![
        rule(
            "data_dir",
            format_args!("{data_dir:?}"),
            "the path of a folder",
            !data_dir.as_os_str().is_empty(),
        ),
        scheme("database.url", database.url.as_ref(), &["postgres", "postgresql"]),
        number("database.max_connections", database.max_connections, 1..=1000),
        scheme("redis.url", redis.url.as_ref(), &["redis", "rediss"]),
        name("redis.prefix", &redis.prefix),
        name("index.collection", &index.collection),
        number("model.sessions", model.sessions, 0..=256),
        number("model.max_batch_tokens", model.max_batch_tokens, 16..=65_536),
        rule(
            "model.max_batch_tokens",
            model.max_batch_tokens,
            "at least model.window, so that every text fits a call",
            model.max_batch_tokens >= model.window,
        ),
        number("model.window", model.window, 16..=8192),
        number("sessions.min_messages", sessions.min_messages, 1..=1000),
        number("sessions.lone_message_min_words", sessions.lone_message_min_words, 1..=10_000),
        time("sessions.horizon", sessions.horizon, MINUTE..=24 * HOUR),
        time("sessions.max_span", sessions.max_span, MINUTE..=24 * HOUR),
        rule(
            "sessions.max_span",
            duration::text(&sessions.max_span),
            "at most sessions.horizon",
            sessions.max_span <= sessions.horizon,
        ),
        number("sessions.max_messages", sessions.max_messages, 1..=10_000),
        number("sessions.breadth", sessions.breadth, 1..=1000),
        time("sessions.gap", sessions.gap, Duration::ZERO..=24 * HOUR),
        rule(
            "sessions.gap",
            duration::text(&sessions.gap),
            "at most sessions.horizon",
            sessions.gap <= sessions.horizon,
        ),
        number("sessions.linkless_below", sessions.linkless_below, 0..=1000),
        number("worker.batch_size", worker.batch_size, 1..=1024),
        time("worker.batch_wait", worker.batch_wait, Duration::ZERO..=10 * SECOND),
        time("worker.lease", worker.lease, 5 * SECOND..=HOUR),
        number("worker.max_attempts", worker.max_attempts, 1..=100),
        time("worker.debounce", worker.debounce, Duration::ZERO..=HOUR),
        time("worker.backoff_base", worker.backoff_base, MILLISECOND..=HOUR),
        time("worker.backoff_max", worker.backoff_max, MILLISECOND..=24 * HOUR),
        rule(
            "worker.backoff_max",
            duration::text(&worker.backoff_max),
            "at least worker.backoff_base",
            worker.backoff_max >= worker.backoff_base,
        ),
        time("worker.stop_grace", worker.stop_grace, Duration::ZERO..=10 * MINUTE),
        number("worker.concurrency.delete", concurrency.delete, 1..=10_000),
        number("worker.concurrency.live", concurrency.live, 1..=10_000),
        number("worker.concurrency.backfill", concurrency.backfill, 1..=10_000),
        // Beyond this a Redis queue of apalis-redis 1.0 can fail for good.
        number("dispatcher.window", dispatcher.window, 1..=1000),
        time("dispatcher.poll", dispatcher.poll, 10 * MILLISECOND..=MINUTE),
        time("dispatcher.queued_lease", dispatcher.queued_lease, 5 * SECOND..=HOUR),
        time("dispatcher.keep_done", dispatcher.keep_done, Duration::ZERO..=365 * 24 * HOUR),
        time("search.deadline", search.deadline, 100 * MILLISECOND..=MINUTE),
        number("search.fusion.k", search.fusion.k, 0.0..=1000.0),
        number("search.fusion.dense", search.fusion.dense, 0.0..=1000.0),
        number("search.fusion.bm25", search.fusion.bm25, 0.0..=1000.0),
        rule(
            "search.fusion.bm25",
            search.fusion.bm25,
            "more than 0 if search.fusion.dense is 0",
            search.fusion.bm25 > 0.0 || search.fusion.dense > 0.0,
        ),
        rule(
            "log.level",
            format_args!("{:?}", log.level),
            "off, error, warn, info, debug, trace or target=level, by comma",
            is_filter(&log.level),
        ),
    ]
}

fn rule(key: &'static str, found: impl Display, allowed: impl Into<String>, kept: bool) -> Rule {
    Rule { key, found: found.to_string(), allowed: allowed.into(), kept }
}

fn number<T: Display + PartialOrd>(key: &'static str, found: T, range: RangeInclusive<T>) -> Rule {
    let allowed = format!("{} to {}", range.start(), range.end());
    let kept = range.contains(&found);
    rule(key, found, allowed, kept)
}

fn time(key: &'static str, found: Duration, range: RangeInclusive<Duration>) -> Rule {
    let allowed = format!("{} to {}", duration::text(range.start()), duration::text(range.end()));
    rule(key, duration::text(&found), allowed, range.contains(&found))
}

/// A part of the names of Redis keys and collections.
fn name(key: &'static str, found: &str) -> Rule {
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
    let kept = (1..=64).contains(&found.len()) && found.bytes().all(known);
    rule(key, format_args!("{found:?}"), "1 to 64 of a-z, 0-9, - and _", kept)
}

fn scheme(key: &'static str, found: Option<&SecretUrl>, schemes: &[&str]) -> Rule {
    let kept = found.is_none_or(|url| schemes.contains(&url.scheme()));
    let allowed: Vec<_> = schemes.iter().map(|scheme| format!("{scheme}://")).collect();
    rule(key, "this kind of URL", allowed.join(" or "), kept)
}

/// `EnvFilter` takes a misspelt level for the name of a target and logs nothing else, so a bare word has to be
/// a level here.
fn is_filter(text: &str) -> bool {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_bare_level = |part: &str| LEVELS.iter().any(|level| part.trim().eq_ignore_ascii_case(level));
    let parts_fit = text.split(',').all(|part| part.contains('=') || is_bare_level(part));
    parts_fit && EnvFilter::builder().parse(text).is_ok()
}
