# shellcheck shell=bash
# Shared functions. Source this file; do not run it.

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

# Cargo's build folder as an absolute path; a relative CARGO_TARGET_DIR is relative to the working directory.
build_folder=$(realpath -m -- "${CARGO_TARGET_DIR:-$root/target}")
[[ -z ${CARGO_TARGET_DIR:-} ]] || export CARGO_TARGET_DIR=$build_folder

# Results of downloads, outside the checkout.
home=${HOME:-$(getent passwd "$EUID" | cut -d: -f6)}
cache_folder=${XDG_CACHE_HOME:-$home/.cache}/guildex

# Prints a message to stderr; stdout is for results.
say() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

die() {
    say "$*"
    exit 1
}

# Prints the first Python that the pinned wheels support and that has venv.
find_python() {
    local candidate
    for candidate in /usr/bin/python3 python3 python3.13 python3.12 python3.11 python3.14; do
        if "$candidate" -I -c '
import ensurepip, sys, venv
sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    return 1
}

# Prints the first folder with a PostgreSQL server.
find_postgres() {
    local candidate
    while read -r candidate; do
        if [[ -x $candidate/initdb && -x $candidate/pg_ctl && -x $candidate/postgres ]]; then
            printf '%s\n' "$candidate"
            return
        fi
    done < <(
        pg_config --bindir 2>/dev/null
        if found=$(command -v postgres); then dirname "$(realpath "$found")"; fi
        find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -rV
    )
    return 1
}

# Succeeds if the caller set the variable NAME. Values printed earlier by `services env` do not count: passwords of the
# private servers begin with "private-", and the model is in the cache.
given() {
    local value=${!1:-}
    [[ -n $value && $value != *:private-*@127.0.0.1:* && $value != "$cache_folder"/* ]]
}

# Prints an export of NAME with the caller's value, or else VALUE.
print_export() {
    local value=$2
    if given "$1"; then value=${!1}; fi
    printf 'export %s=%q\n' "$1" "$value"
}

# Prints a command as one would type it, then runs it.
run() {
    local line='' word
    for word in "$@"; do
        [[ $word =~ ^[[:alnum:]_./:=@+-]+$ ]] || word=${word@Q}
        line+=" $word"
    done
    printf '\n$%s\n' "$line" >&2
    "$@"
}

# Runs psql on DATABASE_URL, with the password in the environment, where other users cannot see it.
database() {
    local url=$DATABASE_URL password=${PGPASSWORD:-} psql
    if [[ $url =~ ^([a-z]+://[^:/@]*):([^/@]*)@(.*)$ ]]; then
        url=${BASH_REMATCH[1]}@${BASH_REMATCH[3]}
        password=${BASH_REMATCH[2]//\\/\\\\}
        password=$(printf '%b' "${password//%/\\x}")
    fi
    psql=$(command -v psql) || psql=$(find_postgres)/psql
    PGPASSWORD=$password PGCONNECT_TIMEOUT=10 "$psql" -XqAt -v ON_ERROR_STOP=1 -d "$url" "$@"
}

# Prints DATABASE_URL with another database NAME.
in_database() {
    [[ $DATABASE_URL =~ ^([a-z]+://[^/?]*)(/[^?]*)?(.*)$ ]] || die "DATABASE_URL is not a URL"
    printf '%s/%s%s\n' "${BASH_REMATCH[1]}" "$1" "${BASH_REMATCH[3]}"
}
