"""Fixtures every room's tests may use."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.broker import Mosquitto
from tests.postgres import Postgres

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in the background so, and every program a test interrupts would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent

# A slow machine is not a failure; a failing example prints what reproduces it.
# How long drawing examples takes says how busy the machine is, not whether the code is right.
_NO_CLOCK = [HealthCheck.too_slow]
settings.register_profile("default", deadline=None, print_blob=True, suppress_health_check=_NO_CLOCK)
settings.register_profile("fuzz", deadline=None, print_blob=True, max_examples=20_000, suppress_health_check=_NO_CLOCK)
settings.load_profile("default")


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Call it for a TCP port nobody listens on at 127.0.0.1; never the same twice in a run."""
    given: set[int] = set()

    def find() -> int:
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port: int = probe.getsockname()[1]
            if port not in given:
                given.add(port)
                return port

    return find


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of vectors and independent peers beside the repository; the test is skipped where there is none."""
    folder = Path(os.environ.get("METERBRIDGE_SHARED") or ROOT.parent / "shared")
    if not folder.is_dir():
        pytest.skip("needs the vectors and peers of ../shared (or METERBRIDGE_SHARED)")
    return folder


@pytest.fixture
def mosquitto(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Mosquitto]:
    """A running Mosquitto of the test's own: host, port, pid, stop(), start()."""
    broker = Mosquitto(tmp_path_factory.mktemp("mosquitto"), free_port())
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def postgres(free_port: Callable[[], int]) -> Iterator[Postgres]:
    """A running PostgreSQL of this test process, for all its tests: url(), create(), drop(), sql(), stop(), start()."""
    cluster = Postgres(free_port())
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()
