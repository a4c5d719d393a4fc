use std::time::Instant;

use chrono::Utc;
use guildex_store::health::{self, Backlog};
use sqlx::PgPool;
use tokio::time::timeout;

use super::check::{Check, Finding, LIMIT};
use crate::app::App;

/// More than this between two clocks is told, in milliseconds.
const CLOCKS_APART: i64 = 1_000;

/// Jobs wait longer than this only if nobody takes them, in seconds.
const TOO_LONG: f64 = 60.0;

/// Gives the pool on if the schema can be worked with.
pub async fn check(app: &App) -> (Option<PgPool>, Vec<Check>) {
    let url = app.config().database.url.as_ref().map(ToString::to_string).unwrap_or_default();
    let advice = match url.as_str() {
        "" => "set database.url (DATABASE_URL)".to_owned(),
        url => format!("start Postgres at {url}, or correct database.url (DATABASE_URL)"),
    };
    let (connected, pool) = Check::with("postgres", LIMIT, &advice, async {
        let pool = app.connect().await?;
        let version = health::version(&pool).await?;
        Ok((Finding::fine(format!("PostgreSQL {version} at {url}")), pool))
    })
    .await;
    let mut checks = vec![connected];
    let Some(pool) = pool else {
        for name in ["schema", "postgres writes", "postgres notifies", "clocks", "jobs"] {
            checks.push(Check::skipped(name, "needs Postgres"));
        }
        return (None, checks);
    };
    let advice = "run `guildex migrate`; if that says that a migration is unknown, use the newer release";
    let (schema, fits) = Check::with("schema", LIMIT, advice, async {
        guildex_store::check_schema(&pool).await?;
        let version = guildex_store::schema_version(&pool).await?;
        Ok((Finding::fine(format!("up to date, migration {version}")), ()))
    })
    .await;
    checks.push(schema);
    checks.push(notifies(&pool).await);
    checks.push(clocks(&pool).await);
    if fits.is_none() {
        checks.push(Check::skipped("postgres writes", "needs the schema"));
        checks.push(Check::skipped("jobs", "needs the schema"));
        return (None, checks);
    }
    checks.push(writes(&pool).await);
    checks.push(backlog(app, &pool).await);
    (Some(pool), checks)
}

async fn writes(pool: &PgPool) -> Check {
    let advice = "is it a standby, is its disk full, and may this user write the tables?";
    Check::run("postgres writes", LIMIT, advice, async {
        health::write_and_read(pool).await?;
        Ok(Finding::fine("a row was written, read and taken back"))
    })
    .await
}

/// Without notifications dispatchers still look now and then.
async fn notifies(pool: &PgPool) -> Check {
    let advice = "connect directly, or through a pooler in session mode: dispatchers are woken by LISTEN and NOTIFY, and \
                  else look once in dispatcher.poll_interval";
    Check::run("postgres notifies", LIMIT, advice, async {
        let found = match timeout(LIMIT / 2, health::notify(pool)).await {
            Ok(Ok(())) => return Ok(Finding::fine("a notification came back")),
            Ok(Err(error)) => format!("no notification came back: {error}"),
            Err(_) => "no notification came back".to_owned(),
        };
        Ok(Finding::fine(found).but_if(true, advice))
    })
    .await
}

async fn clocks(pool: &PgPool) -> Check {
    let advice = "look at the check of Postgres itself";
    Check::run("clocks", LIMIT, advice, async {
        let (begun, before) = (Instant::now(), Utc::now());
        let theirs = health::clock(pool).await?;
        // It was read somewhere within the round trip.
        let middle = before + begun.elapsed() / 2;
        let apart = (theirs - middle).num_milliseconds();
        let advice =
            "let all machines follow one time (chrony, systemd-timesyncd): leases and delays go by it";
        Ok(Finding::fine(format!("Postgres' clock is {apart} ms from this machine's"))
            .but_if(apart.abs() > CLOCKS_APART, advice))
    })
    .await
}

async fn backlog(app: &App, pool: &PgPool) -> Check {
    let advice = "look at the check of Postgres itself";
    Check::run("jobs", LIMIT, advice, async {
        let Backlog { due, due_seconds, queued, queued_seconds, running, dead } =
            health::backlog(pool, app.config().dispatcher.queue_timeout).await?;
        let found = format!("{due} due, {queued} queued, {running} running, {dead} dead");
        // A long queue in front of them makes jobs wait, too.
        let no_dispatcher = due_seconds > TOO_LONG && queued == 0;
        let no_worker = queued_seconds > TOO_LONG && running == 0;
        Ok(Finding::fine(found)
            .but_if(
                no_dispatcher,
                format!(
                    "a job has been due for {due_seconds:.0} s: no dispatcher seems to run; `guildex up` or \
                     `guildex dispatcher` is one"
                ),
            )
            .but_if(
                no_worker,
                format!(
                    "a job has been queued for {queued_seconds:.0} s: no worker seems to run; `guildex up` or \
                     `guildex worker` is one"
                ),
            )
            .but_if(dead > 0, "dead jobs stay undone: the ledger's `error` column says why"))
    })
    .await
}
