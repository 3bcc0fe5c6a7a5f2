#!/usr/bin/env bash
# The random tests for long: 100 cycles of killing the service, with each of three seeds (or those given); then 20 of
# every other fault: failpoints of the applier, killed servers of source and targets, SIGTERM under load; and 20 copies of
# a database and of a table during which the command, the service or a server is killed, and 20 comparisons under load; 20
# kills of the service or a target among DDL and rows; 20 random histories through every tier; and twenty million changes,
# at the end of which rate, memory and open files have to be what they were at the beginning.
set -euo pipefail
cd "$(dirname "$0")/.."
# The tests make their own servers; where psql would connect to is none of their business.
unset -v "${!PG@}"

[ "$#" -gt 0 ] || set -- 1 2 3
for seed in "$@"; do
    echo "== seed $seed"
    WALCAST_SEED=$seed WALCAST_KILL_CYCLES=${WALCAST_KILL_CYCLES:-100} \
        cargo test --release --locked --test it -- --nocapture --test-threads 1 kill::
done
echo "== faults"
WALCAST_SEED=$1 WALCAST_FAULT_CYCLES=${WALCAST_FAULT_CYCLES:-20} \
    cargo test --release --locked --test it -- --nocapture --test-threads 1 faults::f
echo "== copies"
WALCAST_SEED=$1 WALCAST_BOOTSTRAP_CYCLES=${WALCAST_COPY_CYCLES:-20} WALCAST_RESYNC_CYCLES=${WALCAST_COPY_CYCLES:-20} \
    WALCAST_VERIFY_CYCLES=${WALCAST_COPY_CYCLES:-20} \
    cargo test --release --locked --test it -- --nocapture --test-threads 1 bootstrap:: resync:: verify::
echo "== DDL"
WALCAST_SEED=$1 WALCAST_DDL_CYCLES=${WALCAST_DDL_CYCLES:-20} \
    cargo test --release --locked --test it -- --nocapture --test-threads 1 ddl
echo "== tiers"
WALCAST_SEED=$1 WALCAST_TIERS_CYCLES=${WALCAST_TIERS_CYCLES:-20} \
    cargo test --release --locked --test it -- --nocapture --test-threads 1 tiers::
echo "== horizon"
results=$(mktemp)
trap 'rm -f "$results"' EXIT
bench/run.sh horizon --strict --out "$results"
echo "soak: passed with seeds $*"
