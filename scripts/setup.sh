#!/usr/bin/env bash
# Makes a Debian machine with Rust ready for everything in the Makefile; for the tests with the argument "tests". It
# installs what is missing, when it may, and else says what to install. It never stops or changes what runs already.
set -euo pipefail

fail() {
    echo "setup: $1" >&2
    echo "hint: $2" >&2
    exit 1
}

command -v cargo >/dev/null || fail "cargo not found" "install Rust as https://rustup.rs says"

has_server() {
    local dir
    [ -n "${WALCAST_TEST_PG:-}" ] && return 0
    for dir in "$(pg_config --bindir 2>/dev/null || true)" /usr/lib/postgresql/*/bin; do
        [ -x "$dir/postgres" ] && [ -x "$dir/initdb" ] && return 0
    done
    return 1
}

has_clients() {
    command -v psql >/dev/null && { command -v pgbench >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/pgbench' >/dev/null; }
}

missing=()
has_server && has_clients || missing+=(postgresql postgresql-contrib)
command -v cc >/dev/null || missing+=(build-essential)
# The tests start a Prometheus, and a browser for the web page.
if [ "${1:-}" = tests ]; then
    command -v prometheus >/dev/null && command -v promtool >/dev/null || missing+=(prometheus)
    command -v chromium >/dev/null || missing+=(chromium)
fi
[ "${#missing[@]}" -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
        as_root=(sudo)
    else
        fail "missing: ${missing[*]}" "run \"apt-get install ${missing[*]}\" as root"
    fi
fi
command -v apt-get >/dev/null || fail "missing: ${missing[*]}" "install PostgreSQL 14 or later with its clients, and a C compiler"

echo "setup: installing ${missing[*]}"
"${as_root[@]}" apt-get update -q
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
has_server || fail "PostgreSQL was installed, but no server is in /usr/lib/postgresql/*/bin" "name its bin directory in WALCAST_TEST_PG"
