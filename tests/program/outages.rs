//! Outages of each server, in every form. Each time the process survives, does not spin, logs a few lines, resumes by
//! itself, and in the end everything is indexed without costing a job an attempt.

use std::time::Duration;

use guildex_index::VectorIndex;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::feed::Feed;
use crate::points::{assert_consistent, collection, points, points_in};
use crate::world::{Running, World, postgres, redis_url, wait_until};
use guildex_test_support::qdrant::{Fault, StandIn};
use guildex_test_support::servers::{Postgres, Redis};

/// Duration of each outage.
const LASTS: Duration = Duration::from_secs(4);

/// Most log lines of one outage, its recovery included. Longer outages log no more.
const LINES: usize = 12;

/// A world with a feed and a running `up`, before an outage.
struct Healthy<'a> {
    world: &'a World,
    feed: &'a Feed,
    up: &'a mut Running,
}

impl Healthy<'_> {
    /// Starts an outage, ends it, and waits until everything works again.
    async fn survives(
        &mut self,
        what: &str,
        begins: impl AsyncFnOnce(),
        during: impl AsyncFn(),
        ends: impl AsyncFnOnce(),
    ) {
        self.until_indexed(3).await;
        let (log, cpu, began) = (self.up.log().len(), self.up.cpu(), Instant::now());
        begins().await;
        while began.elapsed() < LASTS {
            during().await;
            sleep(LASTS / 8).await;
        }
        let (cpu, lasted) = (self.up.cpu().saturating_sub(cpu), began.elapsed());
        ends().await;
        let ended = Instant::now();
        self.until_indexed(3).await;
        self.up.assert_alive();
        let log = self.up.log().split_off(log);
        eprintln!(
            "{what}: {cpu:.2?} of processor in {lasted:.1?}; live work is done again {:.1?} after the end\n{log}",
            ended.elapsed()
        );
        assert!(cpu < lasted / 2, "{what}: busy loop: {cpu:?} in {lasted:?}");
        assert!(log.lines().count() <= LINES, "{what}: repeated log lines:\n{log}");
        assert!(!log.contains("panicked"), "{what}:\n{log}");
    }

    /// Waits until messages stored from now on are indexed, and all before them.
    async fn until_indexed(&mut self, more: i64) {
        self.feed.until_stored(more).await;
        let stored = self.feed.stored();
        let (world, up) = (self.world, &mut *self.up);
        wait_until("what was stored is indexed", || {
            up.assert_alive();
            async move {
                let indexed = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM indexed_sessions");
                indexed.fetch_one(&world.pool).await.is_ok_and(|indexed| indexed >= stored)
            }
        })
        .await;
    }
}

/// Stops the feed and asserts that all of it is indexed; returns the number of failed attempts.
async fn assert_all_indexed(world: &World, feed: Feed) -> i64 {
    let stored = feed.stop().await;
    world.wait_idle().await;
    assert_eq!(world.value::<i64>("SELECT count(*) FROM indexed_sessions").await, stored);
    assert_eq!(world.value::<i64>("SELECT count(*) FROM jobs WHERE state <> 'completed'").await, 0);
    world.value("SELECT count(*) FROM jobs WHERE attempts <> 1").await
}

async fn nothing() {}

#[tokio::test]
async fn a_redis_outage_of_any_form_only_delays_jobs() {
    let redis = Mutex::new(Redis::start().await);
    let url = redis.lock().await.url();
    let world = World::on(&postgres(), &url, "").await;
    let (mut up, feed) = (world.up().await, Feed::start(&world));
    let mut healthy = Healthy { world: &world, feed: &feed, up: &mut up };
    let command = async |words: &[&str]| redis.lock().await.command(words);

    healthy.survives("redis is flushed", async || command(&["FLUSHALL"]).await, nothing, nothing).await;
    healthy
        .survives(
            "redis is killed, and starts empty",
            async || redis.lock().await.kill(),
            nothing,
            async || redis.lock().await.restart().await,
        )
        .await;
    healthy
        .survives(
            "redis is cut off",
            async || redis.lock().await.freeze(),
            nothing,
            async || redis.lock().await.wake(),
        )
        .await;
    healthy
        .survives(
            "redis has no memory left",
            async || command(&["CONFIG", "SET", "maxmemory", "1"]).await,
            nothing,
            async || command(&["CONFIG", "SET", "maxmemory", "0"]).await,
        )
        .await;

    assert_eq!(assert_all_indexed(&world, feed).await, 0, "an outage of Redis cost attempts");
    assert!(up.stop().await.success());
    assert_consistent(&world, &points(&world, crate::export::GUILD).await).await;
}

#[tokio::test]
async fn a_postgres_outage_of_any_form_only_delays_jobs() {
    let postgres = Mutex::new(Postgres::start().await);
    let url = postgres.lock().await.url();
    let world = World::on(&url, &redis_url(), "").await;
    let (mut up, feed) = (world.up().await, Feed::start(&world));
    let mut healthy = Healthy { world: &world, feed: &feed, up: &mut up };
    let sql = async |sql: &str| postgres.lock().await.execute(sql).await;

    healthy
        .survives(
            "postgres cuts all connections again and again",
            nothing,
            async || {
                sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'")
                .await;
            },
            nothing,
        )
        .await;
    healthy
        .survives(
            "postgres is read-only",
            async || {
                sql("ALTER SYSTEM SET default_transaction_read_only = on").await;
                sql("SELECT pg_reload_conf()").await;
            },
            nothing,
            async || {
                sql("ALTER SYSTEM RESET default_transaction_read_only").await;
                sql("SELECT pg_reload_conf()").await;
            },
        )
        .await;
    // A real full disk needs a separate file system. Clients see the same: reads work, writes fail with this code.
    healthy.survives(
        "the disk of postgres is full",
        async || {
            world_sql(
                &world,
                "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                     RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
                 END $$;
                 CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON jobs EXECUTE FUNCTION full_disk();
                 CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON indexed_sessions EXECUTE FUNCTION full_disk();
                 CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON messages EXECUTE FUNCTION full_disk();",
            )
            .await;
        },
        nothing,
        async || world_sql(&world, "DROP FUNCTION full_disk CASCADE").await,
    )
    .await;
    healthy
        .survives(
            "postgres is killed, and starts again",
            async || postgres.lock().await.kill(),
            nothing,
            async || postgres.lock().await.restart().await,
        )
        .await;

    // A claim that could not be renewed expires: that costs an attempt, but is not a failure.
    assert_all_indexed(&world, feed).await;
    assert_eq!(world.value::<i64>("SELECT count(*) FROM jobs WHERE attempts > 2").await, 0);
    assert!(up.stop().await.success());
    assert_consistent(&world, &points(&world, crate::export::GUILD).await).await;
    drop(world);
}

async fn world_sql(world: &World, sql: &'static str) {
    sqlx::raw_sql(sql).execute(&world.pool).await.unwrap();
}

#[tokio::test]
async fn an_unavailable_index_costs_no_attempts_and_one_that_rejects_writes_costs_some() {
    let server = StandIn::start().await;
    let toml = format!("[index]\nbackend = \"server\"\n{}timeout = \"500ms\"\n", server.toml());
    let world = World::on(&postgres(), &redis_url(), &toml).await;
    let (mut up, feed) = (world.up().await, Feed::start(&world));
    let mut healthy = Healthy { world: &world, feed: &feed, up: &mut up };
    let all =
        |fault| ["upsert", "delete", "info", "alias"].iter().for_each(|at| server.faults.always(at, fault));

    for (what, fault) in [
        ("the index is unavailable", Fault::Unavailable),
        ("the index is too busy", Fault::Busy),
        ("the index does not answer", Fault::Slow),
        ("the index breaks connections", Fault::Reset),
        ("the disk of the index is full", Fault::Full),
    ] {
        healthy.survives(what, async || all(fault), nothing, async || all(Fault::None)).await;
    }
    let failed: i64 = world.value("SELECT count(*) FROM jobs WHERE attempts > 1").await;
    assert_eq!(failed, 0, "an unavailable index cost attempts");

    // A rejection may be the job's fault: each counts as an attempt.
    server.faults.next("upsert", [Fault::Broken, Fault::Broken]);
    healthy.until_indexed(5).await;

    assert_all_indexed(&world, feed).await;
    assert!(up.stop().await.success());
    let index = server.index();
    assert!(index.count(&collection("guildex"), crate::export::GUILD.try_into().unwrap()).await.unwrap() > 0);
    assert_consistent(&world, &points_in(&index, &collection("guildex"), crate::export::GUILD).await).await;
}
