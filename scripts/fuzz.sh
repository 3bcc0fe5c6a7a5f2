#!/usr/bin/env bash
# Fuzzes each target for FUZZ_SECONDS (60): by cargo-fuzz when it and a nightly compiler are there, else with the stable
# compiler and the flags that cargo-fuzz would give, without the address sanitizer.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"

limits=(-max_len=4096 "-max_total_time=${FUZZ_SECONDS:-60}")
cargo run --quiet --example seeds

for source in fuzz_targets/*.rs; do
    target=$(basename "$source" .rs)
    echo "== $target"
    if cargo fuzz --version >/dev/null 2>&1 && cargo +nightly --version >/dev/null 2>&1; then
        cargo +nightly fuzz run "$target" -- "${limits[@]}"
    else
        flags="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
        flags+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
        flags+=" -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks"
        host=$(rustc -vV | sed -n 's/^host: //p')
        RUSTC_BOOTSTRAP=1 RUSTFLAGS=$flags \
            cargo run --release --bin "$target" --target "$host" -- "corpus/$target" "${limits[@]}"
    fi
done
