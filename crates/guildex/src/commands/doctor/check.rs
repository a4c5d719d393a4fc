//! One check, its time and its outcome.

use std::fmt::Write;
use std::time::{Duration, Instant};

use guildex_types::ErrorChain;
use serde::Serialize;

/// How long a check may take. Loading a model has [`PATIENCE`].
pub const LIMIT: Duration = Duration::from_secs(10);

/// How long a check may take that reads a lot, or brings something from elsewhere.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it ought to be.
    Ok,
    /// It works, but not as well as it could, or not for long.
    Warning,
    /// It does not work.
    Failed,
    /// It could not be tried, since another failed.
    Skipped,
}

/// A check that was made.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
    /// What was found.
    pub found: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// What a check that came to its end found.
pub struct Finding {
    pub found: String,
    /// What to do, where it is not all as it ought to be.
    pub warning: Option<String>,
}

impl Finding {
    pub fn fine(found: impl Into<String>) -> Self {
        Self { found: found.into(), warning: None }
    }

    /// Advises something if a condition holds.
    pub fn but_if(mut self, condition: bool, advice: impl Into<String>) -> Self {
        if condition && self.warning.is_none() {
            self.warning = Some(advice.into());
        }
        self
    }
}

impl Check {
    /// Runs a check within a time; `advice` is for when it fails.
    pub async fn run(
        name: impl Into<String>,
        limit: Duration,
        advice: &str,
        check: impl Future<Output = anyhow::Result<Finding>>,
    ) -> Self {
        Self::with(name, limit, advice, async { check.await.map(|finding| (finding, ())) }).await.0
    }

    /// The same for a check that has something to give.
    pub async fn with<T>(
        name: impl Into<String>,
        limit: Duration,
        advice: &str,
        check: impl Future<Output = anyhow::Result<(Finding, T)>>,
    ) -> (Self, Option<T>) {
        let begun = Instant::now();
        let outcome = tokio::time::timeout(limit, check).await;
        let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let failed = |found| (Outcome::Failed, found, Some(advice.to_owned()), None);
        let (outcome, found, advice, given) = match outcome {
            Ok(Ok((Finding { found, warning: None }, given))) => (Outcome::Ok, found, None, Some(given)),
            Ok(Ok((Finding { found, warning }, given))) => (Outcome::Warning, found, warning, Some(given)),
            Ok(Err(error)) => failed(ErrorChain(error.as_ref()).to_string().replace('\n', " ")),
            Err(_) => failed(format!("no answer within {} s", limit.as_secs())),
        };
        (Self { name: name.into(), outcome, milliseconds, found, advice }, given)
    }

    /// A check that another's failure made impossible.
    pub fn skipped(name: impl Into<String>, found: &str) -> Self {
        let (outcome, found) = (Outcome::Skipped, found.to_owned());
        Self { name: name.into(), outcome, milliseconds: 0, found, advice: None }
    }

    /// A line, and another if there is something to do.
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
    async fn what_hangs_fails_when_its_time_is_up() {
        let check = Check::run("x", LIMIT, "do this", std::future::pending()).await;
        assert_eq!(check.outcome, Outcome::Failed);
        assert_eq!(check.found, "no answer within 10 s");
        assert!(check.text().ends_with("-> do this\n"), "{}", check.text());
    }

    #[tokio::test]
    async fn a_warning_says_what_to_do_and_a_failure_why() {
        let warned = async { Ok(Finding::fine("old").but_if(true, "renew it").but_if(true, "or not")) };
        let check = Check::run("x", LIMIT, "start it", warned).await;
        assert_eq!((check.outcome, check.advice.as_deref()), (Outcome::Warning, Some("renew it")));
        let broken = async { Err(std::io::Error::other("refused")).context("no connection") };
        let check = Check::run("x", LIMIT, "start it", broken).await;
        assert_eq!(check.found, "no connection: refused");
        assert_eq!((check.outcome, check.advice.as_deref()), (Outcome::Failed, Some("start it")));
    }
}
