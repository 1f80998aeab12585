"""The account at ThingsBoard: one row, its secrets encrypted, and rotated with the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.errors import ConfigurationError
from meterbridge.store import Account, AccountRepository, KeySource, MeterRepository, Vault, check_account, rotate

ACCOUNT = Account("http://tb:8080", "a@b.c", "opensesame-1", None, "tb", 1883, "GW-TOKEN-1")


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(KeySource(tmp_path / "secrets.key", writable=True))


async def test_there_is_one_account_and_its_secrets_are_nowhere(
    engine: AsyncEngine, vault: Vault, tmp_path: Path
) -> None:
    accounts = AccountRepository(engine, vault)
    assert await accounts.load() is None
    await accounts.save(replace(ACCOUNT, server="http://other:8080"))
    await accounts.save(ACCOUNT)
    assert await accounts.load() == ACCOUNT
    async with engine.connect() as connection:
        rows = (await connection.exec_driver_sql("SELECT * FROM thingsboard")).all()
    assert len(rows) == 1
    for secret in ("opensesame-1", "GW-TOKEN-1"):
        assert secret not in repr(rows) + repr(ACCOUNT)
    assert await accounts.forget()
    assert not await accounts.forget()
    assert await accounts.load() is None


async def test_a_rotation_takes_the_account_with_it(engine: AsyncEngine, vault: Vault) -> None:
    accounts = AccountRepository(engine, vault)
    await accounts.save(ACCOUNT)
    assert await accounts.seal() == 0
    assert await rotate(vault, MeterRepository(engine, vault), accounts) == 2
    assert await AccountRepository(engine, vault).load() == ACCOUNT


@pytest.mark.parametrize(
    ("username", "password", "api_key"),
    [("a", "p", "k"), (None, None, None), ("a", None, None), (None, "p", None), ("a", None, "k")],
)
def test_either_a_user_or_a_key(username: str | None, password: str | None, api_key: str | None) -> None:
    with pytest.raises(ConfigurationError, match="either a user name with its password or an API key"):
        check_account(Account("http://tb", username, password, api_key, "tb", 1883))


@pytest.mark.parametrize("key", ["", "a b", "a\nb", "schlüssel"])
def test_a_key_that_no_header_can_hold(key: str) -> None:
    with pytest.raises(ConfigurationError, match="printable ASCII") as caught:
        check_account(Account("http://tb", None, None, key, "tb", 1883))
    assert not key or key not in str(caught.value)
