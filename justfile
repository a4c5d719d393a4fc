# Short names for the scripts, which do not need `just`.

# List the recipes.
default:
    @just --list

# Import exports (by default the samples), index them, search them.
[positional-arguments]
demo *paths:
    @scripts/demo "$@"

# Run all checks; with arguments, only tests.
[positional-arguments]
test *arguments:
    @scripts/test "$@"

# Start, stop, show or print the environment of the private PostgreSQL and Redis.
services action="status":
    @scripts/services {{ action }}

# Format the code.
fmt:
    cargo fmt --all

# Check formatting and lints.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# Build the documentation of the crates.
doc:
    cargo doc --workspace --no-deps
