//! Last outcome of each task.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::task::TaskError;

/// Last outcome of a task in this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskStatus {
    /// Start of the last run.
    pub started_at: DateTime<Utc>,
    /// Duration of the last run.
    pub duration: Duration,
    /// Start of the last successful run.
    pub succeeded_at: Option<DateTime<Utc>>,
    /// Error of the last run, if it failed.
    pub error: Option<String>,
}

/// Shared record of the last outcomes, by task name.
#[derive(Debug, Clone, Default)]
pub struct TaskReport(Arc<Mutex<BTreeMap<&'static str, TaskStatus>>>);

impl TaskReport {
    /// Returns the last outcome of every task that has run.
    pub fn snapshot(&self) -> BTreeMap<&'static str, TaskStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn record(
        &self,
        name: &'static str,
        started_at: DateTime<Utc>,
        duration: Duration,
        error: Option<&TaskError>,
    ) {
        let mut statuses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = statuses.get(name).and_then(|status| status.succeeded_at);
        let succeeded_at = if error.is_none() { Some(started_at) } else { before };
        let error = error.map(ToString::to_string);
        statuses.insert(name, TaskStatus { started_at, duration, succeeded_at, error });
    }
}

#[cfg(test)]
mod tests {
    use guildex_store::StoreError;

    use super::*;

    #[test]
    fn a_failure_keeps_the_time_of_the_last_success() {
        let report = TaskReport::default();
        let (first, second) = (DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH + Duration::from_secs(9));
        report.record("analyze", first, Duration::from_millis(3), None);
        report.record("analyze", second, Duration::ZERO, Some(&StoreError::OldSchema.into()));
        let status = &report.snapshot()["analyze"];
        assert_eq!((status.started_at, status.succeeded_at), (second, Some(first)));
        assert_eq!(status.error, Some(StoreError::OldSchema.to_string()));
    }
}
