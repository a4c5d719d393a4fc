//! The truth in Postgres: pool, migrations, and queries by aggregate.
