"""Secrets that were typed as options, taken out of what `ps` shows of this process (Linux; elsewhere they stay)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

SECRET_OPTIONS = frozenset(
    ("--key", "--auth-key", "--master-key", "--password", "--hls-secret", "--tb-token", "--token")
)
"""Options whose value is a secret, except where it is @FILE."""
_ARG_START, _ARG_END = 47, 48
"""Places in /proc/self/stat, counted from its first field, of where the arguments lie in memory."""


def hide_secrets(arguments: Sequence[str]) -> None:
    """Overwrite the secrets among these arguments where other users read them; does nothing where that is not possible.

    Whoever looks in the moment before the process gets here still sees them: files and the environment are better.
    """
    secrets = [value.encode() for value in _secrets(arguments)]
    if not secrets:
        return
    with contextlib.suppress(OSError, ValueError, IndexError):
        # The second field is a name in brackets that may hold anything.
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        start, end = int(fields[_ARG_START - 2]), int(fields[_ARG_END - 2])
        with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
            memory.seek(start)
            shown = memory.read(end - start)
            for secret in secrets:
                shown = shown.replace(secret, b"x" * len(secret))
            memory.seek(start)
            memory.write(shown)


def _secrets(arguments: Sequence[str]) -> Iterator[str]:
    for index, argument in enumerate(arguments):
        option, given, value = argument.partition("=")
        if option not in SECRET_OPTIONS:
            continue
        if not given:
            value = arguments[index + 1] if index + 1 < len(arguments) else ""
        if value and not value.startswith("@"):
            yield value
