//! Cleanup bounds Redis' memory and keeps unfinished ids.

use crate::support::{Consumer, assert_same, new_ids};
use guildex_queue::testing::{connection, keys, layout, with_queues};
use guildex_queue::{Queues, Trimmed};
use guildex_types::JobQueue;
use redis::AsyncCommands;

#[tokio::test]
async fn redis_is_as_empty_after_many_jobs_as_after_few() {
    with_queues(|queues| async move {
        let permanent = [":live:workers", ":live:signal"];
        for round in 1..=3 {
            let ids = new_ids(round * 300);
            queues.push(JobQueue::Live, &ids).await.unwrap();
            let mut consumer = Consumer::start(&queues, JobQueue::Live, 8);
            consumer.next_jobs(ids.len()).await;
            consumer.stop().await;

            assert_eq!(queues.trim().await.unwrap().finished, ids.len());
            assert_eq!(queues.trim().await.unwrap(), Trimmed::default());
            assert_eq!(payloads(&queues, JobQueue::Live).await, 0);
            for key in keys(&queues).await.unwrap() {
                assert!(permanent.iter().any(|end| key.ends_with(end)), "{key} remains");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn cleanup_keeps_ids_that_wait_or_are_held() {
    with_queues(|queues| async move {
        let ids = new_ids(10);
        queues.push(JobQueue::Backfill, &ids).await.unwrap();
        let mut consumer = Consumer::start_with(&queues, JobQueue::Backfill, 2, |_| std::future::pending());
        consumer.next_jobs(2).await;
        assert_eq!(queues.trim().await.unwrap(), Trimmed::default());
        assert_eq!(queues.depth(JobQueue::Backfill).await.unwrap(), 8);
        consumer.kill().await;

        let mut other = Consumer::start(&queues, JobQueue::Backfill, 2);
        assert_same(&other.next_jobs(10).await, &ids);
        other.stop().await;
    })
    .await;
}

#[tokio::test]
async fn cleanup_removes_metadata_of_former_workers_only() {
    with_queues(|queues| async move {
        let mut consumer = Consumer::start(&queues, JobQueue::Live, 1);
        queues.push(JobQueue::Live, &new_ids(1)).await.unwrap();
        consumer.next_job().await;
        let mut redis = connection(&queues);
        let former = format!("{}:metadata:former", layout(&queues, JobQueue::Live).workers_set());
        let _: () = redis.hset(&former, "service", "x").await.unwrap();

        assert_eq!(queues.trim().await.unwrap().workers, 1);
        assert!(!redis.exists::<_, bool>(&former).await.unwrap());
        let living = metadata(&queues).await;
        assert_eq!(living.len(), 1, "{living:?}");

        consumer.stop().await;
        assert_eq!(metadata(&queues).await, [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn cleanup_removes_ids_without_a_payload() {
    with_queues(|queues| async move {
        let mut redis = connection(&queues);
        let layout = layout(&queues, JobQueue::Live);
        queues.push(JobQueue::Live, &new_ids(1)).await.unwrap();
        // As after an eviction, in each of the three places that an id can be in.
        let _: () = redis.del(layout.job_data_hash()).await.unwrap();
        let _: () = redis.rpush(layout.active_jobs_list(), "hollow").await.unwrap();
        let _: () = redis.zadd(layout.workers_set(), "held-by", 0).await.unwrap();
        let held = format!("{}:held-by", layout.inflight_jobs_set());
        let _: () = redis.sadd(held, "hollow too").await.unwrap();
        let whole = new_ids(3);
        queues.push(JobQueue::Live, &whole).await.unwrap();

        assert_eq!(queues.trim().await.unwrap(), Trimmed { hollow: 3, ..Trimmed::default() });
        let mut consumer = Consumer::start(&queues, JobQueue::Live, 1);
        assert_same(&consumer.next_jobs(3).await, &whole);
        assert_eq!(consumer.stop().await, []);
    })
    .await;
}

async fn payloads(queues: &Queues, queue: JobQueue) -> usize {
    connection(queues).hlen(layout(queues, queue).job_data_hash()).await.unwrap()
}

async fn metadata(queues: &Queues) -> Vec<String> {
    let all = keys(queues).await.unwrap();
    all.into_iter().filter(|key| key.contains(":workers:metadata:")).collect()
}
