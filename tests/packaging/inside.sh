#!/usr/bin/env bash
# Runs as root in the system that boot.sh boots: installs the package, runs the server under its unit, issues, upgrades,
# removes. It ends at the first thing that is not as it should be.
set -euEo pipefail

unit=chancery.service
data=/var/lib/chancery
settings=/etc/chancery/chancery.toml
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin

failed() {
    echo "line $1 failed: $2"
    systemctl status --no-pager --full $unit || true
    journalctl --no-pager --unit $unit --lines 40 || true
}
trap 'failed "$LINENO" "$BASH_COMMAND"' ERR

say() {
    echo "== $*"
}

# What the kernel says about the running server.
kernel() {
    sed -n "s/^$1:[[:space:]]*//p" "/proc/$(systemctl show --value --property MainPID $unit)/status"
}

as_server() {
    runuser --user chancery -- "$@"
}

issue() {
    say "issues $1"
    local folder
    folder=$(as_server mktemp --directory)
    as_server chancery cert issue --data $data --profile web-server --common-name "$1" --ttl 5d \
        --out "$folder" >/dev/null
    openssl verify -CAfile "$folder/$1.chain.pem" "$folder/$1.crt"
    openssl x509 -in "$folder/$1.crt" -noout -ext crlDistributionPoints | grep --quiet http://ca.example.com/
}

say "is installed, and waits to be set up"
dpkg --install /package-test/chancery.deb
[ "$(systemctl is-enabled $unit || true)" = disabled ]
[ "$(systemctl is-active $unit || true)" = inactive ]
[ "$(stat --format '%U:%G %a' $settings)" = 'root:chancery 640' ]
[ ! -e $data ]
id chancery

say "starts under its unit, on a port below 1024"
sed --in-place 's|^# publication_url = .*|publication_url = "http://ca.example.com"|
    s|^listen = .*|listen = "127.0.0.1:80"|
    s|^# tls_listen = .*|tls_listen = "127.0.0.1:443"|' $settings
systemctl enable --now $unit
[ "$(systemctl show --value --property StatusText $unit)" = 'answers at http://127.0.0.1:80' ]
[ "$(stat --format '%U:%G %a' $data)" = 'chancery:chancery 700' ]
chancery status --url http://127.0.0.1:80
chancery status --url https://localhost:443 --ca-file $data/tls-ca.pem

say "has the rights that it is meant to have"
[ "$(kernel Uid | cut --fields 1)" = "$(id --user chancery)" ]
[ "$(kernel NoNewPrivs)" = 1 ]
[ "$(kernel Seccomp)" = 2 ]
for set in CapInh CapPrm CapEff CapBnd CapAmb; do
    [ "$(kernel $set)" = 0000000000000400 ]
done
# As many files as the unit says, unless this machine has fewer.
hard=$(ulimit -Hn)
[ "$(awk '/^Max open files/ { print $4 }' "/proc/$(systemctl show --value --property MainPID $unit)/limits")" = \
    "$((hard < 262144 ? hard : 262144))" ]
# Beside its data and its temporary files it can write nowhere.
nsenter --target "$(systemctl show --value --property MainPID $unit)" --mount -- sh -c '
    touch /var/lib/chancery/probe /tmp/probe && rm /var/lib/chancery/probe /tmp/probe
    for place in / /etc /usr/bin /var /var/lib /root /home; do
        ! touch "$place/probe" 2>/dev/null || exit 1
    done'

say "keeps the admin's secret out of the journal"
secret=$(sed --quiet 's/.*"clientSecret": "\(.*\)".*/\1/p' $data/bootstrap.json)
[ ${#secret} -ge 32 ]
[ "$(journalctl --no-pager | grep --count 'chancery is ready')" -ge 1 ]
[ "$(journalctl --no-pager | grep --count --fixed-strings "$secret" || true)" = 0 ]

issue first.example.com
as_server chancery fsck --data $data
as_server chancery audit verify --data $data

say "takes the master key from a credential"
systemctl stop $unit
install --mode 600 $data/master.key /etc/chancery/master.key
rm $data/master.key
mkdir -p /etc/systemd/system/$unit.d
printf '[Service]\nLoadCredential=master.key:/etc/chancery/master.key\nEnvironment=%s\n' \
    'CHANCERY_MASTER_KEY_FILE=%d/master.key' >/etc/systemd/system/$unit.d/key.conf
systemctl daemon-reload
systemctl start $unit
[ ! -e $data/master.key ]
issue second.example.com

say "runs anew after an upgrade, with the settings as they were"
before=$(systemctl show --value --property MainPID $unit)
dpkg --install /package-test/chancery.deb
[ "$(systemctl show --value --property MainPID $unit)" != "$before" ]
[ "$(stat --format '%U:%G %a' $settings)" = 'root:chancery 640' ]
grep --quiet '^listen = "127.0.0.1:80"' $settings
issue third.example.com

say "ends well when it is told to"
systemctl kill --kill-whom main --signal TERM $unit
for _ in $(seq 300); do
    [ "$(systemctl is-active $unit || true)" = inactive ] && break
    sleep 0.1
done
[ "$(systemctl show --value --property Result,ExecMainStatus $unit | tr '\n' ' ')" = 'success 0 ' ]
[ "$(journalctl --unit $unit --output cat | grep --count '"message":"stopped"')" -ge 1 ]

say "is stopped when it is removed, and is back with what it had"
systemctl start $unit
dpkg --remove chancery
[ "$(systemctl is-active $unit || true)" != active ]
[ -e $settings ]
dpkg --install /package-test/chancery.deb
systemctl start $unit
issue fourth.example.com

say "leaves the keys when it is purged, and says so"
dpkg --purge chancery | tee /package-test/purged
grep --quiet "stay in $data" /package-test/purged
[ -e $data/chancery.db ]
[ ! -e $settings ]
[ ! -e /etc/systemd/system/multi-user.target.wants/$unit ]
id chancery >/dev/null

say "is gone with its user when there are no keys"
rm --recursive $data
dpkg --install /package-test/chancery.deb
dpkg --purge chancery
[ -z "$(getent passwd chancery || true)" ]

echo "the package test came to its end"
