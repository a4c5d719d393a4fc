//! The `guildex` command line program; see `main.rs`. This library is empty: it exists so that the package's tests can enable
//! the `evaluation` feature through a dependency on the package itself.
