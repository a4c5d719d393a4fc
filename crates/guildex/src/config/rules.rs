//! What values are allowed, beyond what their types say: the one place that says so.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use guildex_types::config::{SecretUrl, duration};
use tracing_subscriber::EnvFilter;

use super::models::{NamedModel, Provider};
use super::schema::Config;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// One rule, and whether a configuration keeps it.
pub struct Rule {
    /// The dotted key that is at fault if it is broken.
    pub key: String,
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
        models,
        sessions,
        retention,
        worker,
        retry,
        dispatcher,
        search,
        log,
        optout: _,
    } = config;
    let server = &index.server;
    let (concurrency, limits) = (&worker.concurrency, &worker.time_limits);
    let mut rules = vec![
        rule(
            "data_dir",
            format_args!("{data_dir:?}"),
            "the path of a folder",
            !data_dir.as_os_str().is_empty(),
        ),
        scheme("database.url", database.url.as_ref(), &["postgres", "postgresql"]),
        // One for a lock, one for the work.
        number("database.max_connections", database.max_connections, 2..=1000),
        scheme("redis.url", redis.url.as_ref(), &["redis", "rediss"]),
        name("redis.prefix", &redis.prefix),
        name("index.collection_prefix", &index.collection_prefix),
        scheme("index.server.url", server.url.as_ref(), &["http", "https"]),
        scheme("index.server.http_url", server.http_url.as_ref(), &["http", "https"]),
        time("index.server.timeout", server.timeout, 100 * MILLISECOND..=10 * MINUTE),
        time("index.server.connect_timeout", server.connect_timeout, 100 * MILLISECOND..=MINUTE),
        number("index.server.pool_size", server.pool_size, 1..=64),
        number("index.server.upsert_batch_size", server.upsert_batch_size, 1..=1024),
        number("index.server.max_concurrent_upserts", server.max_concurrent_upserts, 1..=16),
        number("model.instances", model.instances, 0..=256),
        number("model.max_batch_tokens", model.max_batch_tokens, 16..=65_536),
        rule(
            "model.max_batch_tokens",
            model.max_batch_tokens,
            "at least model.max_tokens, so that every text fits a call",
            model.max_batch_tokens >= model.max_tokens,
        ),
        number("model.max_tokens", model.max_tokens, 16..=8192),
        number("sessions.min_messages", sessions.min_messages, 1..=1000),
        number("sessions.lone_message_min_words", sessions.lone_message_min_words, 1..=10_000),
        time("sessions.lookback", sessions.lookback, MINUTE..=24 * HOUR),
        time("sessions.max_span", sessions.max_span, MINUTE..=24 * HOUR),
        rule(
            "sessions.max_span",
            duration::text(sessions.max_span),
            "at most sessions.lookback",
            sessions.max_span <= sessions.lookback,
        ),
        number("sessions.max_messages", sessions.max_messages, 1..=10_000),
        number("sessions.max_candidates", sessions.max_candidates, 1..=1000),
        time("sessions.join_gap", sessions.join_gap, Duration::ZERO..=24 * HOUR),
        rule(
            "sessions.join_gap",
            duration::text(sessions.join_gap),
            "at most sessions.lookback",
            sessions.join_gap <= sessions.lookback,
        ),
        number("sessions.min_link_share", sessions.min_link_share, 0.0..=1.0),
        time("retention.messages", retention.messages.unwrap_or(24 * HOUR), HOUR..=100 * 365 * 24 * HOUR),
        number("worker.batch_size", worker.batch_size, 1..=1024),
        time("worker.batch_wait", worker.batch_wait, Duration::ZERO..=10 * SECOND),
        time("worker.lease", worker.lease, 5 * SECOND..=HOUR),
        number("worker.max_attempts", worker.max_attempts, 1..=100),
        time("worker.debounce", worker.debounce, Duration::ZERO..=HOUR),
        time("retry.initial_delay", retry.initial_delay, MILLISECOND..=HOUR),
        time("retry.max_delay", retry.max_delay, MILLISECOND..=24 * HOUR),
        rule(
            "retry.max_delay",
            duration::text(retry.max_delay),
            "at least retry.initial_delay",
            retry.max_delay >= retry.initial_delay,
        ),
        time("worker.shutdown_timeout", worker.shutdown_timeout, Duration::ZERO..=10 * MINUTE),
        number("worker.concurrency.delete", concurrency.delete, 1..=10_000),
        number("worker.concurrency.live", concurrency.live, 1..=10_000),
        number("worker.concurrency.backfill", concurrency.backfill, 1..=10_000),
        time("worker.time_limits.index_session.soft", limits.index_session.soft, SECOND..=24 * HOUR),
        time("worker.time_limits.index_session.hard", limits.index_session.hard, SECOND..=24 * HOUR),
        in_order("index_session", limits.index_session.soft, limits.index_session.hard),
        time("worker.time_limits.delete.soft", limits.delete.soft, SECOND..=24 * HOUR),
        time("worker.time_limits.delete.hard", limits.delete.hard, SECOND..=24 * HOUR),
        in_order("delete", limits.delete.soft, limits.delete.hard),
        time("worker.time_limits.backfill.soft", limits.backfill.soft, SECOND..=24 * HOUR),
        time("worker.time_limits.backfill.hard", limits.backfill.hard, SECOND..=24 * HOUR),
        in_order("backfill", limits.backfill.soft, limits.backfill.hard),
        // Beyond this a Redis queue of apalis-redis 1.0 can fail for good.
        number("dispatcher.max_queued", dispatcher.max_queued, 1..=1000),
        time("dispatcher.poll_interval", dispatcher.poll_interval, 10 * MILLISECOND..=MINUTE),
        time("dispatcher.queue_timeout", dispatcher.queue_timeout, 5 * SECOND..=HOUR),
        time(
            "dispatcher.completed_retention",
            dispatcher.completed_retention,
            Duration::ZERO..=365 * 24 * HOUR,
        ),
        time("search.timeout", search.timeout, 100 * MILLISECOND..=MINUTE),
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
    ];
    models.iter().for_each(|(name, model)| of_model(name, model, &mut rules));
    rules
}

/// What has to hold for a model of the user's choice.
fn of_model(name: &str, model: &NamedModel, rules: &mut Vec<Rule>) {
    let key = |field| format!("models.{name}.{field}");
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
    let is_slug = (1..=64).contains(&name.len())
        && name.bytes().all(known)
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    rules.push(rule(
        format!("models.{name}"),
        format_args!("{name:?}"),
        "a name of 1 to 64 of a-z, 0-9, - and _, a letter or digit first",
        is_slug,
    ));
    rules.extend([
        number(key("dimensions"), model.dimensions, 1..=65_536),
        number(key("max_tokens"), model.max_tokens, 32..=8192),
        number(key("max_batch_texts"), model.max_batch_texts, 1..=4096),
        number(key("max_batch_tokens"), model.max_batch_tokens, 32..=1_048_576),
        rule(
            key("max_batch_tokens"),
            model.max_batch_tokens,
            format!("at least models.{name}.max_tokens, so that every text fits a call"),
            model.max_batch_tokens >= model.max_tokens,
        ),
        number(key("concurrency"), model.concurrency, 1..=256),
        time(key("timeout"), model.timeout, 100 * MILLISECOND..=10 * MINUTE),
        scheme(key("base_url"), model.base_url.as_ref(), &["http", "https"]),
    ]);
    match model.provider {
        Provider::Local => rules.push(rule(
            key("dir"),
            "nothing",
            format!("the model's folder, or models.{name}.source"),
            model.dir.is_some() || model.source.is_some(),
        )),
        Provider::Http => rules.extend([
            rule(key("base_url"), "nothing", "the server's URL", model.base_url.is_some()),
            rule(key("model"), "nothing", "the model's name at the server", model.model.is_some()),
        ]),
        Provider::Hash => {}
    }
}

fn rule(key: impl Into<String>, found: impl Display, allowed: impl Into<String>, kept: bool) -> Rule {
    Rule { key: key.into(), found: found.to_string(), allowed: allowed.into(), kept }
}

fn number<T: Display + PartialOrd>(key: impl Into<String>, found: T, range: RangeInclusive<T>) -> Rule {
    let allowed = format!("{} to {}", range.start(), range.end());
    let kept = range.contains(&found);
    rule(key, found, allowed, kept)
}

fn time(key: impl Into<String>, found: Duration, range: RangeInclusive<Duration>) -> Rule {
    let allowed = format!("{} to {}", duration::text(*range.start()), duration::text(*range.end()));
    rule(key, duration::text(found), allowed, range.contains(&found))
}

/// What is given up at the soft limit is noted before the hard one ends the process.
fn in_order(kind: &str, soft: Duration, hard: Duration) -> Rule {
    let key = format!("worker.time_limits.{kind}.hard");
    rule(key, duration::text(hard), format!("more than worker.time_limits.{kind}.soft"), hard > soft)
}

/// A part of the names of Redis keys and collections.
fn name(key: &'static str, found: &str) -> Rule {
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
    let kept = (1..=64).contains(&found.len()) && found.bytes().all(known);
    rule(key, format_args!("{found:?}"), "1 to 64 of a-z, 0-9, - and _", kept)
}

fn scheme(key: impl Into<String>, found: Option<&SecretUrl>, schemes: &[&str]) -> Rule {
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
