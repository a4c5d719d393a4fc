//! Live jobs beside a large backfill.
//!
//! Set `GUILDEX_BACKLOG=50000` to measure the latency of live jobs; the result is printed:
//!
//!     GUILDEX_BACKLOG=50000 scripts/test -p guildex-worker --test integration fairness --no-capture

use crate::support::*;
use guildex_store::channels::Channel;
use guildex_types::{Author, JobQueue, Message};
use sqlx::PgPool;

/// Small guilds with live traffic.
const SMALL: i64 = 100;

fn backlog() -> i64 {
    std::env::var("GUILDEX_BACKLOG").map_or(2_000, |jobs| jobs.parse().expect("GUILDEX_BACKLOG is a number"))
}

/// An exchange in another guild.
fn exchange_in(guild: i64) -> (Channel, Vec<Message>) {
    let channel = Channel {
        guild_id: guild.try_into().unwrap(),
        guild_name: format!("guild {guild}"),
        id: (1_000 + guild).try_into().unwrap(),
        name: "help".to_owned(),
        parent_id: None,
    };
    // Days that no other guild uses.
    let talk = exchange(70_000 + guild, "which filament is best for gears").map(|said| Message {
        guild_id: channel.guild_id,
        channel_id: channel.id,
        author: Author::member(said.author.id, format!("member of {guild}")),
        ..said
    });
    (channel, talk.into())
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn live_jobs_of_a_hundred_guilds_overtake_the_backlog_of_one(pool: PgPool) {
    world(pool, async |world| {
        let days: Vec<i64> = (1..=backlog()).collect();
        for days in days.chunks(500) {
            let talk: Vec<_> = days.iter().flat_map(|day| exchange(*day, "does the glue hold")).collect();
            world.ingest_as(JobQueue::Backfill, &talk).await;
        }
        let worker = world.start_worker();
        let backfilled = "queue = 'backfill' AND state = 'completed'";
        world.until("progress of the backfill", async || world.count(backfilled).await > 100).await;
        for guild in 2..2 + SMALL {
            let (channel, talk) = exchange_in(guild);
            world.ingest.messages(&channel, &talk, JobQueue::Live).await.unwrap();
        }
        let live = "queue = 'live' AND state <> 'completed'";
        world.until("the end of the live jobs", async || world.count(live).await == 0).await;
        assert!(world.count("queue = 'backfill' AND state <> 'completed'").await > 0, "the backlog is too small");

        let overtaken: i64 = sqlx::query_scalar(
            "SELECT max((SELECT count(*) FROM jobs b WHERE b.queue = 'backfill'
                         AND b.finished_at BETWEEN l.created_at AND l.finished_at))
             FROM jobs l WHERE l.queue = 'live'",
        )
        .fetch_one(&world.pool)
        .await
        .unwrap();
        // Sessions that were running, those in Redis, and those done until the live job was claimed.
        assert!(overtaken <= 4 * 256, "{overtaken} sessions of the backlog were done before a live one");
        let waits: Vec<f64> = sqlx::query_scalar(
            "SELECT extract(epoch FROM percentile_cont(p) WITHIN GROUP (ORDER BY finished_at - created_at))::float8
             FROM jobs, UNNEST(ARRAY[0.5, 0.99, 1.0]) AS p WHERE queue = 'live' GROUP BY p ORDER BY p",
        )
        .fetch_all(&world.pool)
        .await
        .unwrap();
        eprintln!(
            "live jobs from commit to completion, in seconds: p50 {:.2}, p99 {:.2}, max {:.2}; the backfill completed at \
             most {overtaken} meanwhile",
            waits[0], waits[1], waits[2]
        );
        worker.stop().await;
    })
    .await;
}
