//! Log lines of a job can be joined. In a binary of its own because a process has one logger.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

#[path = "integration/support/mod.rs"]
mod support;

use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use sqlx::PgPool;
use support::{MAX_ATTEMPTS, exchange, world};

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Logs of all threads of this test's process.
    fn capture() -> Self {
        let log = Self::default();
        let writer = log.clone();
        tracing_subscriber::fmt()
            .json()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(move || writer.clone())
            .init();
        log
    }

    fn lines(&self) -> Vec<Value> {
        let bytes = self.0.lock().unwrap();
        std::str::from_utf8(&bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn message(line: &Value) -> &str {
    line["fields"]["message"].as_str().unwrap_or_default()
}

/// A span that a line was logged in.
fn span<'a>(line: &'a Value, name: &str) -> Option<&'a Value> {
    line["spans"].as_array()?.iter().find(|span| span["name"] == name)
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn log_lines_of_a_failing_job_carry_its_id_kind_guild_and_attempt(pool: PgPool) {
    let log = Log::capture();
    world(pool, async |world| {
        world.ingest(&exchange(1, "the mandrake screams")).await;
        world.ingest(&exchange(2, "does the glue hold")).await;
        world.model.fail_on("mandrake");
        let worker = world.start_worker();
        world.until_idle().await;
        worker.stop().await;
        let id: sqlx::types::Uuid = sqlx::query_scalar("SELECT id FROM jobs WHERE state = 'dead'")
            .fetch_one(&world.pool)
            .await
            .unwrap();

        let lines = log.lines();
        let attempts: Vec<(u64, &str)> = lines
            .iter()
            .filter_map(|line| {
                let job = span(line, "job")?;
                (job["id"] == id.to_string()).then_some(())?;
                assert_eq!((&job["kind"], &job["guild"]), (&"index_session".into(), &"1".into()), "{line}");
                Some((job["attempt"].as_u64()?, message(line)))
            })
            .collect();
        for attempt in 1..MAX_ATTEMPTS as u64 {
            assert!(attempts.contains(&(attempt, "job failed")), "{attempts:?}");
        }
        let last = (MAX_ATTEMPTS as u64, "job moved to dead-letter state");
        assert!(attempts.contains(&last), "{attempts:?}");

        let retried = lines.iter().find(|line| message(line).contains("retrying session by session"));
        let batch = span(retried.expect("a failed batch"), "batch").expect("the batch's span");
        assert_eq!((&batch["queue"], &batch["model"]), (&"live".into(), &"all-minilm-l6-v2-fp32".into()));
        assert!(batch["jobs"].as_u64() >= Some(1));
    })
    .await;
}
