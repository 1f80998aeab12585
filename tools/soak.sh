#!/bin/sh
# tools/soak.sh SECONDS [OPTION...]: the long forms, one after the other, each within a time of its own; figures and a
# verdict at the end. SECONDS is how long the demo runs, OPTIONs are its own.
set -u
cd "$(dirname "$0")/.."
seconds=$1
shift
py=.venv/bin/python
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
child=
trap '[ -z "$child" ] || kill "$child" 2>/dev/null; exit 130' INT TERM
export METERBRIDGE_FIGURES="$folder/figures"
: >"$METERBRIDGE_FIGURES"
verdict=
failed=0

# part NAME LIMIT COMMAND...: one of them; the others run whatever becomes of it.
part() {
    name=$1
    limit=$2
    shift 2
    echo "== $name"
    begun=$(date +%s)
    # Waited for in the background: a trap is not heeded while a program runs in the foreground.
    timeout --kill-after=30 "$limit" "$@" &
    child=$!
    wait "$child"
    code=$?
    child=
    took=$(($(date +%s) - begun))
    case $code in
        0) result=passed ;;
        124 | 137) result="FAILED: not over after $limit s" ;;
        *) result="FAILED: exit code $code" ;;
    esac
    [ "$code" -eq 0 ] || failed=1
    verdict="$verdict
$name: $result, $took s"
}

part "chaos on 200 meters" 600 env CHAOS_METERS=200 CHAOS_SECONDS=180 \
    "$py" -m pytest -q tests/acceptance/test_chaos.py
part "delivery, killed and cut off" 1200 env METERBRIDGE_SOAK=1 \
    "$py" -m pytest -q tests/integration/test_delivery_crash.py
part "the whole chain with the real tb-gateway" 600 env METERBRIDGE_SOAK=1 \
    "$py" -m pytest -q tests/integration/test_gateway_chain.py
part "demo for $seconds s" $((seconds + 120)) \
    .venv/bin/meterbridge demo --duration "$seconds" --json --data "$folder/data" "$@"

echo "== figures"
cat "$METERBRIDGE_FIGURES"
echo "== soak$verdict"
if [ "$failed" -ne 0 ]; then
    echo "soak: FAILED"
    exit 1
fi
echo "soak: passed, no reading lost"
