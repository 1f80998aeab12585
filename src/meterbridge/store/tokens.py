"""Bearer tokens of the API: shown once when made, only their digest is kept."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.errors import ConfigurationError
from meterbridge.store.engine import store_errors
from meterbridge.store.schema import api_tokens

_PREFIX = "mb_"


class Role(StrEnum):
    """What the bearer of a token may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Token:
    """A token, without what makes it one.

    Args:
        name: unique, for people.
        role: what its bearer may do.
        created_at: Unix milliseconds.
    """

    name: str
    role: Role
    created_at: int


class TokenRepository:
    """The `api_tokens` table.

    Every method raises StoreError when the database cannot be used.

    Args:
        engine: as `open_database` gives it; stays the caller's.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def create(self, name: str, role: Role, at: int) -> str:
        """Make a token and return it: 256 random bits, to be had only now.

        Args:
            name: 1 to 100 printable characters.
            role: what its bearer may do.
            at: now, Unix milliseconds.

        Raises:
            ConfigurationError: the name is taken or not allowed.
        """
        if not 1 <= len(name) <= 100 or not name.isprintable() or not name.strip():
            raise ConfigurationError("a token's name must be printable text of 1 to 100 characters")
        token = _PREFIX + secrets.token_urlsafe(32)
        row = {"name": name, "role": str(role), "digest": digest(token), "created_at": at}
        with store_errors(self._engine.url):
            try:
                async with self._engine.begin() as connection:
                    await connection.execute(sa.insert(api_tokens).values(row))
            except IntegrityError:
                raise ConfigurationError(f"a token named {name!r} already exists") from None
        return token

    async def revoke(self, name: str) -> None:
        """Delete a token.

        Raises:
            ConfigurationError: none has this name.
        """
        with store_errors(self._engine.url):
            async with self._engine.begin() as connection:
                result = await connection.execute(sa.delete(api_tokens).where(api_tokens.c.name == name))
        if result.rowcount == 0:
            raise ConfigurationError(f"there is no token named {name!r}")

    async def tokens(self) -> list[Token]:
        """Return all tokens by name."""
        return [token for token, _ in await self._all()]

    async def by_digest(self) -> dict[str, Token]:
        """Return all tokens by their digest, to look up what a client shows: see `digest`."""
        return {found: token for token, found in await self._all()}

    async def _all(self) -> list[tuple[Token, str]]:
        with store_errors(self._engine.url):
            async with self._engine.connect() as connection:
                rows = (await connection.execute(sa.select(api_tokens).order_by(api_tokens.c.name))).all()
        return [(Token(row.name, Role(row.role), row.created_at), row.digest) for row in rows]


def digest(token: str) -> str:
    """What is kept of a token. A plain SHA-256: 256 random bits cannot be guessed, however fast the hash."""
    return hashlib.sha256(token.encode()).hexdigest()
