//! Servers that belong to one test, which may kill, freeze and reconfigure them. They end with the test.

mod postgres;
mod process;
mod redis;

pub use postgres::{Postgres, execute_on};
pub use process::signal;
pub use redis::Redis;
