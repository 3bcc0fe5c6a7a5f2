#!/usr/bin/env bash
# Builds the Debian package of the program that the tests have built, and tests it: under a systemd of its own where that can be,
# so that nothing of this machine is touched, else on this machine. What cannot be done at all is said loudly, and no failure.
set -euo pipefail
cd "$(dirname "$0")/.."

skipped=77
not_tested() {
    printf '%s\n' '' '!!! THE DEBIAN PACKAGE WAS NOT TESTED: see "SKIPPED" above !!!' '' >&2
    exit 0
}

status=0
package=$(scripts/package.sh --profile dev | tail -n 1) || status=$?
[ "$status" -ne "$skipped" ] || not_tested
[ "$status" -eq 0 ] || exit "$status"
package=$(realpath "$package")

scripts/with-systemd.sh --file scripts/test-package.sh --file "$package" \
    /run/exchange/test-package.sh "/run/exchange/${package##*/}" || status=$?
if [ "$status" -eq "$skipped" ]; then
    echo "check-package: without systemd, the unit's sandbox and watchdog are not tested" >&2
    status=0
    scripts/test-package.sh "$package" || status=$?
fi
[ "$status" -ne "$skipped" ] || not_tested
exit "$status"
