"""`meterbridge thingsboard provision --all` on a stand-in for ThingsBoard: how long, how many requests, how much CPU.

PROVISION_COUNT meters (1,000 unless set), once from nothing and once more, when there is nothing to do. The stand-in
and the meters are in this process, the command in one of its own; a real server takes its own time for each request.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import tempfile
import time
from pathlib import Path

from tests.integration.thingsboard_site import thingsboard_site

COUNT = int(os.environ.get("PROVISION_COUNT", "1000"))
LIMIT_S = 900.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def measure() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with thingsboard_site(Path(folder), free_port, COUNT) as site:
            await site.login()
            print(
                f"{COUNT} meters, route gateway   {'seconds':>8} {'CPU s':>8} {'requests':>9} {'of them writing':>16}"
            )
            for turn in ("from nothing", "once more"):
                site.server.requests.clear()
                cpu, began = children_cpu(), time.perf_counter()
                done = await site.typed("provision", "--all", "--route", "gateway", within_s=LIMIT_S)
                wall, used = time.perf_counter() - began, children_cpu() - cpu
                if done.code != 0:
                    raise RuntimeError(f"exit code {done.code}: {done.err[-500:]}")
                requests, writes = len(site.server.requests), len(site.server.writes)
                print(f"{turn:28} {wall:8.1f} {used:8.1f} {requests:9} {writes:16}")


def main() -> None:
    asyncio.run(measure())
