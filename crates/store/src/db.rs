//! Connections, migrations, locks, and the crate's error type.

use std::str::FromStr;
use std::time::Duration;

use guildex_types::{ChannelId, GuildId, InvalidId, ModelSlug};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, Executor, PgConnection, PgPool};
use uuid::Uuid;

/// The schema, from `migrations/`.
pub static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

/// Error of the store. Its text contains neither the connection's password nor stored content.
#[derive(thiserror::Error)]
pub enum StoreError {
    /// Malformed URL. The message does not contain it.
    #[error("the database URL is not of the form postgres://USER:PASSWORD@HOST:PORT/DATABASE")]
    BadUrl,
    /// A statement or connection failed.
    #[error("postgres: {0}")]
    Postgres(sqlx::Error),
    /// A migration failed.
    #[error("migrating the database: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// `guildex migrate` did not run, or not with this release.
    #[error("the database's schema is not up to date: run `guildex migrate`")]
    OldSchema,
    /// A row contains a value that this program does not write.
    #[error("invalid value in the database: {0}")]
    Corrupt(String),
    /// The operation is not possible in the model's state.
    #[error("the model {model} {problem}")]
    Model {
        /// Model.
        model: ModelSlug,
        /// Reason, and remedy.
        problem: &'static str,
    },
}

/// Prints what Display prints: Postgres includes the failing row, and so message content, in the details of
/// an error.
impl std::fmt::Debug for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoreError({self})")
    }
}

impl StoreError {
    /// Returns whether the statement may succeed later: the server is unavailable, overloaded, read-only or
    /// shutting down, or the transaction was rolled back for another.
    pub fn is_transient(&self) -> bool {
        let Self::Postgres(error) = self else { return false };
        match error {
            sqlx::Error::Database(error) => error.code().is_some_and(|code| {
                // Classes of SQLSTATE: connection, rollback, resources, object state, intervention, system
                // error.
                ["08", "40", "53", "55", "57", "58"].iter().any(|class| code.starts_with(class))
                    // Read-only, and an idle transaction that timed out.
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

    /// Returns whether a unique constraint was violated: another program inserted the row first.
    pub fn is_duplicate(&self) -> bool {
        matches!(self, Self::Postgres(sqlx::Error::Database(error)) if error.is_unique_violation())
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::ColumnDecode { index, source } => Self::Corrupt(format!("column {index}: {source}")),
            error => Self::Postgres(error),
        }
    }
}

impl From<InvalidId> for StoreError {
    fn from(error: InvalidId) -> Self {
        Self::Corrupt(error.to_string())
    }
}

/// Settings of every connection.
///
/// Idle transactions time out, since a process that freezes within one would keep its locks and block all
/// that change the same sessions. JIT is off: for plans that read many partitions, compilation takes longer
/// than execution (half of the time of a large `status`).
const SETTINGS: &str = "SET idle_in_transaction_session_timeout = '30s'; SET jit = off";

/// Opens a pool of at most `max_connections` connections to the database at `url`. Fails at once if the
/// server is unavailable.
///
/// # Errors
/// [`StoreError::BadUrl`] if the URL is malformed.
pub async fn connect(url: &str, max_connections: u32) -> Result<PgPool, StoreError> {
    let options =
        PgConnectOptions::from_str(url).map_err(|_| StoreError::BadUrl)?.application_name("guildex");
    // A pool would retry, and then report a timeout instead of the cause.
    PgConnection::connect_with(&options).await?.close().await?;
    Ok(PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(Duration::from_secs(10))
        .after_connect(|connection, _| Box::pin(async move { connection.execute(SETTINGS).await.map(drop) }))
        .connect_lazy_with(options))
}

/// Applies pending migrations. Idempotent, and safe in several processes at once.
///
/// # Errors
/// [`StoreError::Migrate`] if a migration fails, or a newer release migrated the database.
pub async fn migrate(pool: &PgPool) -> Result<(), StoreError> {
    MIGRATOR.run(pool).await?;
    Ok(())
}

/// Checks that all migrations of this release are applied.
///
/// # Errors
/// [`StoreError::OldSchema`] if they are not.
pub async fn check_schema(pool: &PgPool) -> Result<(), StoreError> {
    let exists: bool =
        sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL").fetch_one(pool).await?;
    if !exists {
        return Err(StoreError::OldSchema);
    }
    let latest = MIGRATOR.iter().map(|migration| migration.version).max();
    if Some(schema_version(pool).await?) >= latest { Ok(()) } else { Err(StoreError::OldSchema) }
}

/// Returns the version of the latest applied migration.
pub async fn schema_version(pool: &PgPool) -> Result<i64, StoreError> {
    let applied: Option<i64> =
        sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success").fetch_one(pool).await?;
    Ok(applied.unwrap_or(0))
}

/// Returns the id that identifies this database's content, generated with its schema. An index stores the id
/// of the database that it was built from.
pub async fn database_identity(pool: &PgPool) -> Result<Uuid, StoreError> {
    Ok(sqlx::query_scalar("SELECT id FROM database_identity").fetch_one(pool).await?)
}

/// Locks a channel until the transaction ends. All changes of its messages or sessions hold this lock, so
/// that a reply cannot miss its parent. Also takes a share of the guild's lock, so that no message is stored
/// during an erasure.
pub async fn lock_channel(
    tx: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
) -> Result<(), StoreError> {
    // Always the guild first: a holder of a channel's lock never waits for the guild's, so there are no
    // deadlocks.
    sqlx::query(
        "WITH guild AS MATERIALIZED (
             SELECT pg_advisory_xact_lock_shared(hashtextextended('guildex/guild/' || $1::text, 0)))
         SELECT pg_advisory_xact_lock(hashtextextended('guildex/channel/' || $1::text || '/' || $2::text, 0))
         FROM guild",
    )
    .bind(guild)
    .bind(channel)
    .execute(tx)
    .await?;
    Ok(())
}

/// Makes Postgres use generic plans in this transaction, for transactions that read and write little. By
/// default it plans every execution, since it estimates that a generic plan reads all partitions, and
/// planning takes longer than execution.
pub async fn use_generic_plans(tx: &mut PgConnection) -> Result<(), StoreError> {
    tx.execute("SET LOCAL plan_cache_mode = force_generic_plan").await?;
    Ok(())
}

/// Locks a guild with all of its channels, stored or not, until the transaction ends: for erasures of
/// members, channels and guilds. Take it first, and no channel's lock with it.
pub async fn lock_guild(tx: &mut PgConnection, guild: GuildId) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('guildex/guild/' || $1::text, 0))")
        .bind(guild)
        .execute(tx)
        .await?;
    Ok(())
}

/// Tries to take the lock of the retention task until the transaction ends, and returns whether it was free.
pub async fn try_lock_retention(tx: &mut PgConnection) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar("SELECT pg_try_advisory_xact_lock(hashtextextended('guildex/retention', 0))")
        .fetch_one(tx)
        .await?)
}
