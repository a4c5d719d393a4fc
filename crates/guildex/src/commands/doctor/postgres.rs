use std::time::Instant;

use chrono::Utc;
use guildex_store::health::{self, Backlog};
use sqlx::PgPool;
use tokio::time::timeout;

use super::check::{Check, Finding, LIMIT};
use crate::app::App;

/// Difference of clocks above which the check warns, in milliseconds.
const MAX_CLOCK_SKEW: i64 = 1_000;

/// Waiting time of a job above which a process seems to be missing, in seconds.
const MAX_WAIT: f64 = 60.0;

/// Returns the pool if the schema is current.
pub async fn check(app: &App) -> (Option<PgPool>, Vec<Check>) {
    let url = app.config().database.url.as_ref().map(ToString::to_string).unwrap_or_default();
    let advice = match url.as_str() {
        "" => "set database.url (DATABASE_URL)".to_owned(),
        url => format!("start Postgres at {url}, or correct database.url (DATABASE_URL)"),
    };
    let (connected, pool) = Check::with("postgres", LIMIT, &advice, async {
        let pool = app.connect().await?;
        let version = health::version(&pool).await?;
        Ok((Finding::ok(format!("PostgreSQL {version} at {url}")), pool))
    })
    .await;
    let mut checks = vec![connected];
    let Some(pool) = pool else {
        for name in ["schema", "postgres writes", "postgres notifies", "clocks", "jobs"] {
            checks.push(Check::skipped(name, "needs Postgres"));
        }
        return (None, checks);
    };
    let advice = "run `guildex migrate`; if it reports an unknown migration, use the newer release";
    let (schema, fits) = Check::with("schema", LIMIT, advice, async {
        guildex_store::check_schema(&pool).await?;
        let version = guildex_store::schema_version(&pool).await?;
        Ok((Finding::ok(format!("up to date, migration {version}")), ()))
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
    let advice =
        "check that it is not a standby, that its disk is not full, and that this user may write the tables";
    Check::run("postgres writes", LIMIT, advice, async {
        health::write_and_read(pool).await?;
        Ok(Finding::ok("a row was written, read and rolled back"))
    })
    .await
}

/// Warns without notifications, since dispatchers poll too.
async fn notifies(pool: &PgPool) -> Check {
    let advice = "connect directly, or through a pooler in session mode: dispatchers need LISTEN and NOTIFY, and \
                  otherwise only poll every dispatcher.poll_interval";
    Check::run("postgres notifies", LIMIT, advice, async {
        let found = match timeout(LIMIT / 2, health::notify(pool)).await {
            Ok(Ok(())) => return Ok(Finding::ok("a notification was received")),
            Ok(Err(error)) => format!("no notification was received: {error}"),
            Err(_) => "no notification was received".to_owned(),
        };
        Ok(Finding::ok(found).warn_if(true, advice))
    })
    .await
}

async fn clocks(pool: &PgPool) -> Check {
    let advice = "see the check of Postgres";
    Check::run("clocks", LIMIT, advice, async {
        let (started, before) = (Instant::now(), Utc::now());
        let theirs = health::clock(pool).await?;
        // It was read at some time within the round trip.
        let middle = before + started.elapsed() / 2;
        let apart = (theirs - middle).num_milliseconds();
        let advice =
            "synchronise the clocks of all machines (chrony, systemd-timesyncd): leases and delays depend on them";
        Ok(Finding::ok(format!("Postgres' clock differs by {apart} ms from this machine's"))
            .warn_if(apart.abs() > MAX_CLOCK_SKEW, advice))
    })
    .await
}

async fn backlog(app: &App, pool: &PgPool) -> Check {
    let advice = "see the check of Postgres";
    Check::run("jobs", LIMIT, advice, async {
        let Backlog { due, due_seconds, queued, queued_seconds, running, dead } =
            health::backlog(pool, app.config().dispatcher.queue_timeout).await?;
        let found = format!("{due} due, {queued} queued, {running} running, {dead} dead");
        // Jobs also wait behind a long queue.
        let no_dispatcher = due_seconds > MAX_WAIT && queued == 0;
        let no_worker = queued_seconds > MAX_WAIT && running == 0;
        Ok(Finding::ok(found)
            .warn_if(
                no_dispatcher,
                format!(
                    "a job has been due for {due_seconds:.0} s: no dispatcher seems to run; start `guildex up` or \
                     `guildex dispatcher`"
                ),
            )
            .warn_if(
                no_worker,
                format!(
                    "a job has been queued for {queued_seconds:.0} s: no worker seems to run; start `guildex up` or \
                     `guildex worker`"
                ),
            )
            .warn_if(dead > 0, "dead jobs need attention: see `guildex jobs list --state dead`"))
    })
    .await
}
