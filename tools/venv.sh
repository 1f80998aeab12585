#!/bin/sh
# tools/venv.sh LEVEL: .venv holds requirements/LEVEL.txt exactly as pinned, and this project.
# Quiet and quick when it already does. LEVEL is base, demo, test or dev; each contains the ones before.
set -eu
cd "$(dirname "$0")/.."
level=$1
py=.venv/bin/python

die() {
    echo "meterbridge: $1" >&2
    exit 1
}

# Two makes at once must not install into one .venv at once.
exec 9<requirements/base.in
if command -v flock >/dev/null; then flock 9; fi

# A stamp holds what it was made from: an edited or checked-out requirement, another folder or interpreter undo it.
fingerprint() {
    { cat "requirements/$1.txt" pyproject.toml && pwd && "$py" --version; } 2>/dev/null | cksum
}

current() {
    [ -f ".venv/.holds-$1" ] && [ "$(cat ".venv/.holds-$1")" = "$(fingerprint "$1")" ]
}

case $level in
    base) enough="base demo test dev" ;;
    demo) enough="demo test dev" ;;
    test) enough="test dev" ;;
    dev) enough="dev" ;;
    *) die "tools/venv.sh takes base, demo, test or dev" ;;
esac
for held in $enough; do
    if current "$held"; then exit 0; fi
done

[ -w . ] || die "$(pwd) is read-only; .venv is made here, so clone into a folder you can write to."
[ ! -e .venv ] || [ -w .venv ] || die "$(pwd)/.venv is not writable for you; it was made by another user."

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

if ! { new_enough "$py" && "$py" -c 'import pip' 2>/dev/null; }; then
    python=
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if new_enough "$candidate"; then
            python=$candidate
            break
        fi
    done
    if [ -z "$python" ]; then
        candidate=${PYTHON:-python3}
        found=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
            die "Python 3.11 or newer is needed and $candidate was not found; on Debian: apt-get install python3"
        die "Python 3.11 or newer is needed and $candidate is $found; name a newer one with PYTHON=..."
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        tools/debian.sh "${python##*/}-venv"
    fi
    echo "creating .venv"
    "$python" -m venv --clear .venv >/dev/null 2>&1 || die "$python cannot create $(pwd)/.venv (python -m venv failed)."
fi

log=$(mktemp) || die "no temporary file can be made; is the disk full or TMPDIR not writable?"
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM

# What the user set for pip stays; these only stand where nothing is set.
export PIP_RETRIES="${PIP_RETRIES:-2}" PIP_NO_INPUT="${PIP_NO_INPUT:-1}"
export PIP_DISABLE_PIP_VERSION_CHECK="${PIP_DISABLE_PIP_VERSION_CHECK:-1}"

install() {
    "$py" -m pip install "$@" >"$log" 2>&1 && return
    # Told not to retry, pip does not even say that it could not connect.
    unreachable='connection error|NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError'
    if grep -qiE "$unreachable|ConnectionError|from versions: none" "$log"; then
        die "no network: pip cannot reach a Python package registry that has requirements/$level.txt."
    fi
    reason=$(grep -E '^ *ERROR: ' "$log" | head -n 1 | sed 's/^ *ERROR: //')
    die "pip could not install requirements/$level.txt: ${reason:-$(tail -n 1 "$log")}"
}

echo "installing requirements/$level.txt"
rm -f .venv/.holds-*
install --require-hashes --requirement "requirements/$level.txt"
# The project itself is a folder, which has no hash to require.
PIP_REQUIRE_HASHES=0 install --no-build-isolation --no-deps --editable .
fingerprint "$level" >".venv/.holds-$level"
