"""The REST API on the service's own loop."""

from meterbridge.api.access import LOCAL_TOKEN, Access
from meterbridge.api.application import make_application
from meterbridge.api.server import ApiServer, check_exposure

__all__ = ["LOCAL_TOKEN", "Access", "ApiServer", "check_exposure", "make_application"]
