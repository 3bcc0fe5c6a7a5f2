#!/usr/bin/env bash
# All tests. Arguments go to the runner. Documentation examples come first, because nextest does not run them.
set -euo pipefail
cd "$(dirname "$0")/.."

if cargo nextest --version >/dev/null 2>&1; then
    cargo test --workspace --locked --quiet --doc
    exec cargo nextest run --workspace --locked "$@"
fi
exec cargo test --workspace --locked "$@"
