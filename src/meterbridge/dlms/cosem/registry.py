"""Which interface classes are described, by class and version."""

from __future__ import annotations

from collections.abc import Iterable

from meterbridge.dlms.cosem.interface_class import InterfaceClass

_BY_ID: dict[int, list[InterfaceClass]] = {}


def register(entries: Iterable[InterfaceClass]) -> None:
    """Add descriptions; the first of a class is what a reader gets who does not know the version."""
    for entry in entries:
        _BY_ID.setdefault(entry.class_id, []).append(entry)


def described() -> list[InterfaceClass]:
    """Return all there are."""
    return [entry for entries in _BY_ID.values() for entry in entries]


def cosem_class(class_id: int, version: int | None = None) -> InterfaceClass | None:
    """Return what is known of a class, None for one that is not described here.

    Args:
        class_id: its number.
        version: its version; the nearest described one below it is taken. None where it is not known: the version
            most meters have.
    """
    entries = _BY_ID.get(class_id)
    if entries is None:
        return None
    if version is None:
        return entries[0]
    fitting = [entry for entry in entries if entry.version <= version]
    return max(fitting or entries, key=lambda entry: entry.version if fitting else -entry.version)
