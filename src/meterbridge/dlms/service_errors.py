"""Errors that a meter answers in place of what was asked for."""

from __future__ import annotations

from meterbridge.dlms import acse, xdlms
from meterbridge.dlms.acse import ConfirmedServiceError
from meterbridge.dlms.xdlms import ExceptionResponse
from meterbridge.errors import InvocationCounterError, ServiceError

SERVICE_ERRORS = (acse.CONFIRMED_SERVICE_ERROR, xdlms.EXCEPTION_RESPONSE)
"""First octets of such APDUs."""
_INVOCATION_COUNTER_ERROR = 6


def service_error(apdu: bytes) -> ServiceError:
    """Make the error that a confirmed-service-error or an exception-response is.

    Raises:
        RemoteProtocolError: malformed.
    """
    if apdu[0] != xdlms.EXCEPTION_RESPONSE:
        return ServiceError(
            f"confirmed-service-error, {ConfirmedServiceError.decode(apdu).reason}", "confirmed-service-error"
        )
    exception = ExceptionResponse.decode(apdu)
    message = f"exception-response: {exception.reason}"
    if exception.service == _INVOCATION_COUNTER_ERROR:
        return InvocationCounterError(message, exception.invocation_counter)
    return ServiceError(message, "exception-response")
