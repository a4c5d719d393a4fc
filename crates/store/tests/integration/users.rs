//! Names: which one is stored, for any order of arrival, and which one is read.

use chrono::{DateTime, TimeDelta, Utc};
use guildex_store::{MIGRATOR, users};
use guildex_types::{Author, GuildId};
use sqlx::PgPool;

fn guild(number: i64) -> GuildId {
    number.try_into().unwrap()
}

fn minute(number: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::minutes(number)
}

fn member(id: i64, name: &str) -> Author {
    Author::member(id.try_into().unwrap(), name)
}

async fn upsert(pool: &PgPool, guild_id: i64, authors: &[(Author, DateTime<Utc>)]) {
    sqlx::query("INSERT INTO guilds (id, name) VALUES ($1, 'guild') ON CONFLICT DO NOTHING")
        .bind(guild_id)
        .execute(pool)
        .await
        .unwrap();
    let mut tx = pool.begin().await.unwrap();
    let authors = authors.iter().map(|(author, at)| (author, *at));
    users::upsert(&mut tx, guild(guild_id), authors).await.unwrap();
    tx.commit().await.unwrap();
}

/// Guild, user and shown name of every row.
async fn names(pool: &PgPool) -> Vec<(i64, i64, String)> {
    sqlx::query_as("SELECT guild_id, user_id, name FROM users ORDER BY 1, 2").fetch_all(pool).await.unwrap()
}

fn row(guild: i64, user: i64, name: &str) -> (i64, i64, String) {
    (guild, user, name.to_owned())
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_name_of_the_latest_message_wins_in_any_order(pool: PgPool) {
    let (old, middle, new) = (member(7, "old"), member(7, "middle"), member(7, "new"));
    let named = [(old, minute(1)), (middle, minute(2)), (new, minute(3))];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let pages = order.map(|index| named[index].clone());
        for page in &pages {
            upsert(&pool, 1, std::slice::from_ref(page)).await;
        }
        assert_eq!(names(&pool).await, [row(1, 7, "new")], "one page each, in the order {order:?}");
        sqlx::query("DELETE FROM users").execute(&pool).await.unwrap();
        upsert(&pool, 1, &pages).await;
        assert_eq!(names(&pool).await, [row(1, 7, "new")], "one page, in the order {order:?}");
        sqlx::query("DELETE FROM users").execute(&pool).await.unwrap();
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_name_that_did_not_change_still_counts_as_seen(pool: PgPool) {
    upsert(&pool, 1, &[(member(7, "now"), minute(1))]).await;
    upsert(&pool, 1, &[(member(7, "now"), minute(3))]).await;
    upsert(&pool, 1, &[(member(7, "older export"), minute(2))]).await;
    assert_eq!(names(&pool).await, [row(1, 7, "now")]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_message_of_the_future_does_not_keep_its_name_forever(pool: PgPool) {
    upsert(&pool, 1, &[(member(7, "future"), Utc::now() + TimeDelta::days(3_000))]).await;
    upsert(&pool, 1, &[(member(7, "now"), Utc::now() + TimeDelta::days(1))]).await;
    assert_eq!(names(&pool).await, [row(1, 7, "now")]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_rename_stays_in_its_guild(pool: PgPool) {
    for guild in [1, 2] {
        upsert(&pool, guild, &[(member(7, "ann"), minute(1)), (member(8, "bo"), minute(1))]).await;
    }
    upsert(&pool, 1, &[(member(7, "anna"), minute(2))]).await;
    let expected = [row(1, 7, "anna"), row(1, 8, "bo"), row(2, 7, "ann"), row(2, 8, "bo")];
    assert_eq!(names(&pool).await, expected);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_most_specific_name_is_shown_and_webhooks_have_none(pool: PgPool) {
    let global = Author { global_name: Some("Ann".to_owned()), ..member(8, "ann") };
    let nickname =
        Author { display_name: Some("Captain".to_owned()), id: member(9, "").id, ..global.clone() };
    let webhook = Author::webhook(member(10, "").id, "bridge");
    let named = [member(7, "ann"), global, nickname, webhook].map(|author| (author, minute(1)));
    upsert(&pool, 1, &named).await;
    assert_eq!(names(&pool).await, [row(1, 7, "ann"), row(1, 8, "Ann"), row(1, 9, "Captain")]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn names_are_deleted_by_member_and_by_guild(pool: PgPool) {
    for guild in [1, 2] {
        upsert(&pool, guild, &[(member(7, "ann"), minute(1)), (member(8, "bo"), minute(1))]).await;
    }
    let mut tx = pool.begin().await.unwrap();
    users::delete(&mut tx, guild(1), member(7, "").id).await.unwrap();
    users::delete_all(&mut tx, guild(2)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(names(&pool).await, [row(1, 8, "bo")]);
}
