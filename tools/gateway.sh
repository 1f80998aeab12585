#!/bin/sh
# tools/gateway.sh: .venv-gateway holds requirements/gateway.txt exactly as pinned, for the tests. Quick when it does.
set -eu
cd "$(dirname "$0")/.."
venv=.venv-gateway
pins=requirements/gateway.txt

die() {
    echo "meterbridge: $1" >&2
    exit 1
}

# Two makes at once must not install into one folder at once.
exec 9<"$pins"
if command -v flock >/dev/null; then flock 9; fi

fingerprint() {
    { cat "$pins" && pwd && "$venv/bin/python" --version; } 2>/dev/null | cksum
}
if [ -f "$venv/.holds" ] && [ "$(cat "$venv/.holds")" = "$(fingerprint)" ]; then exit 0; fi

log=$(mktemp) || die "no temporary file can be made; is the disk full or TMPDIR not writable?"
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM
echo "installing $pins"
.venv/bin/python -m venv --clear "$venv" >"$log" 2>&1 || die "cannot create $(pwd)/$venv (python -m venv failed)."
PIP_RETRIES="${PIP_RETRIES:-2}" PIP_NO_INPUT="${PIP_NO_INPUT:-1}" PIP_DISABLE_PIP_VERSION_CHECK=1 \
    "$venv/bin/python" -m pip install --quiet --require-hashes --requirement "$pins" >"$log" 2>&1 || {
    reason=$(grep -E '^ *ERROR: ' "$log" | head -n 1 | sed 's/^ *ERROR: //')
    die "pip could not install $pins: ${reason:-$(tail -n 1 "$log")}"
}
fingerprint >"$venv/.holds"
