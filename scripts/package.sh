#!/usr/bin/env bash
# Builds the Debian package, and prints where it is: scripts/package.sh [--profile PROFILE]. The profile is release; "dev" takes
# the program that the tests have built. Needs cargo-deb, or fetches it into .cache; exits 77, and
# says so, where that fails.
set -euo pipefail
cd "$(dirname "$0")/.."

CARGO_DEB_VERSION=3.8.0
profile=release
if [ "${1:-}" = --profile ] && [ -n "${2:-}" ]; then
    profile=$2
elif [ $# -gt 0 ]; then
    echo "usage: scripts/package.sh [--profile PROFILE]" >&2
    exit 2
fi

if ! cargo deb --version >/dev/null 2>&1; then
    PATH="$PWD/.cache/tools/bin:$PATH"
    if ! cargo deb --version >/dev/null 2>&1; then
        echo "package: fetching cargo-deb" >&2
        cargo install cargo-deb --version "$CARGO_DEB_VERSION" --locked --root .cache/tools --target-dir .cache/tools/target >&2 || {
            echo "package: SKIPPED, NOTHING WAS BUILT: cargo-deb is not installed and could not be fetched" >&2
            exit 77
        }
        rm -rf .cache/tools/target
    fi
fi

target_dir=${CARGO_TARGET_DIR:-target}
# The profile "dev" has a directory of another name.
built=$target_dir/${profile/#dev/debug}
cargo build --locked --profile "$profile" --package walcast >&2

# What the program says of itself, and the example as it is to be in /etc.
made=$built/package
rm -rf "$made"
mkdir -p "$made"
"$built/walcast" man "$made/man"
gzip -9n "$made"/man/*.1
"$built/walcast" completions bash >"$made/walcast.bash"
"$built/walcast" completions zsh >"$made/_walcast"
"$built/walcast" completions fish >"$made/walcast.fish"
sed 's|^#dir = "walcast-log"$|dir = "/var/lib/walcast/log"|' config/walcast.example.toml >"$made/walcast.toml"
grep -q '^dir = "/var/lib/walcast/log"$' "$made/walcast.toml"
"$built/walcast" -c "$made/walcast.toml" check --config-only >&2

# What is for a test only need not be small.
fast=()
[ "$profile" != dev ] || fast=(--fast)
cargo deb --locked --no-build --quiet --strip --profile "$profile" --package walcast "${fast[@]}"
