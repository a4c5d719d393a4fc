//! Log lines for outages of a service.

use std::fmt::Display;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Logs outages of a service: one line when it becomes unavailable, one when it recovers, however many
/// callers wait for it.
///
/// While several callers wait, only the success of the last one counts as recovery: a Postgres with a full
/// disk still serves reads, so one success proves nothing for the others.
///
/// ```
/// # use guildex_types::{Outage, OutageLog};
/// static REDIS: OutageLog = OutageLog::new("redis");
///
/// let mut outage: Option<Outage> = None;
/// for result in [Err("connection refused"), Err("timed out"), Ok(())] {
///     match result {
///         // Logged once.
///         Err(error) => {
///             outage.get_or_insert_with(|| REDIS.begin("connecting", &error));
///         }
///         Ok(()) => outage.take().into_iter().for_each(Outage::recovered),
///     }
/// }
/// ```
#[derive(Debug)]
pub struct OutageLog {
    service: &'static str,
    waiting: AtomicUsize,
}

/// One caller's outage: it waits for the service as long as this value lives.
#[derive(Debug)]
#[must_use = "dropping it ends the outage"]
pub struct Outage<'a>(&'a OutageLog);

impl OutageLog {
    /// A log for the service with this name.
    pub const fn new(service: &'static str) -> Self {
        Self { service, waiting: AtomicUsize::new(0) }
    }

    /// Records that `operation` failed because the service is unavailable. Logged if no other caller is
    /// waiting.
    pub fn begin(&self, operation: &str, error: &dyn Display) -> Outage<'_> {
        if self.waiting.fetch_add(1, Ordering::SeqCst) == 0 {
            tracing::warn!(service = self.service, operation, %error, "service unavailable; retrying");
        }
        Outage(self)
    }
}

impl Outage<'_> {
    /// Records that the caller reached the service again. Logged if no other caller is waiting. Dropping the
    /// value instead ends the wait without a claim about the service.
    pub fn recovered(self) {
        if self.0.waiting.load(Ordering::SeqCst) == 1 {
            tracing::info!(service = self.0.service, "service recovered");
        }
    }
}

impl Drop for Outage<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Messages logged on this thread.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(run: impl FnOnce()) -> Vec<String> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .without_time()
            .with_target(false)
            .with_ansi(false)
            .finish();
        tracing::subscriber::with_default(subscriber, run);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(|line| line.trim().to_owned()).collect()
    }

    #[test]
    fn an_outage_logs_its_first_failure_and_its_last_recovery() {
        let log = OutageLog::new("postgres");
        let lines = logged(|| {
            let first = log.begin("claiming", &"connection refused");
            let second = log.begin("renewing", &"connection refused");
            first.recovered();
            second.recovered();
            log.begin("claiming", &"disk full").recovered();
        });
        assert_eq!(
            lines,
            [
                "WARN service unavailable; retrying service=\"postgres\" operation=\"claiming\" error=connection refused",
                "INFO service recovered service=\"postgres\"",
                "WARN service unavailable; retrying service=\"postgres\" operation=\"claiming\" error=disk full",
                "INFO service recovered service=\"postgres\"",
            ]
        );
    }

    #[test]
    fn a_caller_that_gives_up_reports_no_recovery() {
        let log = OutageLog::new("redis");
        let lines = logged(|| {
            drop(log.begin("connecting", &"timed out"));
            drop(log.begin("connecting", &"timed out"));
        });
        assert!(lines.len() == 2 && lines.iter().all(|line| line.starts_with("WARN")), "{lines:?}");
    }
}
