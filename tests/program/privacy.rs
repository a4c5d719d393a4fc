//! Opt-outs by configuration, and secrets in output.

use url::Url;

use crate::export::{CHANNEL, GUILD, export, message, minute, write};
use crate::points::points;
use crate::world::World;

#[tokio::test]
async fn members_and_channels_that_opted_out_are_never_stored() {
    let out = CHANNEL + 1;
    let world = World::with(&format!("optout.users = [\"902\"]\noptout.channels = [\"{out}\"]")).await;
    let talk: Vec<_> =
        (0..9).map(|n| message(minute(n), n % 3, "one of many things that were said on that day")).collect();
    for channel in [CHANNEL, out] {
        write(world.path(&format!("talk/{channel}.json")), &export(channel, &talk));
    }
    world.import(&world.path("talk"));
    world.settle();
    assert_eq!(world.value::<i64>("SELECT count(*) FROM messages").await, 6);
    assert_eq!(world.value::<i64>("SELECT count(*) FROM messages WHERE author_id = 902").await, 0);
    let stored: i64 = sqlx::query_scalar("SELECT count(*) FROM channels WHERE id = $1")
        .bind(out)
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(stored, 0);
    for point in points(&world, GUILD).await.values() {
        assert_eq!(point.payload.channel_id.get(), CHANNEL);
        assert!(point.payload.author_ids.iter().all(|id| id.get() != 902));
    }
}

#[tokio::test]
async fn passwords_appear_neither_in_the_configuration_nor_in_errors() {
    let world = World::new().await;
    let shown = world.ok(&["config"]);
    assert!(shown.stdout.contains("# variable DATABASE_URL"), "{shown}");
    assert!(shown.stdout.contains("# variable GUILDEX_REDIS_PREFIX"), "{shown}");
    for variable in ["DATABASE_URL", "REDIS_URL"] {
        let url = Url::parse(&std::env::var(variable).unwrap()).unwrap();
        if let Some(password) = url.password() {
            // No assertion message, since it would print the password.
            assert!(!shown.stdout.contains(password) && !shown.stderr.contains(password));
            assert!(shown.stdout.contains(":***@"));
        }
    }
    for (key, url) in [
        ("database.url", "postgres://someone:hunter2@127.0.0.1:1/none"),
        ("database.url", "hunter2"),
        ("redis.url", "redis://someone:hunter2@127.0.0.1:1/0"),
        ("redis.url", "redis://someone:hunter2@127.0.0.1:port/0"),
    ] {
        let rejected = world.fails(&["up", "--set", &format!("{key}={url}")]);
        assert!(!rejected.stderr.contains("hunter2"), "{rejected}");
        assert!(rejected.stderr.contains(key), "{rejected}");
    }
}
