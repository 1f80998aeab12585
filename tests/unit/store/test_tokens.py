"""API tokens: shown once, only a digest kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.errors import ConfigurationError
from meterbridge.store import Role, Token, TokenRepository, digest


async def test_a_token_is_found_by_what_is_shown_and_kept_nowhere(
    engine: AsyncEngine, octets: Callable[[], bytes]
) -> None:
    tokens = TokenRepository(engine)
    viewer = await tokens.create("wall display", Role.VIEWER, 7)
    operator = await tokens.create("ann", Role.OPERATOR, 8)
    assert viewer != operator
    known = await tokens.by_digest()
    assert known[digest(operator)] == Token("ann", Role.OPERATOR, 8)
    assert await tokens.tokens() == [Token("ann", Role.OPERATOR, 8), Token("wall display", Role.VIEWER, 7)]
    await engine.dispose()
    everything = octets()
    assert viewer.encode() not in everything
    assert operator.encode() not in everything


async def test_names_are_unique_and_a_revoked_token_is_gone(engine: AsyncEngine) -> None:
    tokens = TokenRepository(engine)
    await tokens.create("ann", Role.VIEWER, 1)
    with pytest.raises(ConfigurationError, match="'ann' already exists"):
        await tokens.create("ann", Role.OPERATOR, 2)
    await tokens.revoke("ann")
    assert await tokens.by_digest() == {}
    with pytest.raises(ConfigurationError, match="no token named 'ann'"):
        await tokens.revoke("ann")


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 101])
async def test_a_name_that_cannot_be(engine: AsyncEngine, name: str) -> None:
    with pytest.raises(ConfigurationError):
        await TokenRepository(engine).create(name, Role.VIEWER, 1)
