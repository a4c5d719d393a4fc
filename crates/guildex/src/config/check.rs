//! Checks of values for `#[garde(custom(..))]`, beyond those of [`guildex_types::config`].

use std::path::PathBuf;

use guildex_types::config::allowed_if;
use tracing_subscriber::EnvFilter;

/// Accepts the path of a folder, which need not exist.
pub fn folder(path: &PathBuf, (): &()) -> garde::Result {
    allowed_if(!path.as_os_str().is_empty(), format_args!("{path:?}"), "the path of a folder")
}

/// Accepts a part of the names of Redis keys and collections.
pub fn prefix(text: &String, (): &()) -> garde::Result {
    allowed_if(is_name(text), format_args!("{text:?}"), "1 to 64 of a-z, 0-9, - and _")
}

/// Accepts the name of a section `[models.NAME]`.
pub fn model_name(text: &str) -> garde::Result {
    let is_slug = is_name(text) && text.starts_with(|first: char| first.is_ascii_alphanumeric());
    let allowed = "a name of 1 to 64 of a-z, 0-9, - and _, a letter or digit first";
    allowed_if(is_slug, format_args!("{text:?}"), allowed)
}

/// Accepts batches that hold the longest text.
pub fn fits_text(max_batch_tokens: usize, max_tokens: usize) -> garde::Result {
    let allowed = "at least `max_tokens`, so that every text fits a call";
    allowed_if(max_batch_tokens >= max_tokens, max_batch_tokens, allowed)
}

/// Accepts a level or directives. `EnvFilter` takes a misspelt level for the name of a target and logs nothing else,
/// so a bare word has to be a level here.
pub fn log_level(text: &String, (): &()) -> garde::Result {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_bare_level = |part: &str| LEVELS.iter().any(|level| part.trim().eq_ignore_ascii_case(level));
    let parts_fit = text.split(',').all(|part| part.contains('=') || is_bare_level(part));
    let is_filter = parts_fit && EnvFilter::builder().parse(text).is_ok();
    let allowed = "off, error, warn, info, debug, trace or target=level, by comma";
    allowed_if(is_filter, format_args!("{text:?}"), allowed)
}

fn is_name(text: &str) -> bool {
    let is_known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
    (1..=64).contains(&text.len()) && text.bytes().all(is_known)
}
