"""DLMSProductionPoller: one meter polled for ever, whatever it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from meterbridge.errors import LocalProtocolError, MeterError
from meterbridge.meter.client import DLMSClient
from meterbridge.meter.policy import Backoff
from meterbridge.model import MeterId, Reading

_FIRMWARE = "firmware_version"


@dataclass(frozen=True, slots=True)
class Polled:
    """The meter was read.

    Args:
        reading: what it gave; at least one value, or the errors of all.
        latency: from the request to the whole answer, seconds.
        connected: whether this poll opened the association first.
    """

    reading: Reading
    latency: float
    connected: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """The meter could not be read; the connection was closed.

    Args:
        error: why.
        retry_at: monotonic time before which it is left alone, seconds.
    """

    error: MeterError
    retry_at: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing was tried: the meter is left alone until `retry_at`, monotonic seconds."""

    retry_at: float


PollOutcome = Polled | Failed | Waiting


class DLMSProductionPoller:
    """Polls one meter; connects when needed, backs off after a failure, never gives up.

    Args:
        meter: whose readings these are.
        client: reads it.
        backoff: how long to leave it alone after failures.
        monotonic: monotonic clock, seconds.
        wall: Unix time, seconds.

    `firmware_version` is what the meter says of itself, empty when it says nothing, None before it was asked.
    """

    def __init__(
        self,
        meter: MeterId,
        client: DLMSClient,
        backoff: Backoff,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.meter = meter
        self.client = client
        self._backoff = backoff
        self._monotonic = monotonic
        self._wall = wall
        self._retry_at = 0.0
        self.firmware_version: str | None = None

    async def poll_once(self) -> PollOutcome:
        """Make one attempt, unless the meter is being left alone.

        Raises:
            LocalProtocolError: a bug of ours; nothing the meter or the network does raises here.
        """
        now = self._monotonic()
        if now < self._retry_at:
            return Waiting(self._retry_at)
        connects = not self.client.connected
        try:
            if connects:
                await self._connect()
            started = self._monotonic()
            readout = await self.client.read_measurements()
        except LocalProtocolError:
            raise
        except MeterError as error:
            await self.client.disconnect()
            self._retry_at = self._monotonic() + self._backoff.failed()
            return Failed(error, self._retry_at)
        self._backoff.succeeded()
        errors = {name: str(error) for name, error in readout.errors.items()}
        reading = Reading(self.meter, round(self._wall() * 1000), readout.values, errors)
        return Polled(reading, self._monotonic() - started, connects)

    async def _connect(self) -> None:
        await self.client.disconnect()
        await self.client.connect()
        if self.firmware_version is None and _FIRMWARE in self.client.model.measurements:
            readout = await self.client.read_measurements([_FIRMWARE])
            # Not every meter tells; those that do tell once.
            self.firmware_version = str(readout.values[_FIRMWARE].value) if _FIRMWARE in readout.values else ""

    async def close(self) -> None:
        """Release the association and close."""
        await self.client.disconnect()
