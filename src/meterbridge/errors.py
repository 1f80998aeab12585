"""The whole hierarchy of errors.

The type says who is to blame, and `retryable` says whether the poller may try the same thing again. Every
message is one clear sentence for a person; none carries a secret.
"""

from __future__ import annotations

from typing import ClassVar


class MeterbridgeError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigurationError(MeterbridgeError):
    """A setting, a file, an option or a catalogue entry is wrong; the message names it."""


class MeterNotFound(ConfigurationError):
    """No meter has the id or name that was given."""


class MeterExists(ConfigurationError):
    """Another meter already has the name that was given."""


class CommandRefused(MeterbridgeError):
    """What was asked of a meter is not done; the message says why, to whoever asked."""


class StoreError(MeterbridgeError):
    """The database cannot be used: infrastructure, so the process stops with this message."""


class DeliveryError(MeterbridgeError):
    """The outbox or the MQTT side cannot be used."""


class ThingsBoardError(MeterbridgeError):
    """ThingsBoard's REST API cannot be used, or does not do what is asked; the message says which and why."""


class ThingsBoardUnreachable(ThingsBoardError):
    """No answer came: the server is down, elsewhere, or its certificate is not trusted."""


class ThingsBoardRefused(ThingsBoardError):
    """The server said no, or what it has contradicts what is wanted.

    Args:
        message: one sentence.
        status: of HTTP, None where the answer was no error in itself.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class MeterError(MeterbridgeError):
    """Something went wrong between us and one meter; never reaches another meter."""

    retryable: ClassVar[bool] = True


class LocalProtocolError(MeterError):
    """We broke the protocol: a bug of ours, never retried."""

    retryable: ClassVar[bool] = False


class RemoteProtocolError(MeterError):
    """The meter broke the protocol: drop the link, then retry."""


class ReplayedCounterError(RemoteProtocolError):
    """An APDU came whose invocation counter was used before.

    Args:
        message: one sentence.
        least: the least counter that would have been taken.
    """

    def __init__(self, message: str, least: int) -> None:
        super().__init__(message)
        self.least = least


class AssociationRefused(MeterError):
    """The meter answered the association request with a refusal.

    Args:
        message: one sentence.
        result: association-result of the AARE (1 permanent, 2 transient), or None when it came another way.
        diagnostic: acse-service-user diagnostic, or None.
    """

    def __init__(self, message: str, result: int | None = None, diagnostic: int | None = None) -> None:
        super().__init__(message)
        self.result = result
        self.diagnostic = diagnostic


class AuthenticationFailed(AssociationRefused):
    """The meter does not take our password or keys, or does not prove itself: asking again may make it lock us out."""


class ServiceError(MeterError):
    """The meter answered a request with exception-response or confirmed-service-error: the link stays usable.

    Args:
        message: one sentence that names service and reason.
        kind: `exception-response` or `confirmed-service-error`.
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class InvocationCounterError(ServiceError):
    """The meter wants a greater invocation counter than ours.

    Args:
        message: one sentence.
        expected: the least it takes, where it says so. Nothing vouches for it.
    """

    def __init__(self, message: str, expected: int | None) -> None:
        super().__init__(message, "exception-response")
        self.expected = expected


class CounterUnavailable(MeterError):
    """No invocation counter may be used: none is on disk yet, or there is none left for these keys."""


class DataAccessError(MeterError):
    """The meter said no to one attribute; the others are not concerned.

    Args:
        message: one sentence.
        result: Data-Access-Result, 0..255 (Green Book, xDLMS APDU definitions).
    """

    retryable: ClassVar[bool] = False

    def __init__(self, message: str, result: int) -> None:
        super().__init__(message)
        self.result = result


class Interrupted(MeterError):
    """We stopped asking before the answer was whole, for want of time; the association stays usable."""


class TransportError(MeterError):
    """The network or the socket failed."""


class ConnectFailed(TransportError):
    """No TCP connection could be made: refused, unreachable, name unknown."""


class ConnectionLost(TransportError):
    """The peer closed or reset an open connection."""


class ResponseTimeout(TransportError):
    """Nothing usable arrived within the response time-out."""
