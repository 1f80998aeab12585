"""The console all commands print tables to: in colour on a terminal, in full where nobody sees it."""

from __future__ import annotations

import sys

from rich.console import Console

_WIDE, _TALL = 200, 25


def console() -> Console:
    """Make one for standard output.

    Rich leaves colours out where it is no terminal or NO_COLOR is set; there, tables get the width they need: whoever
    filters them wants whole cells. COLUMNS counts on a terminal only: what uses readline hands it down unasked.
    """
    if sys.stdout.isatty():
        return Console(highlight=False)
    # With one of the two alone, Rich takes 80 columns where colours are forced and TERM is dumb.
    return Console(highlight=False, width=_WIDE, height=_TALL)


def printable(text: str) -> str:
    """Return text without control characters: what a meter or server said must not steer a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
