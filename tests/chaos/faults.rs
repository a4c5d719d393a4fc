//! Faults: how each is injected, for how long, and how it is ended.

use std::fmt;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use sqlx::{Connection, PgConnection};
use tokio::time::sleep;

use crate::servers::Server;
use crate::world::World;
use guildex_test_support::qdrant::Fault as IndexFault;

/// A fault. Faults of the index need the stand-in server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    ProcessKilled,
    AllProcessesKilled,
    ProcessFrozen,
    ProcessRestarted,
    PostgresKilled,
    PostgresFrozen,
    PostgresConnectionsCut,
    PostgresReadOnly,
    RedisKilled,
    RedisFlushed,
    RedisFrozen,
    RedisFull,
    IndexUnavailable,
    IndexCut,
    IndexSlow,
    IndexFull,
    IndexBusy,
}

const COMMON_FAULTS: [Fault; 12] = [
    Fault::ProcessKilled,
    Fault::AllProcessesKilled,
    Fault::ProcessFrozen,
    Fault::ProcessRestarted,
    Fault::PostgresKilled,
    Fault::PostgresFrozen,
    Fault::PostgresConnectionsCut,
    Fault::PostgresReadOnly,
    Fault::RedisKilled,
    Fault::RedisFlushed,
    Fault::RedisFrozen,
    Fault::RedisFull,
];

const INDEX_FAULTS: [Fault; 5] =
    [Fault::IndexUnavailable, Fault::IndexCut, Fault::IndexSlow, Fault::IndexFull, Fault::IndexBusy];

/// Calls that read or write points.
const CALLS: [&str; 7] = ["upsert", "delete", "scroll", "count", "query_batch", "facet", "get"];

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProcessKilled => "process killed",
            Self::AllProcessesKilled => "all processes killed",
            Self::ProcessFrozen => "process frozen",
            Self::ProcessRestarted => "process restarted",
            Self::PostgresKilled => "Postgres killed",
            Self::PostgresFrozen => "Postgres frozen",
            Self::PostgresConnectionsCut => "Postgres connections cut",
            Self::PostgresReadOnly => "Postgres read-only",
            Self::RedisKilled => "Redis killed",
            Self::RedisFlushed => "Redis flushed",
            Self::RedisFrozen => "Redis frozen",
            Self::RedisFull => "Redis out of memory",
            Self::IndexUnavailable => "index unavailable",
            Self::IndexCut => "index cut off",
            Self::IndexSlow => "index hangs",
            Self::IndexFull => "index full",
            Self::IndexBusy => "index rejects",
        })
    }
}

impl Fault {
    /// Names of all faults of this environment.
    pub fn names(world: &World) -> String {
        let names: Vec<String> = Self::all(world).iter().map(ToString::to_string).collect();
        names.join(", ")
    }

    /// All faults of this environment.
    pub fn all(world: &World) -> Vec<Self> {
        let mut all = COMMON_FAULTS.to_vec();
        if world.stand_in.is_some() {
            all.extend(INDEX_FAULTS);
        }
        all
    }

    /// Injects the fault, and ends it after a while.
    pub async fn inject(self, world: &World, random: &mut StdRng) -> anyhow::Result<()> {
        let a_while = Duration::from_millis(random.random_range(1_000..6_000));
        match self {
            Self::ProcessKilled => {
                let mut fleet = world.fleet.lock().await;
                let member = random.random_range(0..fleet.size());
                fleet.kill(member)?;
            }
            Self::AllProcessesKilled => {
                let mut fleet = world.fleet.lock().await;
                for member in 0..fleet.size() {
                    fleet.kill(member)?;
                }
            }
            Self::ProcessFrozen => {
                // In half of the cases longer than its lease, so that another worker takes its jobs.
                let longer = if random.random_bool(0.5) { world.lease + a_while } else { a_while };
                let member = random.random_range(0..world.fleet.lock().await.size());
                world.fleet.lock().await.signal(member, "STOP")?;
                sleep(longer).await;
                world.fleet.lock().await.signal(member, "CONT")?;
            }
            Self::ProcessRestarted => {
                let mut fleet = world.fleet.lock().await;
                let member = random.random_range(0..fleet.size());
                fleet.signal(member, "TERM")?;
            }
            Self::PostgresKilled => kill(world, Server::Postgres, a_while).await?,
            Self::RedisKilled => kill(world, Server::Redis, a_while).await?,
            Self::PostgresFrozen => freeze(world, Server::Postgres, a_while).await?,
            Self::RedisFrozen => freeze(world, Server::Redis, a_while).await?,
            Self::PostgresConnectionsCut => {
                let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                           WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
                postgres(world, &[cut]).await?;
            }
            Self::PostgresReadOnly => {
                let reload = "SELECT pg_reload_conf()";
                postgres(world, &["ALTER SYSTEM SET default_transaction_read_only = on", reload]).await?;
                sleep(a_while).await;
                let write = "SET default_transaction_read_only = off";
                let reset = "ALTER SYSTEM RESET default_transaction_read_only";
                postgres(world, &[write, reset, reload]).await?;
            }
            Self::RedisFlushed => world.servers.redis(&["FLUSHALL"])?,
            Self::RedisFull => {
                world.servers.redis(&["CONFIG", "SET", "maxmemory-policy", "noeviction"])?;
                world.servers.redis(&["CONFIG", "SET", "maxmemory", "1"])?;
                sleep(a_while).await;
                world.servers.redis(&["CONFIG", "SET", "maxmemory", "0"])?;
            }
            Self::IndexUnavailable => inject_index_fault(world, IndexFault::Unavailable, a_while).await,
            Self::IndexCut => inject_index_fault(world, IndexFault::ResetAfter, a_while).await,
            Self::IndexSlow => inject_index_fault(world, IndexFault::Slow, a_while).await,
            Self::IndexFull => inject_index_fault(world, IndexFault::Full, a_while).await,
            Self::IndexBusy => inject_index_fault(world, IndexFault::Busy, a_while).await,
        }
        Ok(())
    }
}

async fn kill(world: &World, server: Server, a_while: Duration) -> anyhow::Result<()> {
    world.servers.signal(server, "KILL")?;
    sleep(a_while).await;
    world.servers.revive()
}

async fn freeze(world: &World, server: Server, a_while: Duration) -> anyhow::Result<()> {
    world.servers.signal(server, "STOP")?;
    sleep(a_while).await;
    world.servers.signal(server, "CONT")
}

async fn inject_index_fault(world: &World, fault: IndexFault, a_while: Duration) {
    let Some(stand_in) = &world.stand_in else { return };
    for call in CALLS {
        stand_in.faults.always(call, fault);
    }
    sleep(a_while).await;
    for call in CALLS {
        stand_in.faults.always(call, IndexFault::None);
    }
    // Pending calls would otherwise hang until their callers time out.
    stand_in.faults.cut();
}

async fn postgres(world: &World, statements: &[&'static str]) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(&world.servers.database_url).await?;
    for statement in statements {
        sqlx::query(*statement).execute(&mut connection).await?;
    }
    connection.close().await?;
    Ok(())
}
