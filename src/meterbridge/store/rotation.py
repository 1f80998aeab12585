"""A new key for everything that is encrypted, while the service runs."""

from __future__ import annotations

from meterbridge.errors import StoreError
from meterbridge.store.repository import MeterRepository
from meterbridge.store.secrets import Vault

_MOST_PASSES = 10


async def rotate(vault: Vault, repository: MeterRepository) -> int:
    """Make a new key, encrypt every secret with it, forget the old ones. Ended half-way it can be done again.

    Args:
        vault: whose keys.
        repository: made with this vault.

    Returns:
        How many secrets were encrypted anew.

    Raises:
        ConfigurationError: keys cannot be read or written, or a secret's key is missing; the old keys are kept.
        StoreError: the database cannot be used; the old keys are kept.
    """
    vault.begin_rotation()
    total = 0
    # Again until nothing is left: a running service may have written meanwhile with the key it knew.
    for _ in range(_MOST_PASSES):
        sealed = await repository.seal()
        total += sealed
        if not sealed:
            vault.end_rotation()
            return total
    raise StoreError("meters are being changed all the time: the old keys are kept, rotate again")
