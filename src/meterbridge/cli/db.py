"""`meterbridge db` and `meterbridge import`: the database itself, and what came before it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.cli.backend import ConfigOption, JsonOption, in_database, running_service
from meterbridge.cli.exits import INCOMPLETE
from meterbridge.errors import ConfigurationError, StoreError
from meterbridge.meter import load_model
from meterbridge.model import Meter, MeterId
from meterbridge.settings import DatabaseSettings, load_settings
from meterbridge.store import (
    LoadedMeters,
    MeterRepository,
    backup_postgresql,
    backup_sqlite,
    fill,
    restore_sqlite,
    upgrade,
)
from meterbridge.store.engine import database_url, sqlite_file
from meterbridge.store.rows import check_meter

app = typer.Typer(name="db", add_completion=False, help="The database.", no_args_is_help=True)
_LEGACY = {"dlms_host", "dlms_port", "mqtt_host", "mqtt_port", "access_token", "measurements"}


@app.command("upgrade")
def upgrade_(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Bring the database to this program's schema; an old installation's is backed up and adopted in place."""
    backup = asyncio.run(upgrade(load_settings(config).database.url))
    if as_json:
        typer.echo(json.dumps({"adopted": backup is not None, "backup": None if backup is None else str(backup)}))
        return
    typer.echo(f"adopted; the old one is in {backup}" if backup is not None else "up to date")


@app.command()
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check file, schema and every meter. Exit code 0 when all is well, 1 when not."""
    database = load_settings(config).database
    problems = _damage(database)
    if not problems:

        async def load(repository: MeterRepository, _: AsyncEngine) -> LoadedMeters:
            return await repository.load_meters()

        loaded = in_database(database, load)
        problems = [f"meter {bad.meter} ({bad.name}): {bad.text}" for bad in loaded.problems + loaded.rivals()]
    if as_json:
        typer.echo(json.dumps({"problems": problems}, ensure_ascii=False))
    else:
        typer.echo("\n".join(problems) or "all is well")
    if problems:
        raise typer.Exit(INCOMPLETE)


@app.command()
def backup(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Copy the database consistently, service running or not. Its keys are not in it: keep them apart.

    A SQLite file's copy is put beside it; of a PostgreSQL database pg_dump makes one, beside the outbox.
    """
    settings = load_settings(config)
    url, now = database_url(settings.database.url), datetime.now(UTC)
    file = sqlite_file(url)
    if file is None:
        copy = backup_postgresql(url, settings.outbox.path.parent, now)
    elif file.exists():
        copy = backup_sqlite(file, now)
    else:
        raise StoreError(f"database {file}: there is none")
    typer.echo(json.dumps({"backup": str(copy)}) if as_json else str(copy))


@app.command()
def restore(
    copy: Annotated[Path, typer.Argument(metavar="BACKUP", help="A copy that `db backup` or an adoption made.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a backup in the place of the SQLite database, of which a copy is kept; the service must be stopped.

    The backup of an adoption is the old installation's file: after this its programs work as before.
    """
    settings = load_settings(config)
    url = database_url(settings.database.url)
    file = sqlite_file(url)
    if file is None:
        raise ConfigurationError(
            f"a PostgreSQL backup is put back with pg_restore --clean --if-exists --dbname={url.database} BACKUP"
        )
    if running_service(settings) is not None:
        raise StoreError("the service is running: stop it first")
    kept = restore_sqlite(file, copy, datetime.now(UTC))
    if as_json:
        typer.echo(json.dumps({"kept": None if kept is None else str(kept)}))
        return
    typer.echo(f"restored; what was there is in {kept}" if kept is not None else "restored")


@app.command("fill")
def fill_(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="SQLite file to read, such as data/admin.db.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy everything of a SQLite file into the database of the settings, PostgreSQL as a rule, which must be empty.

    Ids stay, and so does what is encrypted: the key file goes on being needed. The service must be stopped.
    """
    settings = load_settings(config)
    if running_service(settings) is not None:
        raise StoreError("the service is running: stop it first")
    filled = asyncio.run(fill(settings.database.url, source))
    if as_json:
        typer.echo(json.dumps({table: {"copied": copied, "left": left} for table, (copied, left) in filled.items()}))
        return
    for table, (copied, left) in filled.items():
        rest = f", {left} left out: of no meter, incomplete or twice" if left else ""
        typer.echo(f"{table}: {copied} rows{rest}")


def import_(
    file: Annotated[Path, typer.Argument(help="mqtt_config.json of the single-meter installation.")],
    name: Annotated[str | None, typer.Option(help="The meter's name; its address unless given.")] = None,
    model: Annotated[str, typer.Option(help="Catalogue entry.")] = "microstar",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add the meter of a legacy mqtt_config.json; a running service takes it over at `reload` or restart."""
    meter, missing = legacy_meter(_parsed(file), file, name, model)

    async def add(repository: MeterRepository, _: AsyncEngine) -> Meter:
        return await repository.add(meter)

    added = in_database(load_settings(config).database, add)
    for measurement in missing:
        typer.echo(f"meterbridge: model {model} does not read {measurement}: it is left out", err=True)
    if as_json:
        typer.echo(json.dumps({"id": added.id, "name": added.name, "left_out": missing}, ensure_ascii=False))
        return
    typer.echo(f"meter {added.id} ({added.name}) added")


def legacy_meter(given: dict[str, Any], file: Path, name: str | None, model: str) -> tuple[Meter, list[str]]:
    """Make a meter of a legacy configuration.

    Args:
        given: the parsed file.
        file: its name, for messages.
        name: the meter's; None takes its address.
        model: catalogue entry.

    Returns:
        The meter without an id, and the names of measurements that its model does not poll.

    Raises:
        ConfigurationError: a key is missing, unknown or holds what it must not; never with the token.
    """
    if unknown := sorted(set(given) - _LEGACY):
        raise ConfigurationError(f"{file}: unknown key {unknown[0]}; keys are {', '.join(sorted(_LEGACY))}")
    if not isinstance(given.get("dlms_host"), str):
        raise ConfigurationError(f"{file}: dlms_host is missing")
    host = given["dlms_host"]
    meter = Meter(
        MeterId(0),
        name or host,
        host,
        given.get("dlms_port", 3333),
        model=model,
        tb_host=given.get("mqtt_host", "127.0.0.1"),
        tb_port=given.get("mqtt_port", 1884),
        tb_token=given.get("access_token") or None,
    )
    try:
        check_meter(meter)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from None
    polled = set(load_model(model).poll)
    wanted = given.get("measurements", [])
    if not isinstance(wanted, (list, dict)):
        raise ConfigurationError(f"{file}: measurements must be a list of names")
    return meter, [str(measurement) for measurement in wanted if measurement not in polled]


def _parsed(file: Path) -> dict[str, Any]:
    try:
        given = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise ConfigurationError(f"{file}: not valid JSON") from None
    if not isinstance(given, dict):
        raise ConfigurationError(f"{file}: must hold one JSON object")
    return given


def _damage(database: DatabaseSettings) -> list[str]:
    """What SQLite finds wrong with its file; nothing for another database."""
    file = sqlite_file(database_url(database.url))
    if file is None:
        return []
    if not file.exists():
        return [f"database {file}: there is none"]
    try:
        with closing(sqlite3.connect(f"file:{file.absolute()}?mode=ro", uri=True)) as connection:
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(20)")]
            orphans = connection.execute("PRAGMA foreign_key_check").fetchall()
    except sqlite3.Error as error:
        return [f"database {file}: {error}"]
    damage = [] if found == ["ok"] else found
    return damage + [f"table {row[0]}, row {row[1]}: belongs to nothing in {row[2]}" for row in orphans[:20]]
