"""Which words of a command line are secrets."""

from __future__ import annotations

import pytest

from meterbridge.cli.process_list import _secrets


@pytest.mark.parametrize(
    ("arguments", "secrets"),
    [
        (["read", "host", "--key", "AB", "--auth-key=CD", "--suite", "1"], ["AB", "CD"]),
        (["read", "host", "--key", "@/etc/ek", "--key=@file", "--keys", "FILE"], []),
        (["read", "host", "--master-key", "EF"], ["EF"]),
        (["read", "host", "--key"], []),
        (["add", "--password", "", "--tb-token", "t"], ["t"]),
        ([], []),
    ],
)
def test_secrets_among_arguments(arguments: list[str], secrets: list[str]) -> None:
    assert list(_secrets(arguments)) == secrets
