#!/usr/bin/env bash
# Runs a command under a systemd of its own: scripts/with-systemd.sh [--timeout SECONDS] [--file FILE]… COMMAND ARGUMENT…
#
# In new namespaces systemd is process 1 over a copy of this machine's files, of which nothing that is written stays; processes
# outside are not seen, the network is the machine's. So what a unit says can be tested as it will be, its sandbox among it,
# on machines that were booted otherwise, such as containers with the right to mount. Files of other file systems than the root's are
# not seen, but for those that are named: they are in /run/exchange. Exits with the command's status; 77 where
# that cannot be done, and says why.
set -euo pipefail

skip() {
    echo "with-systemd: SKIPPED, NOTHING WAS RUN: $1" >&2
    exit 77
}

timeout=600
files=()
while [ $# -gt 1 ]; do
    case $1 in
        --timeout) timeout=$2 ;;
        --file) files+=("$2") ;;
        *) break ;;
    esac
    shift 2
done
[ $# -gt 0 ] || { echo "usage: scripts/with-systemd.sh [--timeout SECONDS] [--file FILE]… COMMAND ARGUMENT…" >&2; exit 2; }
[ "$(id -u)" -eq 0 ] || skip "it takes root"
for program in unshare pivot_root /lib/systemd/systemd; do
    command -v "$program" >/dev/null || skip "$program is not installed"
done

# What is shared with the inside: the command, its output, its status.
exchange=$(mktemp -d)
trap 'rm -rf "$exchange"' EXIT
printf '%q ' "$@" >"$exchange/command"
: >"$exchange/output"
chmod 755 "$exchange"
[ "${#files[@]}" -eq 0 ] || cp -- "${files[@]}" "$exchange"

cat >"$exchange/boot" <<'END'
set -e
exchange=$1
mount --make-rprivate /
root=$exchange/root
mkdir "$root"
mount -t tmpfs none "$root"
mkdir "$root/upper" "$root/work" "$root/all"
mount -t overlay overlay -o "lowerdir=/,upperdir=$root/upper,workdir=$root/work" "$root/all"
cd "$root/all"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount --rbind /dev dev
for place in run dev/shm; do mount -t tmpfs -o mode=1777 none "$place"; done
mkdir run/exchange run/old
mount --bind "$exchange" run/exchange

# Nothing of this machine is started but what the command needs.
units=etc/systemd/system
rm -rf "$units"
mkdir -p "$units"
echo >etc/fstab
tr -d - <proc/sys/kernel/random/uuid >etc/machine-id
for unit in systemd-{udevd,udev-trigger,tmpfiles-setup,tmpfiles-setup-dev,sysctl,modules-load,random-seed,sysusers,timesyncd}.service \
    systemd-{remount-fs,binfmt,hwdb-update,networkd,resolved}.service systemd-udevd-{kernel,control}.socket \
    apparmor.service keyboard-setup.service networking.service timers.target local-fs.target swap.target \
    proc-sys-fs-binfmt_misc.automount {dev-hugepages,dev-mqueue,sys-kernel-debug,sys-kernel-tracing,sys-kernel-config}.mount \
    sys-fs-fuse-connections.mount; do
    ln -s /dev/null "$units/$unit"
done
printf '[Unit]\nRequires=basic.target\nAfter=basic.target\nWants=command.service\n' >"$units/command.target"
cat >"$units/command.service" <<UNIT
[Unit]
After=basic.target
[Service]
Type=oneshot
Environment=HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
StandardOutput=append:/run/exchange/output
StandardError=append:/run/exchange/output
ExecStart=/bin/bash -c "echo >/run/exchange/begun; . /run/exchange/command; echo \$\$? >/run/exchange/status"
ExecStopPost=/bin/systemctl --force --force exit
UNIT
pivot_root . run/old
umount -l /run/old
export container=namespaces
exec /lib/systemd/systemd --system --unit=command.target >/run/exchange/console 2>&1 </dev/null
END

booted=0
timeout --kill-after=10 "$timeout" unshare --mount --pid --fork --cgroup --uts --ipc --kill-child \
    bash "$exchange/boot" "$exchange" 2>"$exchange/errors" || booted=$?
cat "$exchange/output"
if [ -f "$exchange/status" ]; then
    exit "$(cat "$exchange/status")"
fi
if [ -f "$exchange/begun" ]; then
    echo "with-systemd: FAILED: the command did not end within $timeout s" >&2
    exit 1
fi
skip "systemd could not be started in namespaces (status $booted): $(tail -n 3 "$exchange/errors" "$exchange/console" 2>/dev/null | tr '\n' ' ')"
