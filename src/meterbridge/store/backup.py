"""Copies of a database: made while it is used, put back while it is not."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.engine import URL

from meterbridge.errors import StoreError
from meterbridge.store.engine import database_name

_BUSY_S = 5.0
# Half a year's polls once a second; a counter of 32 bits bears it 256 times.
_COUNTERS_SKIPPED = 1 << 24


def backup_sqlite(file: Path, now: datetime) -> Path:
    """Copy a live SQLite database consistently to `<file>.backup-<timestamp>` beside it, unreadable for others.

    Args:
        file: the database.
        now: time zone aware; goes into the name, in UTC.

    Returns:
        The copy.

    Raises:
        StoreError: it cannot be written, or a backup of that name exists.
    """
    target = file.with_name(f"{file.name}.backup-{_stamp(now)}")
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640))
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy)
            # One file that stands alone, and as an old program had it.
            copy.execute("PRAGMA journal_mode = DELETE")
    except OSError as error:
        raise StoreError(f"backup {target}: {error.strerror}") from None
    except sqlite3.Error as error:
        raise StoreError(f"backup {target}: {error}") from None
    return target


def backup_postgresql(url: URL, folder: Path, now: datetime) -> Path:
    """Have pg_dump write `<database>.backup-<timestamp>.dump`, in its custom format, unreadable for others.

    Args:
        url: as `database_url` gives it.
        folder: where to; made when missing.
        now: time zone aware; goes into the name, in UTC.

    Returns:
        The dump; pg_restore reads it.

    Raises:
        StoreError: pg_dump is not installed or does not succeed, or the file cannot be written.
    """
    target = folder / f"{url.database}.backup-{_stamp(now)}.dump"
    program = shutil.which("pg_dump")
    if program is None:
        raise StoreError(
            f"database {database_name(url)}: pg_dump is not installed here (Debian: postgresql-client); "
            "run it where the server is: pg_dump --format=custom"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "wb") as dump:
            done = subprocess.run(  # noqa: S603  (a fixed program; what it connects to is in its environment)
                [program, "--format=custom", "--no-password"],
                env=_for_libpq(url),
                stdin=subprocess.DEVNULL,
                stdout=dump,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
    except OSError as error:
        raise StoreError(f"backup {target}: {error.strerror}") from None
    if done.returncode != 0:
        target.unlink()
        reason = next((line for line in done.stderr.splitlines() if "error:" in line), done.stderr.strip())
        raise StoreError(f"database {database_name(url)}: {reason.partition('error: ')[2] or reason}")
    return target


def restore_sqlite(file: Path, backup: Path, now: datetime) -> Path | None:
    """Put a backup in a database's place, at once; the backup stays where it is. Invocation counters go forward.

    Args:
        file: the database, of which a backup is made first where it exists, and a plain copy where it is damaged: of
            that no counters are taken over. Nobody may be using it.
        backup: a copy made by `backup_sqlite`, such as the one of an adoption.
        now: as for `backup_sqlite`.

    Returns:
        The copy of what was there, None where nothing was.

    Raises:
        StoreError: the backup is no database or damaged, the database is in use, or nothing can be written; nothing
            has changed then.
    """
    fresh = file.with_name(f"{file.name}.restored-{_stamp(now)}")
    try:
        _check(backup)
        kept = None
        damaged = file.exists() and _is_damaged(file)
        if damaged:
            kept = _copy_as_it_is(file, now)
        elif file.exists():
            _leave_nothing_in_the_journal(file)
            kept = backup_sqlite(file, now)
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640))
        with closing(sqlite3.connect(backup)) as source, closing(sqlite3.connect(fresh)) as copy:
            source.backup(copy)
            _advance_counters(copy)
        if kept is not None:
            if not damaged:
                _keep_counters(fresh, kept)
            shutil.copymode(file, fresh)
            found = file.stat()
            os.chown(fresh, found.st_uid, found.st_gid)
            if damaged:
                _move_journal(file, kept)
        fresh.replace(file)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise StoreError(f"database {file}: {error.strerror}") from None
    except sqlite3.Error as error:
        fresh.unlink(missing_ok=True)
        raise StoreError(f"database {file}: {error}") from None
    return kept


def _keep_counters(fresh: Path, kept: Path) -> None:
    """Let no counter go back with the rest that is newer than the backup, or was begun after it."""
    with closing(sqlite3.connect(fresh)) as connection:
        connection.execute("ATTACH ? AS kept", (str(kept),))
        both = connection.execute(
            "SELECT COUNT(*) FROM (SELECT name FROM main.sqlite_master UNION ALL SELECT name FROM kept.sqlite_master)"
            " WHERE name = 'invocation_counters'"
        ).fetchone()
        if both == (2,):
            with connection:
                connection.execute(
                    "INSERT INTO main.invocation_counters (name, next)"
                    " SELECT name, next FROM kept.invocation_counters WHERE true"
                    " ON CONFLICT (name) DO UPDATE SET next = MAX(next, excluded.next)"
                )


def _is_damaged(file: Path) -> bool:
    try:
        with closing(sqlite3.connect(file, timeout=_BUSY_S)) as connection:
            answer: tuple[str] = connection.execute("PRAGMA quick_check(1)").fetchone()
            return answer != ("ok",)
    except sqlite3.OperationalError:
        # Locked, or not to be read: no damage.
        raise
    except sqlite3.DatabaseError:
        return True


def _copy_as_it_is(file: Path, now: datetime) -> Path:
    target = file.with_name(f"{file.name}.backup-{_stamp(now)}")
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640))
    shutil.copyfile(file, target)
    return target


def _move_journal(file: Path, kept: Path) -> None:
    """Move the write-ahead log of a damaged file to its copy: it may hold what a rescue needs."""
    file.with_name(f"{file.name}-shm").unlink(missing_ok=True)
    journal = file.with_name(f"{file.name}-wal")
    if journal.exists():
        journal.replace(kept.with_name(f"{kept.name}-wal"))


def _check(backup: Path) -> None:
    if not backup.is_file():
        raise StoreError(f"backup {backup}: there is none")
    try:
        with closing(sqlite3.connect(f"{backup.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            [[answer]] = connection.execute("PRAGMA integrity_check(1)").fetchall()
            tables = connection.execute("SELECT name FROM sqlite_master WHERE name = 'meters'").fetchall()
    except sqlite3.Error as error:
        raise StoreError(f"backup {backup}: {error}") from None
    if answer != "ok":
        raise StoreError(f"backup {backup}: damaged: {answer}")
    if not tables:
        raise StoreError(f"backup {backup}: it has no table meters")


def _advance_counters(connection: sqlite3.Connection) -> None:
    """Let no invocation counter go back with the backup: what was used since then is skipped."""
    if connection.execute("SELECT name FROM sqlite_master WHERE name = 'invocation_counters'").fetchall():
        connection.execute("UPDATE invocation_counters SET next = next + ?", (_COUNTERS_SKIPPED,))
        connection.commit()


def _leave_nothing_in_the_journal(file: Path) -> None:
    """Fold the write-ahead log into the file and remove it: left behind, it would be taken for the restored one's.

    Raises:
        StoreError: another process has the database open.
    """
    try:
        with closing(sqlite3.connect(file, timeout=_BUSY_S)) as connection:
            [mode] = connection.execute("PRAGMA journal_mode = DELETE").fetchone()
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise StoreError(f"database {file}: it is in use; stop the service first") from None
        raise
    if mode != "delete":
        raise StoreError(f"database {file}: it is in use; stop the service first")


def _stamp(now: datetime) -> str:
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}"


def _for_libpq(url: URL) -> dict[str, str]:
    """Variables for PostgreSQL's own programs: arguments, and a password among them, would be seen in `ps`."""
    query = {name: value for name, value in url.query.items() if isinstance(value, str)}
    given = {
        "PGHOST": url.host or query.get("host"),
        "PGPORT": str(url.port) if url.port else query.get("port"),
        "PGUSER": url.username,
        "PGPASSWORD": url.password,
        "PGDATABASE": url.database,
        "PGSSLMODE": query.get("ssl") or query.get("sslmode"),
    }
    return {**os.environ, **{name: value for name, value in given.items() if value}}
