//! Pushing and consuming while Redis is available.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Consumer, assert_same, new_ids};
use apalis_redis::RedisTask;
use guildex_queue::testing::{connection, layout, with_queues};
use guildex_queue::{Delivery, WINDOW};
use guildex_types::JobQueue;
use redis::AsyncCommands;
use tokio::sync::{Notify, oneshot};

#[tokio::test]
async fn every_pushed_id_is_delivered_once() {
    with_queues(|queues| async move {
        let ids = new_ids(200);
        assert_eq!(queues.push(JobQueue::Live, &ids).await.unwrap(), 200);
        let mut consumer = Consumer::start(&queues, JobQueue::Live, 8);
        let mut got = consumer.next_jobs(100).await;

        let more = new_ids(50);
        queues.push(JobQueue::Live, &more).await.unwrap();
        got.extend(consumer.next_jobs(150).await);

        assert_eq!(consumer.stop().await, []);
        assert_same(&got, &[ids, more].concat());
        assert_eq!(queues.depth(JobQueue::Live).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_consumers_share_a_full_window_without_duplicates() {
    with_queues(|queues| async move {
        let ids = new_ids(WINDOW);
        assert_eq!(queues.push(JobQueue::Backfill, &ids).await.unwrap(), WINDOW);

        let mut one = Consumer::start(&queues, JobQueue::Backfill, 4);
        let mut two = Consumer::start(&queues, JobQueue::Backfill, 4);
        let mut got = Vec::new();
        while got.len() < WINDOW {
            tokio::select! {
                id = one.next_job() => got.push(id),
                id = two.next_job() => got.push(id),
            }
        }
        assert_eq!(one.stop().await, []);
        assert_eq!(two.stop().await, []);
        assert_same(&got, &ids);
    })
    .await;
}

#[tokio::test]
async fn an_id_that_is_pushed_again_is_delivered_again() {
    with_queues(|queues| async move {
        let ids = new_ids(1);
        let mut consumer = Consumer::start(&queues, JobQueue::Live, 1);
        for _ in 0..3 {
            queues.push(JobQueue::Live, &ids).await.unwrap();
            assert_eq!(consumer.next_job().await, ids[0]);
        }
        assert_eq!(consumer.stop().await, []);
    })
    .await;
}

#[tokio::test]
async fn ids_of_a_dead_consumer_are_redelivered() {
    with_queues(|queues| async move {
        let ids = new_ids(6);
        queues.push(JobQueue::Live, &ids).await.unwrap();
        let mut dying = Consumer::start_with(&queues, JobQueue::Live, 3, |_| pending());
        dying.next_jobs(3).await;
        dying.kill().await;

        let mut other = Consumer::start(&queues, JobQueue::Live, 3);
        assert_same(&other.next_jobs(6).await, &ids);
        assert_eq!(other.stop().await, []);
    })
    .await;
}

#[tokio::test]
async fn dropping_the_consumer_drops_its_handlers() {
    with_queues(|queues| async move {
        queues.push(JobQueue::Live, &new_ids(1)).await.unwrap();
        let (held, dropped) = oneshot::channel::<()>();
        let held = std::sync::Mutex::new(Some(held));
        let mut consumer = Consumer::start_with(&queues, JobQueue::Live, 1, move |_| {
            let held = held.lock().unwrap().take();
            async move {
                let _held = held;
                pending().await
            }
        });
        consumer.next_job().await;
        consumer.kill().await;
        assert!(dropped.await.is_err());
    })
    .await;
}

#[tokio::test]
async fn undecodable_payloads_reach_the_handler() {
    with_queues(|queues| async move {
        let ids = new_ids(2);
        let junk = [&b"{\"kind\":\"nonsense\"}"[..], b"", b"\xff\xfe", b"\"no uuid\""];
        queues.push(JobQueue::Live, &ids[..1]).await.unwrap();
        let tasks: Vec<_> = junk.iter().map(|bytes| RedisTask::new(bytes.to_vec())).collect();
        let layout = layout(&queues, JobQueue::Live);
        apalis_redis::queries::push_tasks(&mut connection(&queues), &layout, &tasks).await.unwrap();
        queues.push(JobQueue::Live, &ids[1..]).await.unwrap();

        let mut consumer = Consumer::start(&queues, JobQueue::Live, 1);
        let (mut jobs, mut undecodable) = (Vec::new(), Vec::new());
        for _ in 0..6 {
            match consumer.next().await {
                Delivery::Job(id) => jobs.push(id),
                Delivery::Undecodable(bytes) => undecodable.push(bytes),
            }
        }
        assert_eq!(consumer.stop().await, []);
        assert_same(&jobs, &ids);
        undecodable.sort();
        let mut junk = junk.map(<[u8]>::to_vec);
        junk.sort();
        assert_eq!(undecodable, junk);
    })
    .await;
}

#[tokio::test]
async fn a_panic_acknowledges_its_delivery_and_affects_no_other() {
    with_queues(|queues| async move {
        let ids = new_ids(20);
        queues.push(JobQueue::Live, &ids).await.unwrap();
        let bad = ids[3];
        let mut consumer = Consumer::start_with(&queues, JobQueue::Live, 2, move |delivery| async move {
            assert_ne!(delivery, Delivery::Job(bad), "a panic expected by the test");
        });
        let got = consumer.next_jobs(20).await;
        assert_eq!(consumer.stop().await, []);
        assert_same(&got, &ids);
        let done: usize =
            connection(&queues).scard(layout(&queues, JobQueue::Live).done_jobs_set()).await.unwrap();
        assert_eq!(done, 20);
    })
    .await;
}

#[tokio::test]
async fn a_stop_waits_for_running_handlers_and_takes_no_more() {
    with_queues(|queues| async move {
        let ids = new_ids(3);
        queues.push(JobQueue::Live, &ids).await.unwrap();
        let release = Arc::new(Notify::new());
        let finished = Arc::new(AtomicUsize::new(0));
        let (gate, count) = (release.clone(), finished.clone());
        let mut consumer = Consumer::start_with(&queues, JobQueue::Live, 1, move |_| {
            let (gate, count) = (gate.clone(), count.clone());
            async move {
                gate.notified().await;
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        consumer.next_job().await;
        consumer.stop.cancel();
        for _ in 0..100 {
            queues.ping().await.unwrap();
        }
        assert!(!consumer.task.is_finished(), "the stop did not wait");

        release.notify_one();
        assert_eq!(consumer.stop().await, []);
        assert_eq!(finished.load(Ordering::SeqCst), 1);
        assert_eq!(queues.depth(JobQueue::Live).await.unwrap(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_handler_past_the_shutdown_timeout_is_dropped_and_its_id_redelivered() {
    with_queues(|queues| async move {
        let ids = new_ids(1);
        queues.push(JobQueue::Live, &ids).await.unwrap();
        let consumer = guildex_queue::Consumer {
            queue: JobQueue::Live,
            name: "test",
            concurrency: 1,
            shutdown_timeout: std::time::Duration::from_millis(50),
        };
        let mut stubborn = Consumer::start_consumer(&queues, consumer, |_| pending());
        assert_eq!(stubborn.next_job().await, ids[0]);
        assert_eq!(stubborn.stop().await, []);

        let mut other = Consumer::start(&queues, JobQueue::Live, 1);
        assert_eq!(other.next_job().await, ids[0]);
        other.stop().await;
    })
    .await;
}

#[tokio::test]
async fn concurrency_is_limited() {
    with_queues(|queues| async move {
        queues.push(JobQueue::Live, &new_ids(60)).await.unwrap();
        let running = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let (now, peak) = (running.clone(), most.clone());
        let mut consumer = Consumer::start_with(&queues, JobQueue::Live, 3, move |_| {
            let (now, peak) = (now.clone(), peak.clone());
            async move {
                peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                for _ in 0..50 {
                    tokio::task::yield_now().await;
                }
                now.fetch_sub(1, Ordering::SeqCst);
            }
        });
        consumer.next_jobs(60).await;
        consumer.stop().await;
        assert!((1..=3).contains(&most.load(Ordering::SeqCst)));
    })
    .await;
}

#[tokio::test]
async fn depth_counts_waiting_ids_only() {
    with_queues(|queues| async move {
        assert_eq!(queues.depth(JobQueue::Live).await.unwrap(), 0);
        queues.push(JobQueue::Live, &new_ids(3)).await.unwrap();
        queues.push(JobQueue::Delete, &new_ids(1)).await.unwrap();
        assert_eq!(queues.depth(JobQueue::Live).await.unwrap(), 3);
        assert_eq!(queues.depth(JobQueue::Delete).await.unwrap(), 1);
        assert_eq!(queues.depth(JobQueue::Backfill).await.unwrap(), 0);

        let mut consumer = Consumer::start_with(&queues, JobQueue::Live, 1, |_| pending());
        consumer.next_job().await;
        assert_eq!(queues.depth(JobQueue::Live).await.unwrap(), 2);
        consumer.kill().await;
    })
    .await;
}

#[tokio::test]
async fn a_push_fills_the_window_and_no_more() {
    with_queues(|queues| async move {
        let ids = new_ids(WINDOW + 5);
        assert_eq!(queues.push(JobQueue::Backfill, &ids[..10]).await.unwrap(), 10);
        assert_eq!(queues.push(JobQueue::Backfill, &ids[10..]).await.unwrap(), WINDOW - 10);
        assert_eq!(queues.push(JobQueue::Backfill, &ids[WINDOW..]).await.unwrap(), 0);
        assert_eq!(queues.depth(JobQueue::Backfill).await.unwrap(), WINDOW);
    })
    .await;
}

#[tokio::test]
async fn prefixes_are_isolated() {
    with_queues(|ours| async move {
        with_queues(|theirs| async move {
            let (a, b) = (new_ids(1), new_ids(1));
            ours.push(JobQueue::Live, &a).await.unwrap();
            theirs.push(JobQueue::Live, &b).await.unwrap();
            let mut consumer = Consumer::start(&theirs, JobQueue::Live, 1);
            assert_eq!(consumer.next_job().await, b[0]);
            theirs.trim().await.unwrap();
            assert_eq!(consumer.stop().await, []);
            assert_eq!(ours.depth(JobQueue::Live).await.unwrap(), 1);
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn known_ids_are_those_that_wait_or_are_held() {
    with_queues(|queues| async move {
        let (done, held, waiting) = (new_ids(3), new_ids(2), new_ids(700));
        queues.push(JobQueue::Live, &done).await.unwrap();
        let mut quick = Consumer::start(&queues, JobQueue::Live, 1);
        quick.next_jobs(3).await;
        quick.stop().await;

        queues.push(JobQueue::Live, &held).await.unwrap();
        let mut busy = Consumer::start_with(&queues, JobQueue::Live, 2, |_| pending());
        busy.next_jobs(2).await;
        queues.push(JobQueue::Live, &waiting).await.unwrap();
        let mut known: Vec<_> = queues.known(JobQueue::Live).await.unwrap().into_iter().collect();
        // Acknowledged ids may still be on their way out.
        known.retain(|id| !done.contains(id));
        assert_same(&known, &[held, waiting].concat());
        assert!(queues.known(JobQueue::Backfill).await.unwrap().is_empty());
        busy.kill().await;
    })
    .await;
}
