//! A benchmark's corner goes with it. Needs `DATABASE_URL` and `REDIS_URL`.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use guildex_bench::{BenchError, Scratch, Servers};
use redis::AsyncCommands;
use sqlx::{Connection, PgConnection};

fn servers() -> Servers {
    let url = |name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run scripts/test"));
    Servers { postgres: url("DATABASE_URL").parse().unwrap(), redis: url("REDIS_URL") }
}

#[tokio::test]
async fn whatever_comes_of_the_work_database_keys_and_folder_go() {
    let (servers, mut left) = (servers(), None);
    let failed = Scratch::with(&servers, async |scratch| {
        guildex_store::migrate(&scratch.pool).await?;
        let key = format!("{}:key", scratch.prefix());
        let () = scratch.redis().await?.set(&key, 1).await?;
        left = Some((scratch.database_url(), key, scratch.folder().to_owned()));
        Err::<(), _>(BenchError::Stuck("as told"))
    });
    assert!(matches!(failed.await, Err(BenchError::Stuck("as told"))));

    let (database, key, folder) = left.unwrap();
    assert!(!folder.exists());
    let refused = PgConnection::connect(database.as_str()).await.err().unwrap().to_string();
    assert!(refused.contains("does not exist"), "{refused}");
    let redis = redis::Client::open(servers.redis.as_str()).unwrap();
    let mut redis = redis.get_multiplexed_async_connection().await.unwrap();
    assert!(!redis.exists::<_, bool>(key).await.unwrap());
    let mut server = PgConnection::connect(servers.postgres.as_str()).await.unwrap();
    server.ping().await.unwrap();
}
