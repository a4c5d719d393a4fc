//! Checks for `#[garde(custom(..))]`, whose messages say what is allowed instead. They name another field of the
//! same struct in backticks; the program replaces that by the whole key.

use std::fmt::{Debug, Display};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{SecretUrl, duration};

/// Fails unless `is_allowed`, and says what is allowed.
///
/// # Errors
/// With "`found` is not allowed; use `allowed`".
pub fn allowed_if(is_allowed: bool, found: impl Display, allowed: impl Display) -> garde::Result {
    match is_allowed {
        true => Ok(()),
        false => Err(garde::Error::new(format!("{found} is not allowed; use {allowed}"))),
    }
}

/// Accepts numbers of a range.
pub fn between<T>(range: RangeInclusive<T>) -> impl FnOnce(&T, &()) -> garde::Result
where
    T: PartialOrd + Display,
{
    move |found, ()| {
        let allowed = format_args!("{} to {}", range.start(), range.end()).to_string();
        allowed_if(range.contains(found), found, allowed)
    }
}

/// Accepts durations of a range.
pub fn duration_between<T>(range: RangeInclusive<Duration>) -> impl FnOnce(&T, &()) -> garde::Result
where
    T: TryIntoDuration,
{
    move |found, ()| {
        let found = found.try_into_duration();
        let allowed = format!("{} to {}", duration::text(*range.start()), duration::text(*range.end()));
        match found {
            None => Ok(()),
            Some(found) => allowed_if(range.contains(&found), duration::text(found), allowed),
        }
    }
}

/// A type that holds a duration.
pub trait TryIntoDuration: Debug {
    /// The duration, if one is set.
    fn try_into_duration(&self) -> Option<Duration>;
}

impl TryIntoDuration for Duration {
    fn try_into_duration(&self) -> Option<Duration> {
        Some(*self)
    }
}

impl TryIntoDuration for Option<Duration> {
    fn try_into_duration(&self) -> Option<Duration> {
        *self
    }
}

impl TryIntoDuration for chrono::TimeDelta {
    fn try_into_duration(&self) -> Option<Duration> {
        self.to_std().ok()
    }
}

/// Accepts URLs with one of these schemes, and unset ones. The message does not even hold the scheme, which
/// is the secret itself if a bare password is set instead of a URL.
pub fn scheme_of(schemes: &'static [&'static str]) -> impl FnOnce(&Option<SecretUrl>, &()) -> garde::Result {
    move |url, ()| {
        let is_allowed = url.as_ref().is_none_or(|url| schemes.contains(&url.scheme()));
        let allowed: Vec<_> = schemes.iter().map(|scheme| format!("{scheme}://")).collect();
        allowed_if(is_allowed, "this kind of URL", allowed.join(" or "))
    }
}
