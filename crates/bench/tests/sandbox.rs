//! A sandbox is removed after use. Needs `DATABASE_URL` and `REDIS_URL`.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use guildex_bench::{BenchError, Sandbox, Servers};
use redis::AsyncCommands;
use sqlx::{Connection, PgConnection};

fn servers() -> Servers {
    let url = |name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run scripts/test"));
    Servers { postgres: url("DATABASE_URL").parse().unwrap(), redis: url("REDIS_URL") }
}

#[tokio::test]
async fn database_keys_and_directory_are_removed_after_an_error() {
    let (servers, mut created) = (servers(), None);
    let failed = Sandbox::with(&servers, async |sandbox| {
        guildex_store::migrate(&sandbox.pool).await?;
        let key = format!("{}:key", sandbox.prefix());
        let () = sandbox.redis().await?.set(&key, 1).await?;
        created = Some((sandbox.database_url(), key, sandbox.folder().to_owned()));
        Err::<(), _>(BenchError::Stuck("requested error"))
    });
    assert!(matches!(failed.await, Err(BenchError::Stuck("requested error"))));

    let (database, key, folder) = created.unwrap();
    assert!(!folder.exists());
    let error = PgConnection::connect(database.as_str()).await.err().unwrap().to_string();
    assert!(error.contains("does not exist"), "{error}");
    let redis = redis::Client::open(servers.redis.as_str()).unwrap();
    let mut redis = redis.get_multiplexed_async_connection().await.unwrap();
    assert!(!redis.exists::<_, bool>(key).await.unwrap());
    let mut server = PgConnection::connect(servers.postgres.as_str()).await.unwrap();
    server.ping().await.unwrap();
}
