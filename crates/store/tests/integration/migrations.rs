//! Runs each migration beside concurrent writers and checks that no write is lost (docs/development.md, "Changing a
//! live schema").

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use guildex_store::MIGRATOR;
use guildex_test_support::TEST_TIMEOUT;
use sqlx::PgPool;
use sqlx::migrate::Migrator;
use tokio::time::timeout;

/// Schema of the last release. Later migrations run beside writers that use the statements of that release.
const BASE: i64 = 7;
/// Number of concurrent writers. Each writes different rows.
const WRITERS: u64 = 3;
/// Writes in each table before a migration starts, and after it has ended.
const WRITES: u64 = 20;
/// Statements of the last release on one table. `$1` is a row's key, `$2` its value, as text.
struct Table {
    name: &'static str,
    insert: &'static str,
    update: &'static str,
    delete: &'static str,
    /// Returns the keys and values of all rows that the writers inserted.
    read: &'static str,
}

/// Tables that the program writes all the time. Keep the statements of the last release here until the release that
/// contracts the schema: the old program runs on the new schema for one version.
const TABLES: &[Table] = &[
    Table {
        name: "channels",
        insert: "INSERT INTO channels (guild_id, id, name) VALUES (1, $1, $2)",
        update: "UPDATE channels SET name = $2 WHERE guild_id = 1 AND id = $1",
        delete: "DELETE FROM channels WHERE guild_id = 1 AND id = $1",
        read: "SELECT id, name FROM channels WHERE id > 1",
    },
    Table {
        name: "messages",
        insert: "INSERT INTO messages (guild_id, channel_id, id, author_id, sent_at, text)
                 VALUES (1, 1, $1, 1, now(), $2)",
        update: "UPDATE messages SET text = $2 WHERE guild_id = 1 AND channel_id = 1 AND id = $1",
        delete: "DELETE FROM messages WHERE guild_id = 1 AND channel_id = 1 AND id = $1",
        read: "SELECT id, text FROM messages",
    },
    Table {
        name: "users",
        insert: "INSERT INTO users (guild_id, user_id, username, named_at) VALUES (1, $1, $2, now())",
        update: "UPDATE users SET username = $2 WHERE guild_id = 1 AND user_id = $1",
        delete: "DELETE FROM users WHERE guild_id = 1 AND user_id = $1",
        read: "SELECT user_id, username FROM users",
    },
    Table {
        name: "sessions",
        insert: "INSERT INTO sessions (id, guild_id, channel_id, first_message_id, revision, message_count, word_count)
                 VALUES (gen_random_uuid(), 1, 1, $1, $2::bigint, 1, 1)",
        update: "UPDATE sessions SET revision = $2::bigint
                 WHERE guild_id = 1 AND channel_id = 1 AND first_message_id = $1",
        delete: "DELETE FROM sessions WHERE guild_id = 1 AND channel_id = 1 AND first_message_id = $1",
        read: "SELECT first_message_id, revision::text FROM sessions WHERE first_message_id > 1",
    },
    Table {
        name: "indexed_sessions",
        insert: "INSERT INTO indexed_sessions (session_id, model, point_revision, indexed_revision, point_ids)
                 SELECT id, 'model-' || $1, $2::bigint, $2::bigint, ARRAY[gen_random_uuid()] FROM sessions WHERE first_message_id = 1",
        update: "UPDATE indexed_sessions SET indexed_revision = $2::bigint WHERE model = 'model-' || $1",
        delete: "DELETE FROM indexed_sessions WHERE model = 'model-' || $1",
        read: "SELECT substr(model, 7)::bigint, indexed_revision::text FROM indexed_sessions",
    },
    Table {
        name: "jobs",
        insert: "INSERT INTO jobs (id, guild_id, kind, queue, dedup_key, payload)
                 VALUES (gen_random_uuid(), 1, 'index_session', 'live', 'key/' || $1, to_jsonb($2))",
        update: "UPDATE jobs SET payload = to_jsonb($2) WHERE dedup_key = 'key/' || $1",
        delete: "DELETE FROM jobs WHERE dedup_key = 'key/' || $1",
        read: "SELECT substr(dedup_key, 5)::bigint, payload #>> '{}' FROM jobs",
    },
    Table {
        name: "ingest_cutoffs",
        insert: "INSERT INTO ingest_cutoffs (guild_id, scope, target_id, sent_before)
                 VALUES (1, 'member', $1, to_timestamp($2::bigint))",
        update: "UPDATE ingest_cutoffs SET sent_before = to_timestamp($2::bigint)
                 WHERE guild_id = 1 AND scope = 'member' AND target_id = $1",
        delete: "DELETE FROM ingest_cutoffs WHERE guild_id = 1 AND scope = 'member' AND target_id = $1",
        read: "SELECT target_id, extract(epoch FROM sent_before)::bigint::text FROM ingest_cutoffs",
    },
];

/// Rows that the statements above refer to.
async fn prepare(pool: &PgPool) {
    for statement in [
        "INSERT INTO guilds (id, name) VALUES (1, 'guild')",
        "INSERT INTO channels (guild_id, id, name) VALUES (1, 1, 'channel')",
        "INSERT INTO sessions (id, guild_id, channel_id, first_message_id, revision, message_count, word_count)
         VALUES (gen_random_uuid(), 1, 1, 1, 1, 1, 1)",
        "INSERT INTO models (slug, dimensions, state)
         SELECT 'model-' || n, 2, 'filling' FROM generate_series(1, 50000) n",
    ] {
        sqlx::query(statement).execute(pool).await.unwrap();
    }
}

/// Writer of one table: inserts, updates and deletes rows, and remembers what it committed.
struct Writer {
    pool: PgPool,
    table: &'static Table,
    /// Rows as they were committed.
    rows: BTreeMap<i64, u64>,
    next_key: i64,
    next_value: u64,
    problems: Vec<String>,
}

impl Writer {
    fn new(pool: &PgPool, table: &'static Table, number: u64) -> Self {
        // Keys of writers do not overlap, and 1 belongs to the rows of `prepare`.
        let first_key = 2 + i64::try_from(number).unwrap() * 10_000;
        Self {
            pool: pool.clone(),
            table,
            rows: BTreeMap::new(),
            next_key: first_key,
            next_value: 1,
            problems: Vec::new(),
        }
    }

    async fn run(mut self, writes: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> Self {
        while !stop.load(Ordering::SeqCst) && self.problems.is_empty() {
            self.write().await;
            writes.fetch_add(1, Ordering::SeqCst);
        }
        self
    }

    /// Two of four writes insert, one updates the oldest row, one deletes the one after it.
    async fn write(&mut self) {
        let value = self.next_value;
        self.next_value += 1;
        let nth = |n: usize| self.rows.keys().nth(n).copied();
        match (value % 4, nth(0), nth(1)) {
            (2, Some(key), _) => {
                if self.execute(self.table.update, key, value).await {
                    self.rows.insert(key, value);
                }
            }
            (3, _, Some(key)) => {
                if self.execute(self.table.delete, key, value).await {
                    self.rows.remove(&key);
                }
            }
            _ => {
                let key = self.next_key;
                self.next_key += 1;
                if self.execute(self.table.insert, key, value).await {
                    self.rows.insert(key, value);
                }
            }
        }
    }

    /// Runs a statement until it commits; returns false and notes a problem if it cannot.
    async fn execute(&mut self, statement: &'static str, key: i64, value: u64) -> bool {
        loop {
            let mut query = sqlx::query(statement).bind(key);
            if statement.contains("$2") {
                query = query.bind(value.to_string());
            }
            match query.execute(&self.pool).await {
                Ok(done) if done.rows_affected() == 1 => return true,
                Ok(_) => self.problems.push(format!("{}: row {key} is lost", self.table.name)),
                Err(error) if is_retryable(&error) => continue,
                Err(error) => self.problems.push(format!("{}: {error}", self.table.name)),
            }
            return false;
        }
    }
}

/// Returns whether the program would retry: lost a deadlock, or waited for too long.
fn is_retryable(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code.starts_with("40") || code.starts_with("55"))
}

/// Runs `migrate` beside writers of all tables, and returns what they lost.
async fn run_with_writers(pool: &PgPool, migrate: impl Future<Output = ()>) -> Vec<String> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut running = Vec::new();
    for table in TABLES {
        for number in 0..WRITERS {
            let writes = Arc::new(AtomicU64::new(0));
            let writer = Writer::new(pool, table, number).run(writes.clone(), stop.clone());
            running.push((writes, tokio::spawn(writer)));
        }
    }
    let all_write = async |more: u64| {
        let counts: Vec<u64> = running.iter().map(|(writes, _)| writes.load(Ordering::SeqCst)).collect();
        for ((writes, task), before) in running.iter().zip(counts) {
            while writes.load(Ordering::SeqCst) < before + more && !task.is_finished() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    };
    all_write(WRITES).await;
    migrate.await;
    all_write(WRITES).await;
    stop.store(true, Ordering::SeqCst);

    let mut problems = Vec::new();
    let mut committed: BTreeMap<&str, BTreeMap<i64, String>> = BTreeMap::new();
    for (_, task) in running {
        let writer = task.await.unwrap();
        problems.extend(writer.problems);
        let rows = writer.rows.into_iter().map(|(key, value)| (key, value.to_string()));
        committed.entry(writer.table.name).or_default().extend(rows);
    }
    for table in TABLES {
        match sqlx::query_as::<_, (i64, String)>(table.read).fetch_all(pool).await {
            Ok(stored) => {
                let stored: BTreeMap<i64, String> = stored.into_iter().collect();
                problems.extend(difference(table.name, &committed[table.name], &stored));
                // The next migration starts without them.
                for key in stored.keys() {
                    sqlx::query(table.delete).bind(key).execute(pool).await.unwrap();
                }
            }
            Err(error) => problems.push(format!("{}: {error}", table.name)),
        }
    }
    problems
}

/// Compares committed rows with stored ones.
fn difference(
    table: &str,
    committed: &BTreeMap<i64, String>,
    stored: &BTreeMap<i64, String>,
) -> Option<String> {
    let missing = committed.keys().filter(|key| !stored.contains_key(key)).count();
    let restored = stored.keys().filter(|key| !committed.contains_key(key)).count();
    let is_outdated = |(key, value): &(&i64, &String)| stored.get(key).is_some_and(|other| other != *value);
    let outdated = committed.iter().filter(is_outdated).count();
    (missing + restored + outdated > 0)
        .then(|| format!("{table}: {missing} inserts, {outdated} updates and {restored} deletions are lost"))
}

/// Runs the migration in a folder of `tests/migrations/` beside writers.
async fn run_example(pool: &PgPool, folder: &str) -> Vec<String> {
    MIGRATOR.run_to(BASE, pool).await.unwrap();
    prepare(pool).await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/migrations").join(folder);
    let mut example = Migrator::new(path).await.unwrap();
    example.set_ignore_missing(true);
    let run = run_with_writers(pool, async { example.run(pool).await.unwrap() });
    timeout(TEST_TIMEOUT, run).await.expect("a migration that ends")
}

#[sqlx::test(migrations = false)]
async fn no_migration_since_the_last_release_loses_a_write(pool: PgPool) {
    MIGRATOR.run_to(BASE, &pool).await.unwrap();
    prepare(&pool).await;
    let later: Vec<i64> = MIGRATOR.iter().map(|migration| migration.version).filter(|v| *v > BASE).collect();
    for version in later {
        let run = run_with_writers(&pool, async { MIGRATOR.run_to(version, &pool).await.unwrap() });
        let lost = timeout(TEST_TIMEOUT, run).await.expect("a migration that ends");
        assert!(lost.is_empty(), "migration {version}: {lost:#?}");
    }
}

#[sqlx::test(migrations = false)]
async fn a_migration_that_holds_a_lock_while_it_copies_loses_nothing(pool: PgPool) {
    assert_eq!(run_example(&pool, "copy_with_lock").await, Vec::<String>::new());
}

#[sqlx::test(migrations = false)]
async fn a_migration_that_copies_without_a_lock_is_reported(pool: PgPool) {
    let lost = run_example(&pool, "copy_without_lock").await;
    assert!(lost.iter().any(|problem| problem.starts_with("ingest_cutoffs")), "{lost:?}");
}
