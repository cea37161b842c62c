#!/usr/bin/env bash
# Boots a system like this one, with systemd as its first process, and runs inside.sh in it with a package beside it.
#   unshare --mount --propagation private tests/packaging/boot.sh FOLDER PACKAGE
# The system sees this machine's files below a layer of its own, in memory, and a network of its own; nothing here is
# changed. What inside.sh says is printed. The exit code is 0 only when it came to its end.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$1 package=$2

mkdir -p "$folder/layer"
mount -t tmpfs tmpfs "$folder/layer"
mkdir "$folder/layer/upper" "$folder/layer/work" "$folder/layer/root"
root=$folder/layer/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/layer/upper,workdir=$folder/layer/work" "$root"

# Whoever installed the tests' tools may have forbidden that services start.
rm -f "$root/usr/sbin/policy-rc.d"
mkdir "$root/package-test"
cp "$package" "$root/package-test/chancery.deb"
cp "$here/inside.sh" "$root/package-test/inside.sh"
cat >"$root/etc/systemd/system/package-test.service" <<'UNIT'
[Unit]
DefaultDependencies=no

[Service]
Type=oneshot
ExecStart=/bin/bash /package-test/inside.sh
ExecStopPost=/bin/systemctl exit 0
StandardOutput=file:/package-test/log
StandardError=inherit
TimeoutStartSec=90
UNIT

timeout --kill-after 10 120 systemd-nspawn --quiet --directory="$root" --machine="package-$$" --boot \
    --private-network --register=no --keep-unit --link-journal=no --console=pipe systemd.unit=package-test.service \
    </dev/null >"$folder/console" 2>&1 || true
cat "$root/package-test/log" || cat "$folder/console"
grep --quiet '^the package test came to its end$' "$root/package-test/log"
