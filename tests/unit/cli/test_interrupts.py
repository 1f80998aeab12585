from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from meterbridge.cli.interrupts import interrupt_afterwards


@pytest.fixture(autouse=True)
def _pythons_own_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_is_neither_early_nor_lost() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt), interrupt_afterwards():
        os.kill(os.getpid(), signal.SIGINT)
        done.append("loaded")
    assert done == ["loaded"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_one_nothing_happens() -> None:
    with interrupt_afterwards():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_in_between_is_told_and_the_handler_is_back() -> None:
    with pytest.raises(ImportError, match="none"), interrupt_afterwards():
        raise ImportError("none")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ignored_interrupt_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interrupt_afterwards():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
