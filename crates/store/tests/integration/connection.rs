//! Settings of the pools' connections.

use guildex_store::{connect, models};
use sqlx::{PgConnection, PgPool};

async fn idle_timeout(tx: &mut PgConnection) -> String {
    sqlx::query_scalar("SHOW idle_in_transaction_session_timeout").fetch_one(tx).await.unwrap()
}

async fn pool() -> PgPool {
    let url = std::env::var("DATABASE_URL").expect("DATABASE_URL is unset: run scripts/test");
    connect(&url, 1).await.unwrap()
}

#[tokio::test]
async fn jit_is_off() {
    let jit: String = sqlx::query_scalar("SHOW jit").fetch_one(&pool().await).await.unwrap();
    assert_eq!(jit, "off");
}

#[tokio::test]
async fn idle_transactions_time_out_unless_they_wait_for_an_index() {
    let pool = pool().await;
    let mut tx = pool.begin().await.unwrap();
    assert_eq!(idle_timeout(&mut tx).await, "30s");
    models::lock(&mut tx).await.unwrap();
    assert_eq!(idle_timeout(&mut tx).await, "0");
    tx.rollback().await.unwrap();
    let mut tx = pool.begin().await.unwrap();
    assert_eq!(idle_timeout(&mut tx).await, "30s", "the exception outlived its transaction");
}
