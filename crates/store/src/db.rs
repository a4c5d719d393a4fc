//! Connecting, migrating, locking, and the one error type of the crate.

use std::str::FromStr;
use std::time::Duration;

use guildex_types::{ChannelId, GuildId, InvalidId, ModelSlug};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, Executor, PgConnection, PgPool};
use uuid::Uuid;

/// The schema, from `migrations/`.
pub static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

/// What goes wrong between us and Postgres. Never shows the connection's password, nor what is stored.
#[derive(thiserror::Error)]
pub enum StoreError {
    /// The URL cannot be read; the text of the URL is kept out of the message.
    #[error("the database URL is not of the form postgres://USER:PASSWORD@HOST:PORT/DATABASE")]
    BadUrl,
    /// A statement or the connection failed.
    #[error("postgres: {0}")]
    Postgres(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("migrating the database: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// `guildex migrate` has not run yet, or not with this release.
    #[error("the database's schema is not up to date: run `guildex migrate`")]
    OldSchema,
    /// A row holds what this program never writes.
    #[error("the database holds an impossible value: {0}")]
    Corrupt(String),
    /// What was asked of a model does not fit what it is.
    #[error("the model {model} {problem}")]
    Model {
        /// The model.
        model: ModelSlug,
        /// What does not fit, and what to do.
        problem: &'static str,
    },
}

/// As displayed: Postgres puts the whole failing row, and so what somebody wrote, into an error's details.
impl std::fmt::Debug for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoreError({self})")
    }
}

impl StoreError {
    /// Whether the same statement may work later: the server is away, overloaded, read-only or shutting down, or
    /// the transaction lost against another.
    pub fn is_transient(&self) -> bool {
        let Self::Postgres(error) = self else { return false };
        match error {
            sqlx::Error::Database(error) => error.code().is_some_and(|code| {
                // Classes of SQLSTATE: connection, rollback, resources, object state, intervention, system error.
                ["08", "40", "53", "55", "57", "58"].iter().any(|class| code.starts_with(class))
                    // Read-only, and a transaction that stood still for too long.
                    || ["25006", "25P03"].contains(&code.as_ref())
            }),
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => true,
            _ => false,
        }
    }
}

impl StoreError {
    /// Whether a row was there already that nobody saw before.
    pub fn is_duplicate(&self) -> bool {
        matches!(self, Self::Postgres(sqlx::Error::Database(error)) if error.is_unique_violation())
    }
}

impl From<InvalidId> for StoreError {
    fn from(error: InvalidId) -> Self {
        Self::Corrupt(error.to_string())
    }
}

/// How every connection is set.
///
/// Transactions that stand still are ended: a process that is frozen in the middle of one keeps its locks, and
/// everybody who wants to change the same sessions would wait for it to wake. Nothing is compiled: where a plan reads
/// many partitions, compiling it takes longer than running it, half of the time of a large `status`.
const SETTINGS: &str = "SET idle_in_transaction_session_timeout = '30s'; SET jit = off";

/// Connects a pool of at most `max_connections` to the database at `url`.
///
/// # Errors
/// If the URL is malformed, or the server refuses or does not answer.
pub async fn connect(url: &str, max_connections: u32) -> Result<PgPool, StoreError> {
    let options =
        PgConnectOptions::from_str(url).map_err(|_| StoreError::BadUrl)?.application_name("guildex");
    // A pool would go on trying, and then say that time is up instead of what is wrong.
    PgConnection::connect_with(&options).await?.close().await?;
    Ok(PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(Duration::from_secs(10))
        .after_connect(|connection, _| Box::pin(async move { connection.execute(SETTINGS).await.map(drop) }))
        .connect_lazy_with(options))
}

/// Brings the schema up to date. Safe to run any number of times, and from several processes at once.
///
/// # Errors
/// If a migration fails, or the database was migrated by a newer release.
pub async fn migrate(pool: &PgPool) -> Result<(), StoreError> {
    MIGRATOR.run(pool).await?;
    Ok(())
}

/// Makes sure that the schema is that of this release, without changing it.
///
/// # Errors
/// If it is not, or Postgres fails.
pub async fn check_schema(pool: &PgPool) -> Result<(), StoreError> {
    let exists: bool =
        sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL").fetch_one(pool).await?;
    if !exists {
        return Err(StoreError::OldSchema);
    }
    let latest = MIGRATOR.iter().map(|migration| migration.version).max();
    if Some(schema_version(pool).await?) >= latest { Ok(()) } else { Err(StoreError::OldSchema) }
}

/// The newest migration that the schema has.
///
/// # Errors
/// If Postgres fails.
pub async fn schema_version(pool: &PgPool) -> Result<i64, StoreError> {
    let applied: Option<i64> =
        sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success").fetch_one(pool).await?;
    Ok(applied.unwrap_or(0))
}

/// The name of this database's content, made when its schema was: an index remembers from which it was built.
///
/// # Errors
/// If Postgres fails.
pub async fn database_identity(pool: &PgPool) -> Result<Uuid, StoreError> {
    Ok(sqlx::query_scalar("SELECT id FROM database_identity").fetch_one(pool).await?)
}

/// Takes the channel's lock until the transaction ends: whoever changes a channel's messages or sessions holds
/// it, so that a reply cannot miss its parent. With it comes a share of the guild's lock, so that nothing is stored
/// while somebody forgets.
///
/// # Errors
/// If Postgres fails.
pub async fn lock_channel(
    tx: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
) -> Result<(), StoreError> {
    // The guild first, in every case: who holds a channel never waits for the guild, so nobody waits in a circle.
    sqlx::query(
        "WITH guild AS MATERIALIZED (
             SELECT pg_advisory_xact_lock_shared(hashtextextended('guildex/guild/' || $1::text, 0)))
         SELECT pg_advisory_xact_lock(hashtextextended('guildex/channel/' || $1::text || '/' || $2::text, 0))
         FROM guild",
    )
    .bind(guild.get())
    .bind(channel.get())
    .execute(tx)
    .await?;
    Ok(())
}

/// Tells Postgres to plan each statement of this transaction once for all guilds, instead of anew each time: for
/// transactions that read and write little. By itself it plans anew, as it believes that a plan for all guilds would
/// read all partitions, and planning takes longer than what is planned.
///
/// # Errors
/// If Postgres fails.
pub async fn use_generic_plans(tx: &mut PgConnection) -> Result<(), StoreError> {
    tx.execute("SET LOCAL plan_cache_mode = force_generic_plan").await?;
    Ok(())
}

/// Takes the guild's lock until the transaction ends, and so every channel's, known or not: for what a member, a
/// whole channel or a guild is forgotten by. To be taken first, and no channel's lock beside it.
///
/// # Errors
/// If Postgres fails.
pub async fn lock_guild(tx: &mut PgConnection, guild: GuildId) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('guildex/guild/' || $1::text, 0))")
        .bind(guild.get())
        .execute(tx)
        .await?;
    Ok(())
}

/// Takes the lock of the one who deletes what is kept no longer, until the transaction ends; returns whether it was
/// free.
///
/// # Errors
/// If Postgres fails.
pub async fn try_lock_retention(tx: &mut PgConnection) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar("SELECT pg_try_advisory_xact_lock(hashtextextended('guildex/retention', 0))")
        .fetch_one(tx)
        .await?)
}
