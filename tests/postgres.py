"""A real PostgreSQL for tests: a cluster of its own in a temporary folder, stopped by pid."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

START_SECONDS = 30.0
USER = "meterbridge"


class Postgres:
    """One cluster on a loopback port; databases outlive stop() and start(), but no power cut: it does not sync.

    Args:
        port: free loopback port; it stays the same over restarts.

    Raises:
        RuntimeError: PostgreSQL is not installed, or the cluster cannot be made.
    """

    host = "127.0.0.1"

    def __init__(self, port: int) -> None:
        self.port = port
        self.password = secrets.token_urlsafe(12)
        # Not in pytest's folder: PostgreSQL refuses to run as root, and root's folders are closed to others.
        self._folder = Path(tempfile.mkdtemp(prefix="meterbridge-postgres-"))
        self.log = self._folder / "log"
        self._data = self._folder / "data"
        self._as: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._made = 0
        if os.geteuid() == 0:
            owner = _unprivileged()
            self._as = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
        words = self._folder / "password"
        words.write_text(self.password)
        words.chmod(0o644)
        made = subprocess.run(
            [
                *(program("initdb"), "--pgdata", self._data, "--username", USER, "--pwfile", words),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"),
            ],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **self._as,
        )
        words.unlink()
        if made.returncode != 0:
            self.remove()
            raise RuntimeError(f"initdb failed: {made.stderr[-500:]}")

    def url(self, database: str) -> str:
        """SQLAlchemy URL of a database."""
        return f"postgresql+asyncpg://{USER}:{self.password}@{self.host}:{self.port}/{database}"

    def environment(self) -> dict[str, str]:
        """Variables that let PostgreSQL's own programs in."""
        return {"PGHOST": self.host, "PGPORT": str(self.port), "PGUSER": USER, "PGPASSWORD": self.password}

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run one statement and return its rows, columns separated by `|`.

        Raises:
            subprocess.CalledProcessError: PostgreSQL refused it.
        """
        return subprocess.run(
            [program("psql"), "--no-psqlrc", "--no-align", "--tuples-only", "--quiet", database],
            input=statement,
            env={**os.environ, **self.environment()},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def dump(self, database: str) -> bytes:
        """Return all of a database as SQL."""
        return subprocess.run(
            [program("pg_dump"), "--no-password", database],
            env={**os.environ, **self.environment()},
            capture_output=True,
            check=True,
        ).stdout

    def create(self, template: str | None = None) -> str:
        """Make a database, a copy of another where given, and return its name."""
        self._made += 1
        name = f"test_{self._made}"
        self.sql(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
        return name

    def drop(self, database: str) -> None:
        """Remove a database, whoever is still connected."""
        self.sql(f"DROP DATABASE {database} WITH (FORCE)")

    def start(self) -> None:
        """Run it and return once it takes connections; nothing when it already runs.

        Raises:
            RuntimeError: it did not within START_SECONDS; with the end of its log.
        """
        if self._process is not None:
            return
        settings = {
            "listen_addresses": self.host,
            "port": self.port,
            "unix_socket_directories": self._folder,
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "shared_buffers": "16MB",
            "autovacuum": "off",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            before = log.tell()
            # Should pytest be killed, it ends as well.
            leash = ["setpriv", "--pdeathsig", "INT"] if shutil.which("setpriv") else []
            self._process = subprocess.Popen(
                [*leash, program("postgres"), "-D", self._data, *options],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._as,
            )
        give_up = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < give_up:
            # Its own word, for a connection may be answered by whoever else has the port.
            if b"ready to accept connections" in self.log.read_bytes()[before:]:
                return
            time.sleep(0.01)
        self.stop()
        raise RuntimeError(f"PostgreSQL does not start; its log ends:\n{self.log.read_text(errors='replace')[-500:]}")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It neither answers nor closes a connection meanwhile, as behind a dead network."""
        if self._process is None:
            raise RuntimeError("this PostgreSQL does not run")
        main = psutil.Process(self._process.pid)
        frozen = [main, *main.children(recursive=True)]
        for process in frozen:
            process.suspend()
        try:
            yield
        finally:
            for process in frozen:
                process.resume()

    def stop(self) -> None:
        """End it at once, breaking all connections; nothing when it does not run."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=START_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait()

    def remove(self) -> None:
        """Delete the cluster, stopped first."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


def program(name: str) -> str:
    """Path of one of PostgreSQL's programs; Debian keeps most of them out of PATH.

    Raises:
        RuntimeError: it is not installed.
    """
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda found: found.parent.name.zfill(4))
    path = os.pathsep.join([*(str(folder) for folder in reversed(newest)), os.environ.get("PATH", "")])
    found = shutil.which(name, path=path)
    if found is None:
        raise RuntimeError(f"{name} is not installed; `make test` installs it (or: apt-get install postgresql)")
    return found


def _unprivileged() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")
