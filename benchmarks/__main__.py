"""`python -m benchmarks [NAME ...]`: run benchmarks/bench_NAME.py, all of them without a name.

Each module has `main() -> None`, which measures and prints; the machine is printed first, for a figure without one
says nothing, and after each part how long it took. One that cannot go on is told of, and the others follow.
The longest is the fleet: seven runs of 66 s each, before each at most 120 s until its meters are connected.
"""

from __future__ import annotations

import importlib
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

# What a program that is missing, does not start or does not answer comes to.
_CANNOT = (OSError, ImportError, RuntimeError, AssertionError, LookupError, ValueError, subprocess.SubprocessError)


def machine() -> str:
    """CPU model, cores usable and Python version, in one line."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.processor() or platform.machine()
    return f"{model}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"


def main(names: list[str]) -> int:
    """Run the benchmarks asked for.

    Returns:
        Exit code: 0, 1 where one could not go on, or 2 for a name there is no benchmark for.
    """
    known = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(known) or 'none'}", file=sys.stderr)
        return 2
    print(machine())
    code = 0
    for name in names or known:
        print(f"\n{name}", flush=True)
        began = time.monotonic()
        try:
            importlib.import_module(f"benchmarks.bench_{name}").main()
        except _CANNOT as error:
            code = 1
            print(f"{name}: cannot go on: {type(error).__name__}: {error}", file=sys.stderr)
        print(f"({name}: {time.monotonic() - began:.0f} s)", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
