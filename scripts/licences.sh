#!/usr/bin/env bash
# Licences, sources and bans of all dependencies, as deny.toml says: by cargo-deny when it is installed, else here.
# Known vulnerabilities need the network: WALCAST_ADVISORIES=1 checks them too, with cargo-deny.
set -euo pipefail
cd "$(dirname "$0")/.."

if cargo deny --version >/dev/null 2>&1; then
    cargo deny --locked check bans licenses sources
    [ -z "${WALCAST_ADVISORIES:-}" ] || cargo deny --locked check advisories
    exit
fi
[ -z "${WALCAST_ADVISORIES:-}" ] || { echo "licences: advisories need cargo-deny" >&2; exit 1; }

# Every dependency comes from the registry or from this workspace.
if foreign=$(grep '^source = ' Cargo.lock | grep -v '"registry+https://github.com/rust-lang/crates.io-index"' | sort -u); then
    echo "licences: a source that deny.toml does not allow: $foreign" >&2
    exit 1
fi

banned=$(sed -n 's/^deny = \[\(.*\)\]$/\1/p' deny.toml | tr -d '",')
for name in $banned; do
    if grep -q "^name = \"$name\"$" Cargo.lock; then
        echo "licences: deny.toml bans $name" >&2
        exit 1
    fi
done

# Each dependency's expression must hold with the licences that deny.toml allows.
allowed=$(sed -n '/^allow = \[/,/^\]/s/^ *"\(.*\)",*$/\1/p' deny.toml)
cargo tree --workspace --locked --all-features --edges normal,build,dev --prefix none --format '{l}|{p}' |
    sed 's/ (\*)$//; /^$/d' | sort -u | ALLOWED=$allowed awk -F '|' '
    BEGIN {
        count = split(ENVIRON["ALLOWED"], names, "\n")
        for (i = 1; i <= count; i++) is_allowed[names[i]] = 1
    }
    # The value of an expression without parentheses.
    function flat(expression,    alternatives, parts, n, m, i, j, holds) {
        n = split(expression, alternatives, / OR |\//)
        for (i = 1; i <= n; i++) {
            m = split(alternatives[i], parts, / AND /)
            holds = 1
            for (j = 1; j <= m; j++) {
                gsub(/^ +| +$/, "", parts[j])
                if (parts[j] != "TRUE" && !(parts[j] in is_allowed)) holds = 0
            }
            if (holds) return "TRUE"
        }
        return "FALSE"
    }
    function value(expression) {
        while (match(expression, /\([^()]*\)/))
            expression = substr(expression, 1, RSTART - 1) flat(substr(expression, RSTART + 1, RLENGTH - 2)) \
                substr(expression, RSTART + RLENGTH)
        return flat(expression)
    }
    value($1) != "TRUE" { print "licences: " $2 " is under \"" $1 "\", which deny.toml does not allow" > "/dev/stderr"; bad = 1 }
    END {
        if (NR == 0) { print "licences: no dependency was listed" > "/dev/stderr"; bad = 1 }
        if (!bad) print "licences: " NR " packages are under allowed licences"
        exit bad
    }'
