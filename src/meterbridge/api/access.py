"""Who may do what: bearer tokens, and the one of this machine's own command line."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from meterbridge.errors import ConfigurationError
from meterbridge.store import Role, Token, TokenRepository, digest

LOCAL_TOKEN = "api.token"
"""File beside the keys, made anew at each start of the service: who can read it is an operator of this machine."""
_FRESH = 2.0


class Access:
    """Looks up tokens; one revoked is refused within two seconds.

    Args:
        tokens: where they are kept.
        monotonic: seconds.
    """

    def __init__(self, tokens: TokenRepository, monotonic: Callable[[], float]) -> None:
        self._tokens = tokens
        self._monotonic = monotonic
        self._known: dict[str, Token] = {}
        self._until = float("-inf")
        self._local: str | None = None

    def admit_this_machine(self, file: Path) -> None:
        """Make an operator's token and write it where only the service's user can read it.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        token = secrets.token_urlsafe(32)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
                out.write(token)
        except OSError as error:
            raise ConfigurationError(f"token file {file} cannot be written: {error.strerror}") from None
        self._local = digest(token)

    async def bearer(self, authorization: str) -> Token | None:
        """Return whose token an Authorization header holds, or None.

        Raises:
            StoreError: the tokens cannot be read.
        """
        scheme, _, shown = authorization.partition(" ")
        if scheme.lower() != "bearer" or not shown:
            return None
        # Comparing digests of 256 random bits: what the time tells is of no use.
        seen = digest(shown.strip())
        if seen == self._local:
            return Token("local", Role.OPERATOR, 0)
        if self._monotonic() >= self._until:
            self._known = await self._tokens.by_digest()
            self._until = self._monotonic() + _FRESH
        return self._known.get(seen)
