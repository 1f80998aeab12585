"""What a meter says to a request that it cannot even refuse properly."""

from __future__ import annotations

from typing import Final

from meterbridge.dlms.xdlms import ExceptionResponse

NOT_ALLOWED: Final = ExceptionResponse(1, 1).encode()
NOT_SUPPORTED: Final = ExceptionResponse(1, 2).encode()
MALFORMED: Final = ExceptionResponse(1, 3).encode()
TOO_LONG: Final = ExceptionResponse(1, 4).encode()
UNKNOWN: Final = ExceptionResponse(2, 2).encode()
