"""All interface classes a reader meets, put together (Blue Book, COSEM interface classes)."""

from __future__ import annotations

from meterbridge.dlms.cosem.access_classes import ACCESS
from meterbridge.dlms.cosem.communication_classes import COMMUNICATION
from meterbridge.dlms.cosem.control_classes import CONTROLLING
from meterbridge.dlms.cosem.measured_classes import MEASURED
from meterbridge.dlms.cosem.references import capture_object
from meterbridge.dlms.cosem.registry import cosem_class, described, register
from meterbridge.dlms.cosem.time_classes import TIMED

__all__ = ["capture_object", "cosem_class", "described"]

register((*MEASURED, *TIMED, *ACCESS, *CONTROLLING, *COMMUNICATION))
