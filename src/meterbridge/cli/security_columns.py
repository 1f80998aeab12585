"""Options that say what the database holds of a meter's authentication and ciphering: the same for `add` and `edit`."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated

from meterbridge.cli.key_options import hex_from
from meterbridge.cli.pem import read_pem
from meterbridge.cli.security_options import KEY_HELP, Auth, GeneralKey, Policy, security_option
from meterbridge.dlms.security import SYSTEM_TITLE_SIZE
from meterbridge.errors import ConfigurationError

_TITLES = ("system_title", "meter_system_title")
_KEYS = ("block_cipher_key", "authentication_key", "master_key")
_PEM = ("signing_key", "meter_signing_key", "agreement_key", "meter_agreement_key")


@dataclass(frozen=True, slots=True)
class SecurityColumns:
    """What was given, by column; None where it was not, empty text where it is to be removed. Keys are in no repr."""

    authentication: Annotated[
        Auth | None, security_option("--auth", help="Authentication; low with a password, else none.")
    ] = None
    hls_secret: Annotated[
        str | None,
        security_option(
            envvar="METER_HLS_SECRET", help="Secret of hls-md5, -sha1, -sha256; the password unless given."
        ),
    ] = field(default=None, repr=False)
    system_title: Annotated[
        str | None,
        security_option(envvar="METER_CLIENT_TITLE", metavar="HEX", help="Our system title, 8 octets. '' removes it."),
    ] = None
    meter_system_title: Annotated[
        str | None,
        security_option("--meter-title", metavar="HEX", help="The meter's system title: another meter is refused."),
    ] = None
    block_cipher_key: Annotated[
        str | None,
        security_option(
            "--key", envvar="METER_KEY", metavar="HEX|@FILE", help=f"Encryption key (EK), {KEY_HELP}. '' removes it."
        ),
    ] = field(default=None, repr=False)
    authentication_key: Annotated[
        str | None,
        security_option(
            "--auth-key",
            envvar="METER_AUTH_KEY",
            metavar="HEX|@FILE",
            help=f"Authentication key (AK), {KEY_HELP}. '' removes it.",
        ),
    ] = field(default=None, repr=False)
    security_suite: Annotated[int | None, security_option("--suite", min=0, max=2, help="Security suite.")] = None
    security_policy: Annotated[
        Policy | None, security_option("--security", help="Protection of every APDU; both where there is a key.")
    ] = None
    general_ciphering: Annotated[
        bool | None, security_option("--general/--no-general", help="General ciphering in place of service-specific.")
    ] = None
    dedicated_key: Annotated[
        bool | None, security_option("--dedicated/--no-dedicated", help="A dedicated key for each association.")
    ] = None
    general_key: Annotated[
        GeneralKey | None,
        security_option(
            "--general-ciphering", help="general-ciphering: with the identified key, or one wrapped or agreed."
        ),
    ] = None
    master_key: Annotated[
        str | None,
        security_option(
            envvar="METER_MASTER_KEY", metavar="HEX|@FILE", help=f"Master key (KEK), {KEY_HELP}. '' removes it."
        ),
    ] = field(default=None, repr=False)
    signed: Annotated[
        bool | None,
        security_option("--signed/--no-signed", help="Sign every APDU, and take none that is not signed."),
    ] = None
    signing_key: Annotated[
        str | None, security_option(metavar="FILE", help="Our private key for signatures, PEM. '' removes it.")
    ] = None
    meter_signing_key: Annotated[
        str | None,
        security_option(metavar="FILE", help="The meter's public key or certificate for signatures, PEM."),
    ] = None
    agreement_key: Annotated[
        str | None, security_option(metavar="FILE", help="Our private key for key agreement, PEM. '' removes it.")
    ] = None
    meter_agreement_key: Annotated[
        str | None,
        security_option(metavar="FILE", help="The meter's public key or certificate for key agreement, PEM."),
    ] = None
    counter_object: Annotated[
        str | None,
        security_option(
            metavar="OBIS", help="Take the invocation counter from this object first, by the public client."
        ),
    ] = None
    referencing: Annotated[
        bool | None, security_option("--sn/--ln", help="Short names (SN referencing), or logical names.")
    ] = None

    def given(self) -> dict[str, object]:
        """Return what was given, by column; keys in the clear, None for what is to be removed.

        Raises:
            ConfigurationError: no hex, or a file that cannot be read; no message shows a key.
        """
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: _column(name, value) for name, value in values.items() if value is not None}


NO_SECURITY_COLUMNS = SecurityColumns()
"""None of the options given."""


def _column(name: str, value: object) -> object:
    if name == "referencing":
        return "sn" if value else "ln"
    if not isinstance(value, str):
        return value
    if not value:
        return None
    if name in _TITLES:
        return _hex(value, name, (SYSTEM_TITLE_SIZE,))
    if name in _KEYS:
        return _hex(value, name, (16, 32))
    if name in _PEM:
        return _pem(Path(value))
    return str(value)


def _hex(text: str, name: str, sizes: tuple[int, ...]) -> str:
    octets = hex_from(text, name, sizes) or b""
    return octets.hex()


def _pem(path: Path) -> str:
    try:
        return read_pem(path).decode("ascii").strip()
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} holds no PEM") from None
