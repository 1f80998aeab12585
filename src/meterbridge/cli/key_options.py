"""Keys on the command line: as hex, from a file or from the environment, and never shown again."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from meterbridge.cli.pem import private_key_in, public_key_in
from meterbridge.dlms import KeyRing, Keys
from meterbridge.dlms.security import SYSTEM_TITLE_SIZE
from meterbridge.errors import ConfigurationError

_KEY_SIZES = (16, 32)


def _pem(about: str) -> Any:
    return typer.Option(metavar="PEM", help=about, dir_okay=False, show_default=False)


MeterSigningKeyOption = Annotated[
    Path | None, _pem("The sender's public key or certificate: what general-signing is verified with.")
]
AgreementKeyOption = Annotated[Path | None, _pem("Our private key, for general-ciphering with an agreed key.")]
MeterAgreementKeyOption = Annotated[Path | None, _pem("The sender's public key or certificate, for the same.")]
_HEX = {"encryption", "authentication", "broadcast", "master"}
_PEM = {"meter_signing_key", "agreement_key", "meter_agreement_key"}


def hex_from(text: str | None, name: str, sizes: tuple[int, ...] = _KEY_SIZES) -> bytes | None:
    """Read hex digits, or those in the file that `@FILE` names.

    Raises:
        ConfigurationError: no such file, no hex, or another size; the message names the option and not its value.
    """
    if text is None:
        return None
    if text.startswith("@"):
        text = _read(Path(text[1:]))
    allowed = " or ".join(str(2 * size) for size in sizes)
    try:
        octets = bytes.fromhex(text.strip().removeprefix("0x").replace(":", "").replace("-", ""))
    except ValueError:
        raise ConfigurationError(f"{name} is not hex: {allowed} digits are wanted") from None
    if len(octets) not in sizes:
        raise ConfigurationError(f"{name} has {2 * len(octets)} hex digits, {allowed} are wanted")
    return octets


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not a text file") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}") from None


@dataclass(frozen=True, slots=True)
class PairOptions:
    """Files in PEM of the keys that come in pairs, where they are given."""

    meter_signing_key: MeterSigningKeyOption = None
    agreement_key: AgreementKeyOption = None
    meter_agreement_key: MeterAgreementKeyOption = None

    @property
    def given(self) -> bool:
        """Whether any was given."""
        return any((self.meter_signing_key, self.agreement_key, self.meter_agreement_key))

    def added_to(self, keys: Keys) -> Keys:
        """Read them.

        Raises:
            ConfigurationError: as `private_key_in` and `public_key_in`.
        """
        return replace(
            keys,
            agreement=private_key_in(self.agreement_key),
            peer_signing=public_key_in(self.meter_signing_key),
            peer_agreement=public_key_in(self.meter_agreement_key),
        )


NO_PAIRS = PairOptions()
"""None of them given."""


def key_ring_from(
    key: str | None, auth_key: str | None, system_title: str | None, pairs: PairOptions = NO_PAIRS
) -> KeyRing:
    """Make a key ring of one sender's keys.

    Raises:
        ConfigurationError: as `hex_from`.
    """
    encryption = hex_from(key, "--key")
    authentication = hex_from(auth_key, "--auth-key")
    title = hex_from(system_title, "--system-title", (SYSTEM_TITLE_SIZE,)) or b""
    if encryption is None and authentication is None and not pairs.given:
        return KeyRing(title=title)
    return KeyRing(default=pairs.added_to(Keys(encryption, authentication, broadcast=encryption)), title=title)


def read_key_ring(path: Path) -> KeyRing:
    """Read a file of keys: TOML, or a line for each meter with system title, EK and, where it has one, AK.

    In TOML a table for each system title holds `encryption`, `authentication`, `broadcast` and `master` as hex, and
    `meter_signing_key`, `agreement_key` and `meter_agreement_key` as files in PEM beside it. The system title `default`
    stands for everybody else.

    Raises:
        ConfigurationError: not readable, or a line or table that is wrong; the message names it and shows no key.
    """
    text = _read(path)
    tables = _tables(path, text) if "[" in text else _lines(path, text)
    by_title: dict[bytes, Keys] = {}
    default: Keys | None = None
    for where, title, named in tables:
        unknown = set(named) - _HEX - _PEM
        if unknown:
            raise ConfigurationError(f"{path}, {where}: unknown key {min(unknown)!r}")
        parts = {name: hex_from(value, f"{path}, {where}: {name}") for name, value in named.items() if name in _HEX}
        pairs = PairOptions(**{name: path.parent / value for name, value in named.items() if name in _PEM})
        keys = pairs.added_to(
            Keys(
                parts.get("encryption"),
                parts.get("authentication"),
                broadcast=parts.get("broadcast"),
                master=parts.get("master"),
            )
        )
        if title == "default":
            default = keys
            continue
        octets = hex_from(title, f"{path}, {where}: the system title", (SYSTEM_TITLE_SIZE,)) or b""
        if octets in by_title:
            raise ConfigurationError(f"{path}, {where}: the system title stands there twice")
        by_title[octets] = keys
    return KeyRing(by_title, default)


def _lines(path: Path, text: str) -> list[tuple[str, str, Mapping[str, str]]]:
    rows: list[tuple[str, str, Mapping[str, str]]] = []
    for number, line in enumerate(text.splitlines(), 1):
        parts = line.partition("#")[0].replace(",", " ").replace(";", " ").replace("=", " ").split()
        if not parts:
            continue
        if len(parts) not in (2, 3):
            raise ConfigurationError(f"{path}, line {number}: system title, EK and perhaps AK are wanted")
        rows.append((f"line {number}", parts[0], dict(zip(("encryption", "authentication"), parts[1:], strict=False))))
    return rows


def _tables(path: Path, text: str) -> list[tuple[str, str, Mapping[str, str]]]:
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: {error}") from None
    rows: list[tuple[str, str, Mapping[str, str]]] = []
    for title, table in content.items():
        if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
            raise ConfigurationError(f"{path}: [{title}] wants keys as text: hex, or files in PEM")
        rows.append((f"[{title}]", title, table))
    return rows
