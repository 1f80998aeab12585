"""`meterbridge service`: the systemd service on this machine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from meterbridge.cli.backend import ConfigOption, JsonOption
from meterbridge.cli.exits import INCOMPLETE
from meterbridge.cli.log_lines import shown
from meterbridge.cli.systemd import UNIT, WITHOUT, SystemRefused, call, lines_of
from meterbridge.errors import ConfigurationError
from meterbridge.operations import LogFilter
from meterbridge.operations import follow as follow_lines
from meterbridge.operations import search as search_lines
from meterbridge.settings import load_settings

app = typer.Typer(
    name="service", add_completion=False, help="The systemd service on this machine.", no_args_is_help=True
)
_SHOWN = {
    "ActiveState": "state",
    "SubState": "substate",
    "StatusText": "says",
    "MainPID": "pid",
    "ActiveEnterTimestamp": "since",
    "NRestarts": "restarts",
    "UnitFileState": "at_boot",
    "Result": "result",
}


@app.command()
def install(
    root: Annotated[Path, typer.Option(help="Put files under this folder instead, and leave systemd alone.")] = Path(
        "/"
    ),
    program: Annotated[Path | None, typer.Option(help="The command to start; this one unless given.")] = None,
    credential: Annotated[
        bool, typer.Option("--credential", help="Keys of secrets as a systemd credential: only the service has them.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Install the service: user, folders, settings, unit; done again it repairs what is missing. Does not start it."""
    from meterbridge.cli.installation import Installation

    here = root == Path("/")
    if here and not dry_run and os.geteuid() != 0:
        raise ConfigurationError("installing takes root: sudo meterbridge service install, or --dry-run to look first")
    started = Path(sys.argv[0]).absolute()
    own = started if started.name == "meterbridge" else Path(sys.prefix) / "bin" / "meterbridge"
    installation = Installation(root.absolute(), (program or own).absolute(), credential=credential)
    done = 0
    try:
        for step in installation.steps():
            done += 1
            typer.echo(f"would {step.what}" if dry_run else step.what)
            if not dry_run:
                step.do()
    except OSError as error:
        if error.filename is None:
            # Our own output, not a step's file.
            raise
        raise ConfigurationError(f"{error.filename}: {error.strerror}") from None
    if here:
        if dry_run:
            typer.echo(f"would have systemd read and enable {UNIT}")
        else:
            installation.activate()
    if not done:
        typer.echo("everything was there")
    elif here and not dry_run:
        typer.echo("installed; next: meterbridge add NAME HOST as the user meterbridge, meterbridge service start")


@app.command()
def start() -> None:
    """Start it and wait until meters are polled."""
    _systemctl("start")


@app.command()
def stop() -> None:
    """Stop it: associations are released, what is not delivered stays on disk."""
    _systemctl("stop")


@app.command()
def restart() -> None:
    """Stop and start it."""
    _systemctl("restart")


@app.command()
def reload() -> None:
    """Have it read settings and meters again; meters that did not change are not disturbed."""
    _systemctl("reload")


@app.command()
def status(as_json: JsonOption = False) -> None:
    """Say how it is. Exit code 0 while it runs, 1 when not."""
    answer = call("systemctl", "show", UNIT, f"--property={','.join(_SHOWN)}")
    given = dict(line.split("=", 1) for line in answer.splitlines() if "=" in line)
    found: dict[str, Any] = {name: given.get(property_) or None for property_, name in _SHOWN.items()}
    for name in ("pid", "restarts"):
        found[name] = int(found[name] or 0)
    if as_json:
        typer.echo(json.dumps(found))
    else:
        for name, value in found.items():
            typer.echo(f"{name + ':':<10} {'-' if value is None else value}")
    if found["state"] not in ("active", "reloading"):
        raise typer.Exit(INCOMPLETE)


@app.command()
def logs(
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=100_000, help="How many at most.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they are written, until Ctrl-C.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show its journal, start-up errors included; where there is no journal, the structured log file."""
    words = ["--unit", UNIT, "--output", "cat", "--quiet", "--lines", str(lines), *(["--follow"] if follow else [])]
    some = False
    try:
        for line in lines_of("journalctl", *words):
            some = True
            typer.echo(_readable(line, as_json))
    except SystemRefused as error:
        why = str(error)
    else:
        why = "the journal has no line of it"
    if not some:
        file = load_settings(config).log.file
        typer.echo(f"meterbridge: {why}: this is {file}", err=True)
        past: Iterable[dict[str, Any]] = search_lines(file, LogFilter(), lines)
        for found in past:
            typer.echo(shown(found, as_json))
        if follow:
            for found in follow_lines(file, LogFilter()):
                typer.echo(shown(found, as_json))


def _systemctl(verb: str) -> None:
    try:
        call("systemctl", verb, UNIT)
    except SystemRefused as error:
        more = "" if WITHOUT in str(error) else "; meterbridge service logs may say more"
        raise SystemRefused(f"{error}{more}") from None


def _readable(line: str, as_json: bool) -> str:
    """A structured line as people read it; others, such as systemd's own, as they are."""
    try:
        parsed = json.loads(line)
    except ValueError:
        parsed = None
    if isinstance(parsed, dict):
        return shown(parsed, as_json)
    return json.dumps({"event": line.rstrip("\n")}) if as_json else line.rstrip("\n")
