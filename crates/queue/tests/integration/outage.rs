//! Outages of Redis, and restarts that lose its data.

use std::sync::Arc;

use crate::support::{Consumer, Redis, config_of, new_ids, push_until_ok};
use guildex_queue::{Config, QueueError, Queues};
use guildex_types::JobQueue;
use tokio::sync::Notify;

/// Pushes a job as soon as Redis accepts it, and asserts that the consumer receives it.
async fn assert_delivers(queues: &Queues, consumer: &mut Consumer) {
    let ids = new_ids(1);
    push_until_ok(queues, JobQueue::Live, &ids).await;
    assert_eq!(consumer.next_job().await, ids[0]);
}

#[tokio::test]
async fn a_consumer_survives_a_flush() {
    let server = Redis::start().await;
    let queues = Queues::connect(&config_of(&server)).await.unwrap();
    let mut consumer = working_consumer(&queues).await;

    command(&queues, &["FLUSHALL"]).await;
    let ids = new_ids(1);
    queues.push(JobQueue::Live, &ids).await.unwrap();
    assert_eq!(consumer.next_job().await, ids[0]);
    assert_eq!(consumer.stop().await, []);
}

#[tokio::test]
async fn a_consumer_reconnects() {
    let server = Redis::start().await;
    let queues = Queues::connect(&config_of(&server)).await.unwrap();
    let mut consumer = working_consumer(&queues).await;

    command(&Queues::connect(&config_of(&server)).await.unwrap(), &["CLIENT", "KILL", "SKIPME", "yes"]).await;
    assert_delivers(&queues, &mut consumer).await;
    consumer.stop().await;
}

#[tokio::test]
async fn a_consumer_survives_restarts_that_lose_all_data() {
    let mut server = Redis::start().await;
    let queues = Queues::connect(&config_of(&server)).await.unwrap();
    let mut consumer = working_consumer(&queues).await;

    for _ in 0..2 {
        server.kill();
        assert!(queues.ping().await.is_err());
        server.restart().await;
        assert_delivers(&queues, &mut consumer).await;
    }
    consumer.stop().await;
}

#[tokio::test]
async fn a_consumer_that_starts_before_redis_waits_for_it() {
    let mut server = Redis::stopped();
    let queues = Queues::open(&config_of(&server)).unwrap();
    let mut consumer = Consumer::start(&queues, JobQueue::Live, 1);
    assert!(queues.ping().await.is_err());

    server.restart().await;
    assert_delivers(&queues, &mut consumer).await;
    consumer.stop().await;
}

#[tokio::test]
async fn handlers_survive_an_outage_and_a_stop_waits_for_them() {
    let mut server = Redis::start().await;
    let queues = Queues::connect(&config_of(&server)).await.unwrap();
    queues.push(JobQueue::Live, &new_ids(1)).await.unwrap();
    let (release, finished) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (gate, done) = (release.clone(), finished.clone());
    let mut consumer = Consumer::start_with(&queues, JobQueue::Live, 2, move |_| {
        let (gate, done) = (gate.clone(), done.clone());
        async move {
            gate.notified().await;
            done.notify_one();
        }
    });
    consumer.next_job().await;

    server.kill();
    for _ in 0..5 {
        assert!(queues.ping().await.is_err());
    }
    consumer.stop.cancel();
    for _ in 0..5 {
        assert!(queues.ping().await.is_err());
    }
    assert!(!consumer.task.is_finished(), "the stop did not wait");
    release.notify_one();
    finished.notified().await;
    consumer.stop().await;
}

#[tokio::test]
async fn a_consumer_stops_while_redis_is_unavailable() {
    let queues = Queues::open(&config_of(&Redis::stopped())).unwrap();
    let consumer = Consumer::start(&queues, JobQueue::Live, 1);
    assert!(queues.ping().await.is_err());
    assert_eq!(consumer.stop().await, []);
}

#[tokio::test]
async fn connection_errors_are_clear_and_do_not_show_the_password() {
    let mut server = Redis::stopped();
    let secret = Config { url: server.url_with("hunter2"), ..config_of(&server) };
    let refused = Queues::connect(&secret).await.err().unwrap();
    assert!(refused.to_string().contains("refused"), "{refused}");

    server.restart_with(&["--requirepass", "another"]).await;
    let denied = Queues::connect(&secret).await.err().unwrap();
    assert!(denied.to_string().contains("Password authentication failed"), "{denied}");

    let malformed = Config { url: "redis://:hunter2/@ä:x".to_owned(), ..config_of(&server) };
    let malformed = Queues::connect(&malformed).await.err().unwrap();
    for error in [refused, denied, malformed] {
        assert!(matches!(error, QueueError::Redis(_)));
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}

/// A consumer that has received one delivery.
async fn working_consumer(queues: &Queues) -> Consumer {
    let mut consumer = Consumer::start(queues, JobQueue::Live, 1);
    let ids = new_ids(1);
    queues.push(JobQueue::Live, &ids).await.unwrap();
    assert_eq!(consumer.next_job().await, ids[0]);
    consumer
}

async fn command(queues: &Queues, words: &[&str]) {
    let mut command = redis::Cmd::new();
    for word in words {
        command.arg(*word);
    }
    let mut redis = guildex_queue::testing::connection(queues);
    let _: redis::Value = command.query_async(&mut redis).await.unwrap();
}
