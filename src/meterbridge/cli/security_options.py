"""Options that say how an association is authenticated and ciphered, for every command that opens one."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from meterbridge.cli.key_options import hex_from
from meterbridge.cli.option_group import with_options
from meterbridge.cli.pem import private_key_in, public_key_in
from meterbridge.dlms import (
    Credentials,
    InvocationCounter,
    Keys,
    LogicalName,
    Mechanism,
    SecurityContext,
    SecurityPolicy,
    SecuritySuite,
)
from meterbridge.dlms.security import SYSTEM_TITLE_SIZE, KeyChoice
from meterbridge.errors import ConfigurationError
from meterbridge.meter.configured import GENERAL_KEYS, MECHANISMS, POLICIES
from meterbridge.meter.counter_file import FileCounter

_T = TypeVar("_T")
_SECURITY = "Security"
KEY_HELP = "as hex digits or @FILE"


class Auth(StrEnum):
    """How the association is authenticated."""

    NONE = "none"
    LOW = "low"
    HLS_MD5 = "hls-md5"
    HLS_SHA1 = "hls-sha1"
    HLS_GMAC = "hls-gmac"
    HLS_SHA256 = "hls-sha256"
    HLS_ECDSA = "hls-ecdsa"

    @property
    def mechanism(self) -> Mechanism | None:
        """The mechanism; None without authentication."""
        return MECHANISMS[self]


class Policy(StrEnum):
    """How APDUs are protected."""

    NONE = "none"
    AUTHENTICATED = "authenticated"
    ENCRYPTED = "encrypted"
    BOTH = "both"

    @property
    def policy(self) -> SecurityPolicy:
        """As the protocol has it."""
        return POLICIES[self]


class GeneralKey(StrEnum):
    """Which key general-ciphering takes."""

    NONE = "none"
    IDENTIFIED = "identified"
    WRAPPED = "wrapped"
    ONE_PASS = "one-pass"
    STATIC_UNIFIED = "static-unified"

    @property
    def key(self) -> KeyChoice | None:
        """As the protocol has it; None without general-ciphering."""
        return GENERAL_KEYS[self]


def security_option(*names: str, **more: Any) -> Any:
    """Make an option that stands among the others about security."""
    return typer.Option(*names, rich_help_panel=_SECURITY, show_default=False, **more)


@dataclass(frozen=True, slots=True)
class SecurityArguments:
    """What was given of these options; keys are shown by no repr."""

    system_title: Annotated[
        str | None, security_option(envvar="METER_CLIENT_TITLE", metavar="HEX", help="Our system title, 8 octets.")
    ] = None
    meter_title: Annotated[
        str | None, security_option(metavar="HEX", help="The meter's system title: another meter is refused.")
    ] = None
    key: Annotated[
        str | None, security_option(envvar="METER_KEY", metavar="HEX|@FILE", help=f"Encryption key (EK), {KEY_HELP}.")
    ] = field(default=None, repr=False)
    auth_key: Annotated[
        str | None,
        security_option(envvar="METER_AUTH_KEY", metavar="HEX|@FILE", help=f"Authentication key (AK), {KEY_HELP}."),
    ] = field(default=None, repr=False)
    suite: Annotated[int, security_option(min=0, max=2, help="Security suite, 0 unless given.")] = 0
    security: Annotated[
        Policy | None, security_option(help="Protection of every APDU; both where there is a key, else none.")
    ] = None
    general: Annotated[bool, security_option("--general", help="General ciphering in place of service-specific.")] = (
        False
    )
    general_ciphering: Annotated[
        GeneralKey | None,
        security_option(help="general-ciphering: with the identified key, or one wrapped or agreed for each APDU."),
    ] = None
    master_key: Annotated[
        str | None,
        security_option(envvar="METER_MASTER_KEY", metavar="HEX|@FILE", help=f"Master key (KEK), {KEY_HELP}."),
    ] = field(default=None, repr=False)
    signed: Annotated[
        bool, security_option("--signed", help="general-signing: sign every APDU, and take none that is not signed.")
    ] = False
    dedicated: Annotated[bool, security_option("--dedicated", help="A dedicated key for each association.")] = False
    signing_key: Annotated[
        Path | None, security_option(metavar="PEM", help="Our private key for signatures.", dir_okay=False)
    ] = None
    meter_signing_key: Annotated[
        Path | None,
        security_option(metavar="PEM", help="The meter's public key or certificate for signatures.", dir_okay=False),
    ] = None
    agreement_key: Annotated[
        Path | None, security_option(metavar="PEM", help="Our private key for key agreement.", dir_okay=False)
    ] = None
    meter_agreement_key: Annotated[
        Path | None,
        security_option(metavar="PEM", help="The meter's public key or certificate for key agreement.", dir_okay=False),
    ] = None
    counter_file: Annotated[
        Path | None, security_option(metavar="FILE", help="Where the invocation counter is kept.", dir_okay=False)
    ] = None
    counter_object: Annotated[
        str | None,
        security_option(
            metavar="OBIS", help="Take the invocation counter from this object first, by the public client."
        ),
    ] = None

    @property
    def given(self) -> bool:
        """Whether anything of it was given that needs more than a password."""
        keys = self.key, self.auth_key, self.master_key, self.signing_key, self.meter_signing_key
        forms = self.security, self.general, self.general_ciphering, self.signed, self.dedicated
        return any((self.system_title, *keys, *forms))

    def credentials(self, auth: Auth, secret: bytes | None) -> Credentials:
        """Make credentials of them.

        Raises:
            ConfigurationError: something is missing or does not fit; the message shows no key.
        """
        suite = SecuritySuite(self.suite)
        title = hex_from(self.system_title, "--system-title", (SYSTEM_TITLE_SIZE,))
        keys = Keys(
            hex_from(self.key, "--key"),
            hex_from(self.auth_key, "--auth-key"),
            master=hex_from(self.master_key, "--master-key"),
            signing=private_key_in(self.signing_key),
            agreement=private_key_in(self.agreement_key),
            peer_signing=public_key_in(self.meter_signing_key),
            peer_agreement=public_key_in(self.meter_agreement_key),
        )
        policy = SecurityPolicy.NONE if keys.encryption is None else SecurityPolicy.BOTH
        if self.security is not None:
            policy = self.security.policy
        general_key = None if self.general_ciphering is None else self.general_ciphering.key
        if (policy or general_key is not None) and title is None:
            raise ConfigurationError("ciphering needs our own system title: --system-title")
        if self.signed and title is None:
            raise ConfigurationError("signing needs our own system title: --system-title")
        if self.general and general_key is not None:
            raise ConfigurationError("--general and --general-ciphering exclude each other")
        context = None
        if title is not None:
            context = SecurityContext(title, keys, suite, policy, self.general, general_key, self.signed)
        meter_title = hex_from(self.meter_title, "--meter-title", (SYSTEM_TITLE_SIZE,)) or b""
        return Credentials(auth.mechanism, secret, context, meter_title, self.dedicated)

    def counter(self, credentials: Credentials) -> InvocationCounter | None:
        """Open the invocation counter these credentials need: one for each system title, whatever the keys."""
        if not credentials.counted or credentials.security is None:
            return None
        path = self.counter_file or _state_folder() / f"{credentials.security.system_title.hex()}.counter"
        return FileCounter(path)

    @property
    def counter_name(self) -> LogicalName | None:
        """The object to take the counter from.

        Raises:
            ConfigurationError: no logical name.
        """
        try:
            return None if self.counter_object is None else LogicalName.parse(self.counter_object)
        except ValueError as error:
            raise ConfigurationError(f"--counter-object: {error}") from None


NO_SECURITY = SecurityArguments()
"""None of the options given."""


def _state_folder() -> Path:
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "meterbridge"


def with_security(command: Callable[..., _T]) -> Callable[..., _T]:
    """Give a command these options; it gets them together, as its argument `security`."""
    return with_options(SecurityArguments, "security")(command)
