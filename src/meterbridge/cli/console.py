"""The console all commands print tables to: in colour on a terminal, in full where nobody sees it."""

from __future__ import annotations

import os

from rich.console import Console

_WIDE = 200


def console() -> Console:
    """Make one for standard output.

    Rich leaves colours out where it is no terminal or NO_COLOR is set; there, tables get the width they need unless
    COLUMNS says otherwise: whoever filters them wants whole cells.
    """
    made = Console(highlight=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made = Console(highlight=False, width=_WIDE)
    return made


def printable(text: str) -> str:
    """Return text without control characters: what a meter or server said must not steer a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
