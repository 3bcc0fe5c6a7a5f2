#!/usr/bin/env bash
# Installs the Debian package on this machine, mirrors a database with it, restarts and reloads the service, and removes and purges
# the package again: scripts/test-package.sh PACKAGE.deb
#
# Where systemd is process 1 (scripts/with-systemd.sh makes it so) the unit is started by it. Elsewhere what the unit says is started as the unit's user, with the
# socket of a service manager of this script's own. Exits 77, and says so, where that cannot be done: not as root, without dpkg or
# PostgreSQL, or where a walcast is installed that is somebody's.
set -euo pipefail

skip() {
    echo "test-package: SKIPPED, NOTHING WAS TESTED: $1" >&2
    exit 77
}

fail() {
    echo "test-package: FAILED: $1" >&2
    [ ! -s "$work/service.log" ] || { echo "the service's output:" && tail -n 30 "$work/service.log"; } >&2
    [ ! -s "$work/notify.log" ] || { echo "what the manager heard:" && tail -n 10 "$work/notify.log"; } >&2
    exit 1
}

say() { echo "test-package: $1"; }

[ $# -eq 1 ] && [ -f "$1" ] || { echo "usage: scripts/test-package.sh PACKAGE.deb" >&2; exit 2; }
package=$(realpath "$1")

[ "$(id -u)" -eq 0 ] || skip "it takes root to install a package"
for program in dpkg adduser runuser setpriv perl psql; do
    command -v "$program" >/dev/null || skip "$program is not installed"
done
! dpkg-query -W walcast >/dev/null 2>&1 || skip "package walcast is installed on this machine already"
! getent passwd walcast >/dev/null || skip "user walcast is on this machine already"
for path in /etc/walcast /var/lib/walcast /usr/bin/walcast; do
    [ ! -e "$path" ] || skip "$path is on this machine already"
done
bin=$(pg_config --bindir 2>/dev/null || true)
[ -x "$bin/initdb" ] || bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
[ -x "$bin/initdb" ] || skip "no PostgreSQL server is installed"
getent passwd postgres >/dev/null || skip "there is no user postgres to run a server as"
is_systemd=false
[ ! -d /run/systemd/system ] || is_systemd=true

work=$(mktemp -d)
chmod 755 "$work"
service_pid=
manager_pid=

# Ends what this script started, and nothing else.
clean_up() {
    status=$?
    trap - EXIT
    [ -z "$service_pid" ] || kill -KILL "$service_pid" 2>/dev/null || true
    [ -z "$manager_pid" ] || kill "$manager_pid" 2>/dev/null || true
    for name in source target; do
        [ ! -f "$work/$name/postmaster.pid" ] || as_postgres "$bin/pg_ctl" -D "$work/$name" -m immediate -s stop || true
    done
    if dpkg-query -W walcast >/dev/null 2>&1; then
        dpkg --purge walcast >/dev/null 2>&1 || echo "test-package: package walcast could not be purged" >&2
    fi
    rm -rf "$work"
    exit "$status"
}
trap clean_up EXIT

as_postgres() { runuser -u postgres -- env -u NOTIFY_SOCKET "$@"; }

# until SECONDS WHAT COMMAND…: waits until the command succeeds.
until_true() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || fail "not in time: $what"
        sleep 0.2
    done
}

free_port() {
    perl -MSocket -e 'socket(S, PF_INET, SOCK_STREAM, 0) && bind(S, sockaddr_in(0, INADDR_LOOPBACK)) or die $!;
        print((sockaddr_in(getsockname S))[0])'
}

# start_server NAME: a cluster with database app, in $work/NAME.
start_server() {
    install -d -o postgres "$work/$1"
    port=$(free_port)
    as_postgres "$bin/initdb" -D "$work/$1" -A trust -U postgres --no-sync >"$work/$1.log"
    cat >>"$work/$1/postgresql.conf" <<-END
		listen_addresses = '127.0.0.1'
		port = $port
		unix_socket_directories = '$work/$1'
		wal_level = logical
		fsync = off
	END
    as_postgres "$bin/pg_ctl" -D "$work/$1" -w -s -l "$work/$1/server.log" start
    as_postgres psql -qXh 127.0.0.1 -p "$port" -c 'CREATE DATABASE app' postgres
}

sql() { as_postgres psql -qXAth 127.0.0.1 -p "$1" -v ON_ERROR_STOP=1 -c "$2" app; }

# The installed program as its user.
walcast() { runuser -u walcast -- env HOME=/var/lib/walcast /usr/bin/walcast --config /etc/walcast/walcast.toml "$@"; }

unit=/lib/systemd/system/walcast.service
unit_value() { sed -n "s/^$1=//p" "$unit" | head -n 1; }

# A service manager for machines without one: writes down what it is told.
start_manager() {
    perl -MSocket -e '$| = 1; socket(S, PF_UNIX, SOCK_DGRAM, 0) && bind(S, sockaddr_un($ARGV[0])) or die $!;
        chmod 0666, $ARGV[0]; while (defined recv(S, $m, 65536, 0)) { print "$m\n" }' "$work/notify" >"$work/notify.log" &
    manager_pid=$!
    until_true 10 "the manager's socket" test -S "$work/notify"
}

heard() { tail -n "+$((heard_before + 1))" "$work/notify.log" | grep -q "^$1"; }

start_service() {
    if $is_systemd; then
        systemctl start walcast || fail "systemctl start: $(journalctl -u walcast -n 20 --no-pager)"
        return
    fi
    heard_before=$(wc -l <"$work/notify.log")
    read -ra command <<<"$(unit_value ExecStart)"
    user=$(unit_value User)
    setpriv --reuid "$user" --regid "$user" --init-groups -- env -i HOME=/var/lib/walcast PATH=/usr/bin:/bin NOTIFY_SOCKET="$work/notify" \
        WATCHDOG_USEC="$(unit_value WatchdogSec)000000" \
        sh -c 'cd "$0" && umask "$1" && shift && exec "$@"' "$(unit_value WorkingDirectory)" "$(unit_value UMask)" "${command[@]}" \
        </dev/null >>"$work/service.log" 2>&1 &
    service_pid=$!
    until_true 60 "the service is ready" heard READY=1
    heard WATCHDOG=1 || until_true 30 "the service is alive" heard WATCHDOG=1
}

reload_service() {
    if $is_systemd; then
        systemctl reload walcast
        return
    fi
    heard_before=$(wc -l <"$work/notify.log")
    walcast check --config-only >/dev/null
    kill -HUP "$service_pid"
    until_true 30 "the service tells that it reloads" heard RELOADING=1
    until_true 30 "the service has reloaded" heard READY=1
}

stop_service() {
    if $is_systemd; then
        systemctl stop walcast
        return
    fi
    kill -TERM "$service_pid"
    wait "$service_pid" || fail "the service ended with status $?"
    service_pid=
    heard STOPPING=1 || until_true 10 "the service tells that it stops" heard STOPPING=1
}

# A service that does not move any more is started anew, sooner than the unit says.
watchdog_bites() {
    local dir=/run/systemd/system/walcast.service.d
    mkdir -p "$dir"
    printf '[Service]\nWatchdogSec=3\nTimeoutAbortSec=1\nRestartSec=1\n' >"$dir/test.conf"
    systemctl daemon-reload
    systemctl restart walcast
    kill -STOP "$(systemctl show --value -p MainPID walcast)"
    until_true 60 "the watchdog has the service started anew" was_restarted
    rm -r "$dir"
    systemctl daemon-reload
}

was_restarted() { [ "$(systemctl show --value -p NRestarts walcast)" -gt 0 ] && systemctl is-active --quiet walcast; }

shows_status() { systemctl show -p StatusText walcast | grep -q 'source: streaming; targets: 1 streaming'; }

# arrives TABLE COUNT: the target has so many rows.
arrives() { until_true 60 "$2 rows of $1 on the target" sh -c "[ \"\$(psql -qXAtU postgres -h 127.0.0.1 -p $target_port -c \
    'SELECT count(*) FROM $1' app)\" = $2 ]"; }

say "installing $package"
dpkg --force-unsafe-io --install "$package" >"$work/dpkg.log" 2>&1 || { cat "$work/dpkg.log" >&2; fail "dpkg --install"; }
[ "$(stat -c '%a %U:%G' /etc/walcast/walcast.toml)" = "640 root:walcast" ] || fail "$(ls -l /etc/walcast/walcast.toml)"
[ "$(stat -c '%a %U:%G' /var/lib/walcast)" = "700 walcast:walcast" ] || fail "$(ls -ld /var/lib/walcast)"
[ "$(dpkg-query -W -f '${Conffiles}' walcast | awk '{ print $1 }' | xargs)" = /etc/walcast/walcast.toml ] || fail "conffiles"
for file in "$unit" /usr/share/man/man1/walcast-run.1.gz /usr/share/bash-completion/completions/walcast \
    /usr/share/walcast/grafana/walcast.json /usr/share/doc/walcast/copyright; do
    [ -f "$file" ] || fail "$file is not in the package"
done
/usr/bin/walcast --version
walcast check --config-only
if command -v systemd-analyze >/dev/null; then
    systemd-analyze verify --man=no "$unit" >"$work/verify" 2>&1 || { cat "$work/verify" >&2; fail "systemd-analyze verify"; }
    systemd-analyze security --offline=true --threshold=20 "$unit" >"$work/security" || { cat "$work/security" >&2; fail "exposed"; }
    tail -n 1 "$work/security"
else
    say "the unit was not looked at: systemd-analyze is not installed"
fi

say "mirroring a database"
start_server source
source_port=$port
start_server target
target_port=$port
sql "$source_port" 'CREATE TABLE account (id int PRIMARY KEY, owner text);
    INSERT INTO account SELECT g, g FROM generate_series(1, 1000) g'
http_port=$(free_port)
sed -e "s|^conninfo = \"postgresql://walcast@127.0.0.1:5432/app\"|conninfo = \"postgresql://postgres@127.0.0.1:$source_port/app\"|" \
    -e "s|^conninfo = \"postgresql://walcast@berlin.*|conninfo = \"postgresql://postgres@127.0.0.1:$target_port/app\"|" \
    -e "s|^#listen = .*|listen = \"127.0.0.1:$http_port\"|" /etc/walcast/walcast.toml >"$work/walcast.toml"
# In place, as an editor does: owner and mode stay.
cat "$work/walcast.toml" >/etc/walcast/walcast.toml
$is_systemd || start_manager
walcast setup >/dev/null
walcast check >"$work/check.log" 2>&1 || { cat "$work/check.log" >&2; fail "check finds something missing"; }
start_service
walcast bootstrap berlin >"$work/bootstrap.log" 2>&1 || { cat "$work/bootstrap.log" >&2; fail "bootstrap"; }
sql "$source_port" 'INSERT INTO account SELECT g, g FROM generate_series(1001, 1500) g'
arrives account 1500

say "reloading and restarting"
reload_service
stop_service
sql "$source_port" 'INSERT INTO account SELECT g, g FROM generate_series(1501, 2000) g'
start_service
arrives account 2000
if $is_systemd; then
    systemctl restart walcast && systemctl is-active --quiet walcast || fail "systemctl restart"
    until_true 30 "systemd shows the status" shows_status
    watchdog_bites
fi
sql "$source_port" 'CREATE TABLE later (id int PRIMARY KEY); INSERT INTO later VALUES (1)'
arrives later 1
walcast verify berlin >"$work/verify.log" 2>&1 || { cat "$work/verify.log" >&2; fail "verify finds differences"; }
stop_service
walcast remove berlin >/dev/null 2>&1 || fail "remove"
walcast teardown >/dev/null
[ -z "$(sql "$source_port" 'SELECT slot_name FROM pg_replication_slots')" ] || fail "a slot is left on the source"

say "removing and purging"
dpkg --force-unsafe-io --remove walcast >"$work/dpkg.log" 2>&1 || { cat "$work/dpkg.log" >&2; fail "dpkg --remove"; }
[ ! -e /usr/bin/walcast ] || fail "the program is left"
[ -d /var/lib/walcast/log ] && [ -f /etc/walcast/walcast.toml ] && getent passwd walcast >/dev/null || fail "removing took too much"
# Installed again, it has its state and its configuration.
dpkg --force-unsafe-io --install "$package" >"$work/dpkg.log" 2>&1 || { cat "$work/dpkg.log" >&2; fail "dpkg --install again"; }
grep -q "$http_port" /etc/walcast/walcast.toml || fail "the configuration was replaced"
[ "$(stat -c '%a %U:%G' /etc/walcast/walcast.toml)" = "640 root:walcast" ] || fail "$(ls -l /etc/walcast/walcast.toml)"
dpkg --force-unsafe-io --purge walcast >"$work/dpkg.log" 2>&1 || { cat "$work/dpkg.log" >&2; fail "dpkg --purge"; }
! grep -i 'warning' "$work/dpkg.log" || fail "dpkg warns"
for path in /etc/walcast /var/lib/walcast /usr/bin/walcast "$unit" /usr/share/walcast /usr/share/doc/walcast; do
    [ ! -e "$path" ] || fail "$path is left after the purge"
done
! getent passwd walcast >/dev/null && ! getent group walcast >/dev/null || fail "user or group is left after the purge"
say "passed"
