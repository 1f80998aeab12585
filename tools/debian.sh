#!/bin/sh
# tools/debian.sh PACKAGE...: these Debian packages are installed; apt is asked only for those missing.
# No service they bring is left running or enabled.
set -eu

die() {
    echo "meterbridge: $1" >&2
    exit 1
}

missing=
for package in "$@"; do
    # A program of the same name will do: it may have come another way.
    if PATH="$PATH:/usr/sbin:/sbin" command -v "$package" >/dev/null; then continue; fi
    status=$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null) || status=
    [ "$status" = installed ] || missing="$missing $package"
done
missing=${missing# }
[ -n "$missing" ] || exit 0

command -v apt-get >/dev/null || die "$missing is needed and there is no apt-get to install it with."
sudo=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "$missing is needed; as root: apt-get install $missing"
    sudo=sudo
    sudo -v || die "$missing is needed and sudo was refused; as root: apt-get install $missing"
fi

log=$(mktemp) || die "no temporary file can be made; is the disk full or TMPDIR not writable?"
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM

# RUNLEVEL=1 keeps init scripts from starting what is installed; systemd does not ask for it, see below.
apt() {
    $sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get --yes --quiet "$@" >"$log" 2>&1 </dev/null
}

echo "installing $missing with apt"
# shellcheck disable=SC2086  # a list of packages
if ! apt install --no-install-recommends $missing; then
    apt update || true
    apt install --no-install-recommends $missing || {
        reason=$(grep -E '^E: ' "$log" | head -n 1)
        die "apt-get install $missing failed: ${reason:-$(tail -n 1 "$log")}"
    }
fi

if [ -d /run/systemd/system ]; then
    for package in $missing; do
        if [ -e "/lib/systemd/system/$package.service" ]; then
            $sudo systemctl --quiet disable --now "$package.service" >/dev/null 2>&1 || true
        fi
    done
fi
