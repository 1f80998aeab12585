"""The broker fixture itself: what the delivery tests lean on."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.broker import Mosquitto


def test_it_stops_and_comes_back_on_the_same_port(mosquitto: Mosquitto) -> None:
    first = mosquitto.pid
    mosquitto.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((mosquitto.host, mosquitto.port), timeout=1.0)
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)

    mosquitto.start()

    assert mosquitto.pid != first
    socket.create_connection((mosquitto.host, mosquitto.port), timeout=1.0).close()


def test_a_taken_port_is_said_in_the_brokers_own_words(mosquitto: Mosquitto, tmp_path: Path) -> None:
    second = Mosquitto(tmp_path, mosquitto.port)

    with pytest.raises(RuntimeError, match=r"does not listen on .*(?s:.*)Address already in use"):
        second.start()
