#!/usr/bin/env bash
# Fuzzes each target for FUZZ_SECONDS, when cargo-fuzz and a nightly toolchain are there. Else the property tests run with
# many more cases than usual.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -d fuzz ] && cargo fuzz --version >/dev/null 2>&1 && cargo +nightly --version >/dev/null 2>&1; then
    for target in $(cargo +nightly fuzz list); do
        cargo +nightly fuzz run "$target" -- -max_total_time="${FUZZ_SECONDS:-60}"
    done
else
    echo "fuzz: no cargo-fuzz with a nightly toolchain, running the property tests instead"
    PROPTEST_CASES=${PROPTEST_CASES:-20000} cargo test --release --locked -p decoder -p segment_log
fi
