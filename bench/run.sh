#!/usr/bin/env bash
# Builds walcast and the benchmark, and measures. Arguments go to the benchmark: `bench/run.sh --help` lists them.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --locked -p walcast -p bench
# Cargo knows where it builds to; the benchmark looks for walcast beside itself.
exec cargo run --release --locked --quiet -p bench -- "$@"
