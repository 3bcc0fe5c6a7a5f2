#!/usr/bin/env bash
# The integration tests, source and targets of one version at a time; then some of them from the last version to the first
# one and back. Arguments: major versions; default 14 16 17 18.
set -euo pipefail
cd "$(dirname "$0")/.."
# The tests make their own servers; where psql would connect to is none of their business.
unset -v "${!PG@}"

[ "$#" -gt 0 ] || set -- 14 16 17 18
failed=()
for major in "$@"; do
    bin_dir=$(scripts/fetch-postgres.sh "$major")
    echo "== PostgreSQL $("$bin_dir/postgres" --version)"
    if cargo nextest --version >/dev/null 2>&1; then
        run=(cargo nextest run --workspace --locked -E 'kind(test)')
    else
        run=(cargo test --workspace --locked --test '*')
    fi
    # walcast itself looks for pg_dump on the PATH.
    WALCAST_TEST_PG=$bin_dir PATH=$bin_dir:$PATH "${run[@]}" || failed+=("$major")
done
if [ "$#" -gt 1 ]; then
    first=$(scripts/fetch-postgres.sh "$1") last=$(scripts/fetch-postgres.sh "${!#}")
    for source in newest oldest; do
        echo "== PostgreSQL $1 and ${!#}, the source is the $source"
        WALCAST_TEST_SOURCE=$source WALCAST_TEST_PG=$first:$last PATH=$last:$PATH \
            cargo test --locked -p walcast --test it -- --test-threads 2 \
            smoke ddl::every_kind ddl::d07 ddl_roles::d17 bootstrap::f31_a_target_made verify::d24 ||
            failed+=("$1:${!#}, source $source")
    done
fi
[ "${#failed[@]}" -eq 0 ] || { echo "test-matrix: failed with PostgreSQL ${failed[*]}" >&2; exit 1; }
echo "test-matrix: passed with PostgreSQL $*"
