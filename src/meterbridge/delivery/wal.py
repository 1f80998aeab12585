"""Finds out whether a write-ahead log was damaged: SQLite drops what follows a damaged frame without a word.

Format: https://www.sqlite.org/fileformat2.html#walformat. Frames are counted by their salts, which the header and all
frames of one generation share; what SQLite itself took of them says where it found the first that is damaged.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_HEADER, _FRAME = 32, 24
_MAGIC = (0x377F0682, 0x377F0683)


@dataclass(frozen=True, slots=True)
class Examined:
    """A log as it was before SQLite saw it.

    Args:
        copy: of it.
        readable: whether its header is one.
        commits: number of each frame that ends a transaction, counted from 1.
    """

    copy: Path
    readable: bool
    commits: tuple[int, ...]

    def is_damaged(self, db: sqlite3.Connection) -> bool:
        """Whether transactions are missing from a database opened since.

        The last one may be: a power cut leaves it torn, and it was never complete. Two are damage.
        """
        if not self.readable:
            return True
        taken: int
        (_, taken, _) = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return sum(number > taken for number in self.commits) >= 2

    def keep(self, target: Path) -> None:
        """Give the copy a name that lasts."""
        self.copy.rename(target)

    def discard(self) -> None:
        """Delete the copy."""
        self.copy.unlink(missing_ok=True)


def examine(database: Path) -> Examined | None:
    """Look at the log of a database before it is opened; None where there is none, or no room to copy it."""
    log = Path(f"{database}-wal")
    copy = Path(f"{log}.examined")
    try:
        if log.stat().st_size < _HEADER + _FRAME:
            return None
        shutil.copyfile(log, copy)
    except OSError:
        copy.unlink(missing_ok=True)
        return None
    with copy.open("rb") as file:
        header = file.read(_HEADER)
        magic, _, page, _, *_ = struct.unpack(">8I", header)
        if magic not in _MAGIC or _checksum(header[:24], magic & 1 == 1) != struct.unpack(">2I", header[24:]):
            return Examined(copy, readable=False, commits=())
        return Examined(copy, readable=True, commits=tuple(_commits(file.fileno(), page, header[16:24])))


def _commits(file: int, page: int, salts: bytes) -> Iterator[int]:
    number, position, size = 0, _HEADER, os.fstat(file).st_size
    while position + _FRAME + page <= size:
        frame = os.pread(file, _FRAME, position)
        number += 1
        position += _FRAME + page
        # Frames of the generation before have other salts: they are done with.
        if frame[8:16] == salts and frame[4:8] != b"\0\0\0\0":
            yield number


def _checksum(octets: bytes, big: bool) -> tuple[int, int]:
    first = second = 0
    words = struct.unpack(f"{'>' if big else '<'}{len(octets) // 4}I", octets)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
