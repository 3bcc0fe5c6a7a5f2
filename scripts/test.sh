#!/usr/bin/env bash
# All tests. Arguments go to the runner. Documentation examples come first, because nextest does not run them.
set -euo pipefail
cd "$(dirname "$0")/.."
# The tests make their own servers; where psql would connect to is none of their business.
unset -v "${!PG@}"

if cargo nextest --version >/dev/null 2>&1; then
    cargo test --workspace --locked --quiet --doc
    exec cargo nextest run --workspace --locked "$@"
fi
exec cargo test --workspace --locked "$@"
