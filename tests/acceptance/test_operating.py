"""The commands an operator types, with and without a running service."""

from __future__ import annotations

import json
import os
import pty
import sqlite3
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from meterbridge.store import migrations
from tests.acceptance.processes import COMMAND, Ended, environment, run, start, stop

SECRET = "pa55-w0rd-x"


def newest_migration() -> str:
    versions = (Path(next(iter(migrations.__path__))) / "versions").glob("v[0-9]*.py")
    return max(version.name[1:5] for version in versions)


@dataclass
class Site:
    folder: Path
    port: int

    def typed(self, *arguments: str, **variables: str) -> Ended:
        variables = {"METERBRIDGE_API__PORT": str(self.port), **variables}
        return run(*arguments, folder=self.folder, timeout=30.0, **variables)

    def asked(self, *arguments: str, code: int = 0) -> Any:
        ended = self.typed(*arguments, "--json")
        assert ended.code == code, ended
        return json.loads(ended.out)


def on_a_terminal(site: Site, keys: str, *arguments: str) -> str:
    """Run a command on a terminal of 90 by 20, type keys once it shows something, and return all it showed."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (20, 90))
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=site.folder,
        env=environment(METERBRIDGE_API__PORT=str(site.port), TERM="xterm"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        while True:
            try:
                part = os.read(ours, 65_536)
            except OSError:
                # Linux says so where the other end has closed.
                break
            if not part:
                break
            shown += part
            if b"meters" in shown and keys:
                # Another size in between: it must not mind.
                termios.tcsetwinsize(ours, (6, 30))
                os.write(ours, keys.encode())
                keys = ""
        assert process.wait(10) == 0, shown
    finally:
        process.kill()
        os.close(ours)
    return shown.decode(errors="replace")


@pytest.fixture
def site(tmp_path: Path, free_port: Callable[[], int]) -> Site:
    return Site(tmp_path, free_port())


@pytest.fixture
def served(site: Site) -> Iterator[Site]:
    process = start("run", folder=site.folder, METERBRIDGE_API__PORT=str(site.port))
    assert process.stdout is not None
    for line in process.stdout:
        if "api_started" in line:
            break
    else:
        pytest.fail(process.communicate()[1])
    yield site
    ended = stop(process)
    assert ended.code == 0, ended
    assert SECRET not in ended.out + ended.err


def test_meters_without_a_service(site: Site) -> None:
    added = site.typed("add", "Main", "127.0.0.1", "--port", "1", METER_PASSWORD=SECRET)
    assert (added.code, SECRET in added.out + added.err) == (0, False)
    assert "no service runs here" in added.err
    assert SECRET.encode() not in b"".join(path.read_bytes() for path in (site.folder / "data").iterdir())
    [meter] = site.asked("list")
    assert (meter["name"], meter["has_password"]) == ("Main", True)
    assert site.typed("edit", "Main", "--port", "2").code == 0
    assert site.asked("status", "1")["port"] == 2
    assert site.typed("edit", "Main", "--tb-token", SECRET, "--tb-device-name", "d", "--no-tb-enabled").code == 0
    shape = site.asked("edit", "Main", "--tb-token", "", "--tb-device-name", "")
    assert (shape["has_tb_token"], shape["tb_device_name"], shape["tb_enabled"]) == (False, None, False)
    tested = site.typed("test", "Main")
    assert (tested.code, "refused" in tested.out.lower()) == (3, True)
    site.typed("pause", "Main").refused_in_one_line(1)
    assert site.asked("remove", "Main", "--yes") == {"removed": 1}
    assert site.asked("list") == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "nobody"),
        ("edit", "Main"),
        ("add", "x", "no host"),
        ("add", "x", "192.0.2.300"),
        ("remove", "nobody"),
        ("add", "x", "h", "--model", "nobody"),
        ("add", "x", "h", "--client", "0"),
        ("logs", "--since", "yesterday"),
        ("logs", "--until", "99999999999d"),
        ("plan", "--config", "no-such.toml"),
        ("import", "no-such-file.json"),
        ("token", "remove", "nobody"),
    ],
)
def test_a_mistake_is_one_line(site: Site, arguments: tuple[str, ...]) -> None:
    ended = site.typed(*arguments)
    assert ended.code == 2
    assert ended.out == ""
    [line] = [line for line in ended.err.splitlines() if "no service runs here" not in line]
    assert line.startswith("meterbridge: ")


def test_meters_of_a_running_service(served: Site) -> None:
    added = served.typed("add", "Main", "127.0.0.1", "--port", "1", "--json", METER_PASSWORD=SECRET)
    assert (added.code, added.err) == (0, "")
    assert json.loads(added.out)["run_state"] == "running"
    assert served.typed("pause", "Main").out == "Main: paused\n"
    assert served.typed("resume", "1").out == "Main: running\n"
    assert served.typed("restart", "Main").out == "Main: running\n"
    tested = served.typed("test", "Main", "--json")
    assert (tested.code, json.loads(tested.out)["ok"]) == (3, False)
    assert served.asked("status", "Main")["counters"]["polls"] >= 1
    lines = served.typed("logs", "Main", "--level", "warning", "--json").out.splitlines()
    assert {json.loads(line)["meter"] for line in lines} == {1}
    assert [line["name"] for line in served.asked("health")["meters"]] == ["Main"]
    assert served.typed("logs", "Main", "--until", "1h").out == ""
    assert served.typed("logs", "Main", "--since", "2020-01-01", "-n", "1").out.count("\n") == 1
    [shown] = [json.loads(line) for line in served.typed("watch", "--json", "--count", "1").out.splitlines()]
    assert [(row["id"], row["name"]) for row in shown["meters"]] == [(1, "Main")]
    plain = served.typed("watch", "--count", "2", "--every", "0.3").out.splitlines()
    assert (len(plain), '"Main"' in plain[0]) == (2, True)
    assert "Main" in on_a_terminal(served, "q", "watch")
    assert served.asked("qos", code=2)["running"]
    served.typed("edit", "Main", "--framing", "smoke").refused_in_one_line(2)
    assert served.typed("secrets", "rotate").out == "1 secrets encrypted anew\n"
    assert served.typed("edit", "Main", "--port", "2").code == 0
    assert served.typed("db", "check").out == "all is well\n"
    assert served.typed("remove", "Main", "-y").code == 0
    assert served.asked("list") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_and_options(site: Site, shell: str) -> None:
    for typed, expected in (("meterbridge pla", "plan"), ("meterbridge plan --js", "--json")):
        variables = {"_METERBRIDGE_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": typed}
        variables |= {"_TYPER_COMPLETE_FISH_ACTION": "get-args"}
        program = str(Path(sys.executable).with_name("meterbridge"))
        words = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
        done = subprocess.run(
            [program], env=environment(**variables, **words), capture_output=True, text=True, timeout=30, check=False
        )
        assert expected in done.stdout, done


def test_colours_only_on_a_terminal_and_never_where_they_are_not_wanted(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b" not in site.typed("models").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31" not in on_a_terminal(site, "", "plan", "--help")


def test_tokens_are_shown_once(site: Site) -> None:
    token = site.typed("token", "add", "ann", "--role", "operator").out.strip()
    assert len(token) > 40
    assert [(t["name"], t["role"]) for t in site.asked("token", "list")] == [("ann", "operator")]
    assert token not in site.typed("token", "list").out
    assert site.typed("token", "remove", "ann").code == 0


def test_beyond_this_machine_only_with_tls_and_a_token(site: Site) -> None:
    for option, missing in ((), "behind-proxy"), (("--behind-proxy",), "no token"):
        ended = site.typed("run", *option, METERBRIDGE_API__HOST="0.0.0.0")
        assert (ended.code, missing in ended.err, "Traceback" in ended.err) == (2, True, False)


def test_the_database_is_checked_backed_up_and_upgraded(site: Site) -> None:
    assert site.typed("db", "check").code == 1
    assert site.typed("db", "upgrade").out.splitlines()[-1] == "up to date"
    backup = Path(site.folder, site.typed("db", "backup").out.strip())
    with closing(sqlite3.connect(backup)) as connection:
        [version] = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        assert version == newest_migration()
    assert site.typed("db", "check").out == "all is well\n"
    with closing(sqlite3.connect(site.folder / "data" / "admin.db")) as connection, connection:
        connection.execute("INSERT INTO meters (name, ip_address, port) VALUES ('bad', '127.0.0.1', 99999)")
    checked = site.typed("db", "check")
    assert (checked.code, "port must be" in checked.out) == (1, True)


def test_a_legacy_configuration_becomes_a_meter(site: Site) -> None:
    legacy = {"dlms_host": "192.0.2.10", "dlms_port": 3333, "mqtt_host": "127.0.0.1", "mqtt_port": 1883}
    legacy |= {"access_token": SECRET, "measurements": ["voltage_l1", "moon_phase"]}
    file = site.folder / "mqtt_config.json"
    file.write_text(json.dumps(legacy))
    done = site.typed("import", str(file), "--name", "Old")
    assert (done.code, done.out, SECRET in done.err) == (0, "meter 1 (Old) added\n", False)
    assert "does not read moon_phase" in done.err
    [meter] = site.asked("list")
    assert (meter["ip_address"], meter["tb_port"], meter["has_tb_token"]) == ("192.0.2.10", 1883, True)
    file.write_text(json.dumps({**legacy, "bogus": 1}))
    assert "bogus" in site.typed("import", str(file)).refused_in_one_line(2)
