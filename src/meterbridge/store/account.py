"""The `thingsboard` table: how its REST API is reached, and what was provisioned for all meters together."""

from __future__ import annotations

from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.errors import ConfigurationError
from meterbridge.store.engine import store_errors
from meterbridge.store.schema import thingsboard
from meterbridge.store.secrets import Vault

SECRETS = ("password", "api_key", "gateway_token")
"""Columns of `thingsboard` that are encrypted."""
_COLUMNS = ("server", "username", *SECRETS, "mqtt_host", "mqtt_port")
_ONLY = 1


@dataclass(frozen=True, slots=True)
class Account:
    """An account at a ThingsBoard server.

    Args:
        server: base URL of the REST API, without a slash at its end.
        username: None with an API key.
        password: None with an API key. Never shown by repr.
        api_key: instead of user name and password. Never shown by repr.
        mqtt_host: where readings go on the routes device and gateway.
        mqtt_port: its TCP port.
        gateway_token: access token of the gateway device, None before it is provisioned. Never shown by repr.
    """

    server: str
    username: str | None
    password: str | None = field(repr=False)
    api_key: str | None = field(repr=False)
    mqtt_host: str
    mqtt_port: int
    gateway_token: str | None = field(default=None, repr=False)


class AccountRepository:
    """The one row of `thingsboard`.

    Every method raises StoreError when the database cannot be used, ConfigurationError when a secret cannot be
    encrypted or decrypted.

    Args:
        engine: as `open_database` gives it; stays the caller's.
        vault: encrypts the secrets.
    """

    def __init__(self, engine: AsyncEngine, vault: Vault) -> None:
        self._engine = engine
        self._vault = vault

    async def load(self) -> Account | None:
        """Return the account, None where nobody logged in."""
        row = await self._row()
        if row is None:
            return None
        values = {name: row[name] for name in _COLUMNS}
        for name in SECRETS:
            if values[name]:
                values[name] = self._vault.decrypt(values[name], name)
        return Account(**values)

    async def save(self, account: Account) -> None:
        """Store the account in the place of any other."""
        row = {name: getattr(account, name) for name in _COLUMNS}
        for name in SECRETS:
            if row[name]:
                row[name] = self._vault.encrypt(row[name], name)
        with store_errors(self._engine.url):
            async with self._engine.begin() as connection:
                await connection.execute(sa.delete(thingsboard))
                await connection.execute(sa.insert(thingsboard).values(id=_ONLY, **row))

    async def forget(self) -> bool:
        """Delete the account; whether there was one."""
        with store_errors(self._engine.url):
            async with self._engine.begin() as connection:
                return bool((await connection.execute(sa.delete(thingsboard))).rowcount)

    async def seal(self) -> int:
        """Encrypt with the newest key what is under an older one; return how many secrets that were."""
        row = await self._row()
        if row is None:
            return 0
        stale = {name: row[name] for name in SECRETS if row[name] and not self._vault.is_current(row[name])}
        if not stale:
            return 0
        sealed = {name: self._vault.encrypt(self._vault.decrypt(text, name), name) for name, text in stale.items()}
        # Only where nobody changed them meanwhile.
        unchanged = sa.and_(*(thingsboard.c[name] == text for name, text in stale.items()))
        with store_errors(self._engine.url):
            async with self._engine.begin() as connection:
                done = await connection.execute(sa.update(thingsboard).where(unchanged).values(sealed))
        return len(sealed) if done.rowcount else 0

    async def _row(self) -> sa.RowMapping | None:
        with store_errors(self._engine.url):
            async with self._engine.connect() as connection:
                return (await connection.execute(sa.select(thingsboard))).mappings().first()


def check_account(account: Account) -> None:
    """Check what a person gave.

    Raises:
        ConfigurationError: neither user name and password nor an API key, or both; the sentence holds no secret.
    """
    named = account.username is not None and account.password is not None
    if named == (account.api_key is not None) or (account.username is None) != (account.password is None):
        raise ConfigurationError("give either a user name with its password or an API key")
    key = account.api_key
    if key is not None and not (key and key.isascii() and key.isprintable() and " " not in key):
        raise ConfigurationError("an API key is printable ASCII without spaces")
