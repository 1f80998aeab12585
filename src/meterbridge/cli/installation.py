"""What `meterbridge service install` puts where: each step says what it would do, and does only what is not done."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from meterbridge.cli.systemd import UNIT, call
from meterbridge.errors import ConfigurationError
from meterbridge.store import CREDENTIAL

USER = "meterbridge"
STATE = Path("/var/lib/meterbridge")
LOGS = Path("/var/log/meterbridge")
CONFIGURATION = Path("/etc/meterbridge/meterbridge.toml")
UNITS = Path("/etc/systemd/system")
KEY = CONFIGURATION.with_name(CREDENTIAL)
KEY_FILE = STATE / "data" / "secrets.key"
WRAPPER = Path("/usr/local/bin/meterbridge")
OLD_UNITS = ("dlms-multi-meter.service", "dlms-mqtt-bridge.service")
_IN_THE_CREDENTIAL = f"# The keys are in the systemd credential {CREDENTIAL}, which only the service is given.\n"


@dataclass(frozen=True, slots=True)
class Step:
    """Something left to do.

    Args:
        what: in the imperative, one line.
        do: does it.
    """

    what: str
    do: Callable[[], None]


class Installation:
    """The service on one machine, or in the file tree of one to come.

    Args:
        root: where its files go, `/` for this machine.
        program: the `meterbridge` command that the unit starts.
        credential: keep the keys of secrets in a systemd credential instead of a file of the service's own.

    Raises:
        ConfigurationError: the service's user could not start this program.
    """

    def __init__(self, root: Path, program: Path, *, credential: bool) -> None:
        self._root = root
        self._program = program
        self._credential = credential
        if not program.is_absolute() or not program.exists():
            raise ConfigurationError(f"there is no program {program}")
        for closed in ("/home", "/root", "/run/user"):
            # The unit's ProtectHome hides them.
            if program.is_relative_to(closed):
                raise ConfigurationError(
                    f"{program} is out of the service's reach: install Meterbridge outside {closed}, "
                    "as in /opt/meterbridge (docs/operations.md)"
                )

    def steps(self) -> Iterator[Step]:
        """Yield what is left to do, in this order; the next is looked at when the one before has been done.

        Raises:
            ConfigurationError: something is in the way; the sentence says what to do about it.
        """
        self._refuse_old_units()
        if self._account() is None:
            yield Step(f"make the user {USER}", self._make_user)
        yield from self._folder(CONFIGURATION.parent, "root", 0o750)
        for path in (STATE, STATE / "data", LOGS):
            yield from self._folder(path, USER, 0o750)
        if not self._at(CONFIGURATION).exists():
            yield self._file(CONFIGURATION, configuration(), "root", 0o640)
        yield from self._keys()
        yield from self._same(UNITS / UNIT, unit(self._program), 0o644)
        yield from self._same(WRAPPER, wrapper(self._program), 0o755)

    def activate(self) -> None:
        """Have systemd read the unit and start it at boot; it is not started now.

        Raises:
            SystemRefused: systemd said no.
        """
        call("systemctl", "daemon-reload")
        call("systemctl", "enable", UNIT)

    def _refuse_old_units(self) -> None:
        for name in OLD_UNITS:
            old = self._at(UNITS / name)
            if old.exists() and not old.is_symlink():
                raise ConfigurationError(
                    f"the old installation's {old} is in the way: systemctl disable --now {name} "
                    f"and move the file to another folder; its name will be an alias of {UNIT}"
                )

    def _account(self) -> tuple[int, int] | None:
        """User and group id of the service's user, None where there is none."""
        try:
            accounts = self._at(Path("/etc/passwd")).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None
        found = re.search(rf"^{USER}:[^:]*:([0-9]+):([0-9]+):", accounts, re.MULTILINE)
        return None if found is None else (int(found[1]), int(found[2]))

    def _make_user(self) -> None:
        prefix = [] if self._root == Path("/") else ["--prefix", str(self._root)]
        self._at(Path("/etc")).mkdir(parents=True, exist_ok=True)
        home = ["--home-dir", str(STATE), "--no-create-home", "--shell", "/usr/sbin/nologin"]
        call("useradd", *prefix, "--system", "--user-group", *home, USER)
        if self._account() is None:
            raise ConfigurationError(f"useradd made no user {USER} in {self._at(Path('/etc/passwd'))}")

    def _folder(self, path: Path, owner: str, mode: int) -> Iterator[Step]:
        there = self._at(path)

        def make() -> None:
            there.mkdir(parents=True, exist_ok=True)
            there.chmod(mode)
            self._give(there, owner)

        if not there.is_dir() or there.stat().st_mode & 0o777 != mode:
            yield Step(f"make the folder {there}, mode {mode:04o}, of {owner}", make)

    def _same(self, path: Path, text: str, mode: int) -> Iterator[Step]:
        there = self._at(path)
        if not there.exists() or there.read_text(encoding="utf-8", errors="replace") != text:
            yield self._file(path, text, None, mode)

    def _keys(self) -> Iterator[Step]:
        """The keys as a credential: root's file, which only systemd reads, and a note for whoever looks for them."""
        if not self._credential:
            return
        file, key = self._at(KEY_FILE), self._at(KEY)
        kept = file.read_text(encoding="ascii", errors="replace") if file.exists() else ""
        if not key.exists():
            # Keys that are in use go on being in use.
            text = kept or base64.b64encode(os.urandom(32)).decode() + "\n"
            yield self._file(KEY, text, None, 0o600)
        if kept != _IN_THE_CREDENTIAL:
            # Not none at all: whoever finds none makes one, which the service would not have.
            yield self._file(KEY_FILE, _IN_THE_CREDENTIAL, USER, 0o600)
        drop_in = f"[Service]\nLoadCredential={CREDENTIAL}:{KEY}\n"
        yield from self._folder(UNITS / f"{UNIT}.d", "root", 0o755)
        yield from self._same(UNITS / f"{UNIT}.d" / "credential.conf", drop_in, 0o644)

    def _file(self, path: Path, text: str, owner: str | None, mode: int) -> Step:
        there = self._at(path)

        def write() -> None:
            there.parent.mkdir(parents=True, exist_ok=True)
            fresh = there.with_name(f"{there.name}.{os.getpid()}.new")
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as out:
                out.write(text)
            fresh.chmod(mode)
            if owner is not None:
                self._give(fresh, owner)
            fresh.replace(there)

        return Step(f"write {there}, mode {mode:04o}", write)

    def _give(self, path: Path, owner: str) -> None:
        """Give it to the service's user, or to root with the service's group."""
        account = self._account()
        if account is not None and os.geteuid() == 0:
            os.chown(path, account[0] if owner == USER else 0, account[1])

    def _at(self, path: Path) -> Path:
        return self._root / path.relative_to("/")


def unit(program: Path) -> str:
    """The systemd unit that starts a program."""
    return shipped(UNIT).replace("/opt/meterbridge/bin/meterbridge", str(program))


def configuration() -> str:
    """The example settings, with paths that do not depend on where a command is typed."""
    text = shipped("meterbridge.example.toml")
    for relative, absolute in (
        ("sqlite+aiosqlite:///data/", f"sqlite+aiosqlite:///{STATE}/data/"),
        ('"data/', f'"{STATE}/data/'),
        ('"logs/', f'"{LOGS}/'),
    ):
        text = text.replace(relative, absolute)
    return text


def wrapper(program: Path) -> str:
    """A `meterbridge` for PATH that takes the service's settings unless told otherwise."""
    return (
        "#!/bin/sh\n# Meterbridge with the settings of this machine's service.\n"
        f'METERBRIDGE_CONFIG="${{METERBRIDGE_CONFIG:-{CONFIGURATION}}}" exec {program} "$@"\n'
    )


def shipped(name: str) -> str:
    """Text of a file of `deploy/` or of the project's folder, out of the package or of a checkout."""
    checkout = Path(__file__).parents[3]
    places: Sequence[resources.abc.Traversable] = (
        resources.files("meterbridge") / "deploy" / name,
        checkout / "deploy" / name,
        checkout / name,
    )
    for place in places:
        if place.is_file():
            return place.read_text(encoding="utf-8")
    raise ConfigurationError(f"this installation of Meterbridge lacks {name}")
