//! How fast ids go into and out of a queue, and what an idle consumer costs. Needs `REDIS_URL`:
//!
//! ```sh
//! cargo bench -p guildex-queue
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark may panic"
)]
#![allow(clippy::print_stdout, reason = "it prints its figures")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use guildex_queue::testing::{config, with_queues};
use guildex_queue::{Config, Queues, WINDOW};
use guildex_types::{JobClass, JobId};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_util::sync::CancellationToken;

const ROUNDS: usize = 9;
const CONCURRENCY: usize = 16;
const SUSTAINED: usize = 20_000;
const IDLE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() {
    with_queues(|queues| async move {
        let (mut pushes, mut drains) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let start = Instant::now();
            queues.push(JobClass::Live, &new_ids(WINDOW)).await.unwrap();
            pushes.push(start.elapsed());
            drains.push(drain(&queues).await);
            queues.trim().await.unwrap();
        }
        report("push", WINDOW, median(pushes));
        report("drain, full window", WINDOW - 1, median(drains));
    })
    .await;
    with_queues(|queues| async move {
        let spent = Cpu::now();
        report("drain, refilled as it goes", SUSTAINED, sustained(&queues).await);
        println!("{:<30} {:>8.1} s", "  processor time of that", spent.elapsed().as_secs_f64());
        let start = Instant::now();
        let trimmed = queues.trim().await.unwrap();
        report("trim", trimmed.finished, start.elapsed());
    })
    .await;
    let as_delivered = Config { prefix: config().prefix, url: config().url, ..Config::default() };
    idle(&Queues::connect(&as_delivered).await.unwrap()).await;
}

/// From the first to the last delivery of a full window.
async fn drain(queues: &Queues) -> Duration {
    let (mut delivered, stop, consumer) = consume(queues);
    delivered.recv().await;
    let start = Instant::now();
    for _ in 1..WINDOW {
        delivered.recv().await;
    }
    let elapsed = start.elapsed();
    stop.cancel();
    consumer.await.unwrap();
    elapsed
}

/// With a dispatcher that keeps the window filled.
async fn sustained(queues: &Queues) -> Duration {
    let (mut delivered, stop, consumer) = consume(queues);
    let feeder = tokio::spawn({
        let queues = queues.clone();
        async move {
            let ids = new_ids(SUSTAINED);
            let mut waiting = &ids[..];
            while !waiting.is_empty() {
                let pushed = queues.push(JobClass::Live, waiting).await.unwrap();
                waiting = &waiting[pushed..];
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    });
    let start = Instant::now();
    for _ in 0..SUSTAINED {
        delivered.recv().await;
    }
    let elapsed = start.elapsed();
    feeder.await.unwrap();
    stop.cancel();
    consumer.await.unwrap();
    elapsed
}

/// A consumer of each class with nothing to do.
async fn idle(queues: &Queues) {
    let stop = CancellationToken::new();
    let consumers = JobClass::ALL.map(|class| {
        let (queues, stop) = (queues.clone(), stop.clone());
        tokio::spawn(async move { queues.consume(class, CONCURRENCY, "bench", |_| async {}, stop).await })
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let spent = Cpu::now();
    tokio::time::sleep(IDLE).await;
    let share = spent.elapsed().as_secs_f64() / IDLE.as_secs_f64();
    println!("{:<30} {:>8.2} % of a core", "three idle consumers", share * 100.0);
    stop.cancel();
    for consumer in consumers {
        consumer.await.unwrap();
    }
    guildex_queue::testing::purge(queues).await.unwrap();
}

fn consume(queues: &Queues) -> (UnboundedReceiver<()>, CancellationToken, tokio::task::JoinHandle<()>) {
    let (tell, delivered) = unbounded_channel();
    let (queues, stop, tell) = (queues.clone(), CancellationToken::new(), Arc::new(tell));
    let until = stop.clone();
    let consumer = tokio::spawn(async move {
        let handler = move |_| {
            let tell = tell.clone();
            async move {
                let _ = tell.send(());
            }
        };
        queues.consume(JobClass::Live, CONCURRENCY, "bench", handler, until).await;
    });
    (delivered, stop, consumer)
}

fn new_ids(count: usize) -> Vec<JobId> {
    std::iter::repeat_with(JobId::new).take(count).collect()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn report(what: &str, count: usize, took: Duration) {
    let (ms, rate) = (took.as_secs_f64() * 1e3, count as f64 / took.as_secs_f64());
    println!("{what:<30} {ms:>8.1} ms for {count}, {rate:.0}/s");
}

/// This process's processor time, in the kernel's ticks of 10 ms (Linux).
struct Cpu(u64);

impl Cpu {
    fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
        let after_name = stat.rsplit(')').next().unwrap();
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        // utime and stime, the 14th and 15th field of all.
        Self(fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap())
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis((Self::now().0 - self.0) * 10)
    }
}
