"""`meterbridge service` with programs of the system that are fakes, and with none at all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from meterbridge.cli import main
from tests.acceptance.processes import Ended

# They note what they are asked; useradd really adds to the passwd of its --prefix.
FAKES = {
    "systemctl": """echo "systemctl $*" >>"$NOTED"
case "$1" in
show) echo "ActiveState=$STATE"
    printf 'SubState=running\\nMainPID=4711\\nNRestarts=2\\nStatusText=polling 7 meters\\n';;
stop) echo "Failed to stop: Access denied" >&2; exit 4;;
esac""",
    "journalctl": """echo "journalctl $*" >>"$NOTED"
[ -z "$JOURNAL" ] || cat "$JOURNAL" """,
    "useradd": """echo "useradd $*" >>"$NOTED"
mkdir -p "$2/etc"
echo "meterbridge:x:$(id -u):$(id -g)::/var/lib/meterbridge:/usr/sbin/nologin" >>"$2/etc/passwd" """,
}


class Machine:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.root = folder / "root"
        self.folder = folder
        self.noted = folder / "noted"
        self.program = folder / "opt" / "meterbridge"
        self.program.parent.mkdir()
        self.program.write_text("#!/bin/sh\necho started with $METERBRIDGE_CONFIG $*\n")
        self.program.chmod(0o755)
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name, script in FAKES.items():
            (self.bin / name).write_text(f"#!/bin/sh\n{script}\n")
            (self.bin / name).chmod(0o755)

    def typed(self, *words: str, **variables: str) -> Ended:
        """Run the command in this process: starting one takes longer than what it does."""
        path = f"{self.bin}:/usr/bin:/bin"
        given = {"PATH": path, "NOTED": str(self.noted), "STATE": "active", "JOURNAL": "", **variables}
        with self._monkeypatch.context() as patch:
            for name in os.environ:
                if name.startswith(("METERBRIDGE_", "METER_")):
                    patch.delenv(name)
            for name, value in given.items():
                patch.setenv(name, value)
            patch.chdir(self.folder)
            patch.setattr(sys, "argv", ["meterbridge", *words])
            with pytest.raises(SystemExit) as ended:
                main()
        out, err = self._capsys.readouterr()
        return Ended(int(ended.value.code or 0), out, err)

    def install(self, *words: str) -> Ended:
        return self.typed("service", "install", "--root", str(self.root), "--program", str(self.program), *words)

    def asked(self) -> list[str]:
        return self.noted.read_text().splitlines() if self.noted.exists() else []

    def tree(self) -> dict[str, int]:
        files = sorted(self.root.rglob("*"))
        return {str(file.relative_to(self.root)): file.stat().st_mode & 0o777 for file in files}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Machine:
    return Machine(tmp_path, monkeypatch, capsys)


def test_install_puts_everything_in_place_once(machine: Machine) -> None:
    looked = machine.install("--dry-run")
    assert (looked.code, machine.root.exists(), machine.asked()) == (0, False, [])
    assert all(line.startswith("would ") for line in looked.out.splitlines())

    installed = machine.install()
    assert (installed.code, installed.err) == (0, "")
    assert [f"would {line}" for line in installed.out.splitlines()] == looked.out.splitlines()
    assert machine.asked() == [
        f"useradd --prefix {machine.root} --system --user-group --home-dir /var/lib/meterbridge --no-create-home"
        " --shell /usr/sbin/nologin meterbridge"
    ]
    modes = machine.tree()
    assert {path: modes[path] for path in modes if path.startswith(("etc/m", "etc/systemd/system/m", "usr", "var"))} | {
        "var": 0, "var/lib": 0, "var/log": 0, "usr": 0, "usr/local": 0, "usr/local/bin": 0,
    } == {
        "etc/meterbridge": 0o750,
        "etc/meterbridge/meterbridge.toml": 0o640,
        "etc/systemd/system/meterbridge.service": 0o644,
        "usr": 0, "usr/local": 0, "usr/local/bin": 0,
        "usr/local/bin/meterbridge": 0o755,
        "var": 0, "var/lib": 0, "var/log": 0,
        "var/lib/meterbridge": 0o750,
        "var/lib/meterbridge/data": 0o750,
        "var/log/meterbridge": 0o750,
    }  # fmt: skip
    config = machine.root / "etc/meterbridge/meterbridge.toml"
    assert 'url = "sqlite+aiosqlite:////var/lib/meterbridge/data/admin.db"' in config.read_text()
    assert 'key_file = "/var/lib/meterbridge/data/secrets.key"' in config.read_text()
    assert 'file = "/var/log/meterbridge/meterbridge.log"' in config.read_text()
    assert machine.typed("models", "--json", METERBRIDGE_CONFIG=str(config)).code == 0
    started = subprocess.run([machine.root / "usr/local/bin/meterbridge", "list"], capture_output=True, text=True)
    assert started.stdout == "started with /etc/meterbridge/meterbridge.toml list\n"
    unit = machine.root / "etc/systemd/system/meterbridge.service"
    assert f"ExecStart={machine.program} run" in unit.read_text()

    config.write_text("# mine\n")
    unit.write_text("[Service]\nExecStart=/bin/false\n")
    (machine.root / "var/log/meterbridge").chmod(0o777)
    again = machine.install()
    assert [line.split()[0] for line in again.out.splitlines()] == ["make", "write"]
    assert (config.read_text(), len(machine.asked())) == ("# mine\n", 1)
    assert machine.install().out == "everything was there\n"


def test_the_keys_become_a_credential_and_stay_the_same(machine: Machine) -> None:
    machine.install()
    key_file = machine.root / "var/lib/meterbridge/data/secrets.key"
    key_file.write_text("AAAA\n")
    assert machine.install("--credential").code == 0
    key = machine.root / "etc/meterbridge/meterbridge.key"
    assert (key.read_text(), key.stat().st_mode & 0o777) == ("AAAA\n", 0o600)
    assert "AAAA" not in key_file.read_text()
    drop_in = machine.root / "etc/systemd/system/meterbridge.service.d/credential.conf"
    assert drop_in.read_text() == "[Service]\nLoadCredential=meterbridge.key:/etc/meterbridge/meterbridge.key\n"
    assert machine.install("--credential").out == "everything was there\n"
    # Without the service nobody makes another key, which the service would not have.
    variables = {"METERBRIDGE_DATABASE__KEY_FILE": str(key_file), "METER_PASSWORD": "pa55-w0rd-z"}
    added = machine.typed("add", "Main", "127.0.0.1", **variables)
    assert (added.code, "holds no key" in added.err) == (2, True)
    rotated = machine.typed("secrets", "rotate", **variables)
    assert "holds no key" in rotated.refused_in_one_line(2)


def test_a_new_credential_is_a_key(machine: Machine) -> None:
    assert machine.install("--credential").code == 0
    folder = machine.root / "etc/meterbridge"
    variables = {"CREDENTIALS_DIRECTORY": str(folder), "METER_PASSWORD": "pa55-w0rd-z"}
    assert machine.typed("add", "Main", "127.0.0.1", **variables).code == 0
    assert b"pa55" not in (machine.folder / "data" / "admin.db").read_bytes()


def test_what_is_in_the_way_is_named(machine: Machine) -> None:
    old = machine.root / "etc/systemd/system/dlms-mqtt-bridge.service"
    old.parent.mkdir(parents=True)
    old.write_text("[Service]\nExecStart=/usr/bin/python3 dlms_mqtt_bridge.py\n")
    assert "systemctl disable --now dlms-mqtt-bridge.service" in machine.install().refused_in_one_line(2)
    old.unlink()
    (machine.root / "var").write_text("no folder")
    ended = machine.install()
    assert (ended.code, ended.err) == (2, f"meterbridge: {machine.root}/var/lib/meterbridge: Not a directory\n")
    refused = machine.typed(
        "service", "install", "--root", str(machine.root), "--program", "/home/ann/.venv/bin/meterbridge"
    )
    assert "there is no program" in refused.refused_in_one_line(2)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may install")
def test_installing_here_takes_root(machine: Machine) -> None:
    assert "sudo" in machine.typed("service", "install", "--program", str(machine.program)).refused_in_one_line(2)


def test_systemctl_is_asked_and_its_words_are_passed_on(machine: Machine) -> None:
    for verb in ("start", "restart", "reload"):
        assert machine.typed("service", verb) == Ended(0, "", "")
    assert machine.asked() == [f"systemctl {verb} meterbridge.service" for verb in ("start", "restart", "reload")]
    assert "Access denied" in machine.typed("service", "stop").refused_in_one_line(1)
    told = json.loads(machine.typed("service", "status", "--json").out)
    assert (told["state"], told["pid"], told["restarts"], told["says"]) == ("active", 4711, 2, "polling 7 meters")
    down = machine.typed("service", "status", STATE="failed")
    assert (down.code, "failed" in down.out) == (1, True)


def test_the_journal_else_the_log_file(machine: Machine) -> None:
    journal = machine.folder / "journal"
    line = {"timestamp": "2026-11-25T10:00:00Z", "level": "info", "event": "service_started", "meters": 7}
    journal.write_text(f"Started Meterbridge.\n{json.dumps(line)}\n")
    told = machine.typed("service", "logs", "-n", "5", JOURNAL=str(journal))
    assert told.out.splitlines() == [
        "Started Meterbridge.",
        "2026-11-25T10:00:00Z info     service_started meters=7",
    ]
    assert machine.asked() == ["journalctl --unit meterbridge.service --output cat --quiet --lines 5"]
    log = machine.folder / "logs" / "meterbridge.log"
    log.parent.mkdir()
    log.write_text(json.dumps(line) + "\n")
    fallen = machine.typed("service", "logs", "--json")
    assert (json.loads(fallen.out), "the journal has no line of it" in fallen.err) == (line, True)
    (machine.bin / "journalctl").unlink()
    empty = machine.folder / "empty"
    empty.mkdir()
    alone = machine.typed("service", "logs", PATH=str(empty))
    assert ("service_started" in alone.out, "journalctl is not here" in alone.err) == (True, True)
    assert "systemctl is not here" in machine.typed("service", "start", PATH=str(empty)).refused_in_one_line(1)


@pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="a systemd runs here")
@pytest.mark.skipif(shutil.which("systemctl") is None, reason="needs systemctl")
def test_a_systemd_that_does_not_run_is_one_line(machine: Machine) -> None:
    (machine.bin / "systemctl").unlink()
    said = "meterbridge: systemd does not run here: without systemd run `meterbridge run`"
    assert said in machine.typed("service", "start").refused_in_one_line(1)
