"""What systemd is told of the service, where it asked to be told: sd_notify(3) and its watchdog."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, MutableMapping

import structlog

_log = structlog.get_logger(__name__)
_FEEDINGS_A_PERIOD = 3


class Supervisor:
    """The process that started us, if it listens; every method does nothing where none does.

    Args:
        environment: NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID are taken out of it: they are meant for us alone.
        pid: ours.
        monotonic_ns: time, as systemd counts it.
    """

    def __init__(
        self,
        environment: MutableMapping[str, str],
        pid: int | None = None,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._monotonic_ns = monotonic_ns
        address = environment.pop("NOTIFY_SOCKET", "")
        period, owner = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        ours = not owner or owner == str(os.getpid() if pid is None else pid)
        self.watchdog_s = int(period) / 1_000_000 if ours and period.isascii() and period.isdigit() else 0.0
        """Time without a sign of life after which we are killed, in seconds; 0 for never."""

    def ready(self, status: str) -> None:
        """The service has started, or a reload is over."""
        self._tell("READY=1", f"STATUS={_line(status)}")

    def reloading(self) -> None:
        """Settings and meters are being read again, until `ready`."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={self._monotonic_ns() // 1000}", "STATUS=reading the settings again")

    def stopping(self, status: str) -> None:
        """The service is going to end."""
        self._tell("STOPPING=1", f"STATUS={_line(status)}")

    async def feed(self) -> None:
        """Give a sign of life while the event loop turns, until cancelled; ends at once where nobody wants one."""
        while self.watchdog_s:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_s / _FEEDINGS_A_PERIOD)

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as mouth:
                # A full queue of the listener must not hold up the loop.
                mouth.setblocking(False)
                mouth.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            _log.warning("supervisor_not_told", what=lines[0], reason=error.strerror)


def _line(text: str) -> str:
    return " ".join(text.split())
