//! A check with its duration and outcome.

use std::fmt::Write;
use std::time::{Duration, Instant};

use guildex_types::ErrorChain;
use serde::Serialize;

/// Time limit of a check.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Time limit of a check that reads or downloads a lot.
pub const SLOW_LIMIT: Duration = Duration::from_secs(60);

/// Outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The check passed.
    Ok,
    /// The check passed, but something needs attention.
    Warning,
    /// The check failed.
    Failed,
    /// Skipped, because a check that it depends on failed.
    Skipped,
}

/// Result of a check.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// Name of the check.
    pub name: String,
    /// Outcome.
    pub outcome: Outcome,
    /// Duration in milliseconds.
    pub milliseconds: u64,
    /// Finding.
    pub found: String,
    /// Advice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// Finding of a check that ran to its end.
pub struct Finding {
    pub found: String,
    /// Advice, if something needs attention.
    pub warning: Option<String>,
}

impl Finding {
    pub fn ok(found: impl Into<String>) -> Self {
        Self { found: found.into(), warning: None }
    }

    /// Adds advice if a condition holds.
    pub fn warn_if(mut self, condition: bool, advice: impl Into<String>) -> Self {
        if condition && self.warning.is_none() {
            self.warning = Some(advice.into());
        }
        self
    }
}

impl Check {
    /// Runs a check within a time limit; `advice` applies if it fails.
    pub async fn run(
        name: impl Into<String>,
        limit: Duration,
        advice: &str,
        check: impl Future<Output = anyhow::Result<Finding>>,
    ) -> Self {
        Self::with(name, limit, advice, async { check.await.map(|finding| (finding, ())) }).await.0
    }

    /// Runs a check that returns a value.
    pub async fn with<T>(
        name: impl Into<String>,
        limit: Duration,
        advice: &str,
        check: impl Future<Output = anyhow::Result<(Finding, T)>>,
    ) -> (Self, Option<T>) {
        let started = Instant::now();
        let outcome = tokio::time::timeout(limit, check).await;
        let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let failed = |found| (Outcome::Failed, found, Some(advice.to_owned()), None);
        let (outcome, found, advice, given) = match outcome {
            Ok(Ok((Finding { found, warning: None }, given))) => (Outcome::Ok, found, None, Some(given)),
            Ok(Ok((Finding { found, warning }, given))) => (Outcome::Warning, found, warning, Some(given)),
            Ok(Err(error)) => failed(ErrorChain(error.as_ref()).to_string().replace('\n', " ")),
            Err(_) => failed(format!("no answer within {} s", limit.as_secs())),
        };
        (Self { name: name.into(), outcome, milliseconds, found, advice }, given)
    }

    /// A check that was skipped because another failed.
    pub fn skipped(name: impl Into<String>, found: &str) -> Self {
        let (outcome, found) = (Outcome::Skipped, found.to_owned());
        Self { name: name.into(), outcome, milliseconds: 0, found, advice: None }
    }

    /// Formats the check on a line, and its advice on another.
    pub fn text(&self) -> String {
        let Self { name, outcome, milliseconds, found, advice } = self;
        let sign = match outcome {
            Outcome::Ok => "ok",
            Outcome::Warning => "warning",
            Outcome::Failed => "FAILED",
            Outcome::Skipped => "skipped",
        };
        let mut text = format!("{sign:<8} {name:<22} {milliseconds:>6} ms  {found}\n");
        if let Some(advice) = advice {
            // Writing to a string does not fail.
            let _ = writeln!(text, "         -> {advice}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hanging_check_fails_at_its_time_limit() {
        let check = Check::run("x", LIMIT, "do this", std::future::pending()).await;
        assert_eq!(check.outcome, Outcome::Failed);
        assert_eq!(check.found, "no answer within 10 s");
        assert!(check.text().ends_with("-> do this\n"), "{}", check.text());
    }

    #[tokio::test]
    async fn warnings_and_failures_have_advice() {
        let warned = async { Ok(Finding::ok("old").warn_if(true, "renew it").warn_if(true, "or not")) };
        let check = Check::run("x", LIMIT, "start it", warned).await;
        assert_eq!((check.outcome, check.advice.as_deref()), (Outcome::Warning, Some("renew it")));
        let broken = async { Err(std::io::Error::other("refused")).context("no connection") };
        let check = Check::run("x", LIMIT, "start it", broken).await;
        assert_eq!(check.found, "no connection: refused");
        assert_eq!((check.outcome, check.advice.as_deref()), (Outcome::Failed, Some("start it")));
    }
}
