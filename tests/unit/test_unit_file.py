"""The systemd unit: valid, hardened, with the names the old installation had."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "deploy" / "meterbridge.service"


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    text = UNIT.read_text()
    # The program need not be installed where the tests run.
    installed = tmp_path / UNIT.name
    installed.write_text(text.replace("/opt/meterbridge/bin/meterbridge", "/bin/true"))
    return installed


def analysed(*arguments: str) -> str:
    # `make test` installs it; it works without a running systemd.
    done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_it_is_valid(unit: Path) -> None:
    assert analysed("verify", str(unit)) == ""


def test_it_exposes_little(unit: Path) -> None:
    found = re.search(r"exposure level for \S+: ([0-9.]+)", analysed("security", "--offline=true", str(unit)))
    assert found is not None
    assert float(found[1]) <= 2.5


def test_it_restarts_reloads_and_answers_to_the_old_names() -> None:
    lines = UNIT.read_text().splitlines()
    for line in (
        "Type=notify",
        "WatchdogSec=30",
        "Restart=always",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "User=meterbridge",
    ):
        assert line in lines
    assert {"Alias=dlms-multi-meter.service", "Alias=dlms-mqtt-bridge.service"} <= set(lines)
