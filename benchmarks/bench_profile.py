"""A load profile of 2,000 rows, clock and energy, from its encoded buffer to rows of Python values with datetimes."""

from __future__ import annotations

import datetime as dt
import importlib.util
import statistics
import time
from collections.abc import Callable

from meterbridge.dlms import DateTime
from meterbridge.dlms.axdr import decode_value, encode_length
from meterbridge.dlms.profile_rows import BufferDecoder

ROWS = 2000
ROUNDS = 15
GOAL_MS = 5.0
GOAL_RATIO = 10.0
FIRST = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

Rows = list[tuple[dt.datetime, int]]


def buffer() -> bytes:
    """The buffer as a meter sends it: octet-string of twelve octets and double-long-unsigned in each row."""
    rows = []
    for index in range(ROWS):
        when = DateTime.from_datetime(FIRST + dt.timedelta(minutes=15 * index)).octets
        rows.append(b"\x02\x02\x09\x0c" + when + b"\x06" + (1_000_000 + 125 * index).to_bytes(4, "big"))
    return b"\x01" + encode_length(ROWS) + b"".join(rows)


def general(encoded: bytes) -> Rows:
    """Our own decoder for any data, each time made a datetime by itself."""
    rows: Rows = []
    for octets, energy in decode_value(encoded):
        when = DateTime(octets).to_datetime()
        assert when is not None
        rows.append((when, energy))
    return rows


def gurux(encoded: bytes) -> Rows:
    """gurux-dlms: its decoder for any data, then its own change of octets to a date-time."""
    from gurux_dlms import GXByteBuffer
    from gurux_dlms.enums import DataType
    from gurux_dlms.GXDLMSClient import GXDLMSClient
    from gurux_dlms.internal._GXCommon import _GXCommon
    from gurux_dlms.internal._GXDataInfo import _GXDataInfo

    rows: Rows = []
    for octets, energy in _GXCommon.getData(None, GXByteBuffer(encoded), _GXDataInfo()):
        rows.append((GXDLMSClient.changeType(octets, DataType.DATETIME).value, energy))
    return rows


def measured(decoders: dict[str, Callable[[bytes], Rows]], encoded: bytes) -> dict[str, float]:
    """Median CPU time of each in milliseconds, their rounds taking turns."""
    times: dict[str, list[float]] = {name: [] for name in decoders}
    for _ in range(ROUNDS):
        for name, decode in decoders.items():
            started = time.process_time()
            rows = decode(encoded)
            times[name].append((time.process_time() - started) * 1000)
            assert (len(rows), rows[-1][1]) == (ROWS, 1_000_000 + 125 * (ROWS - 1))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Measure and print."""
    encoded = buffer()
    decoder = BufferDecoder([0])
    ours = "meterbridge, BufferDecoder"
    decoders: dict[str, Callable[[bytes], Rows]] = {ours: decoder.rows, "meterbridge, any data": general}
    if importlib.util.find_spec("gurux_dlms") is not None:
        decoders["gurux-dlms"] = gurux
    medians = measured(decoders, encoded)
    print(f"  {ROWS} rows, {len(encoded)} octets, medians of {ROUNDS} interleaved rounds, CPU")
    for name, median in medians.items():
        print(f"  {name:28} {median:8.2f} ms  {median * 1000 / ROWS:7.2f} µs a row  {median / medians[ours]:6.1f} x")
    print(f"  goal: at most {GOAL_MS:g} ms, {'reached' if medians[ours] <= GOAL_MS else 'MISSED'}", end="")
    if "gurux-dlms" in medians:
        reached = medians["gurux-dlms"] >= GOAL_RATIO * medians[ours]
        print(f"; {GOAL_RATIO:g} x faster than gurux-dlms, {'reached' if reached else 'MISSED'}", end="")
    print()
