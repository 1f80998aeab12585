"""How one meter is reached, and how long is waited for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from meterbridge.dlms import (
    Credentials,
    HdlcLink,
    HdlcParameters,
    Link,
    WrapperLink,
    client_address,
    server_address,
)
from meterbridge.errors import ConfigurationError, LocalProtocolError
from meterbridge.model import host_port


@dataclass(frozen=True, slots=True)
class MeterAddress:
    """How to reach one meter and who to be there.

    Args:
        host: name or address.
        port: TCP port.
        framing: `hdlc`, `wrapper`, or `wrapper-udp` for the wrapper over UDP.
        client: client SAP.
        server: logical device address.
        physical: HDLC lower address; None for a one-octet server address.
        password: LLS secret; None without authentication. Never shown by repr.
        hdlc: link parameters to propose.
        credentials: HLS and ciphering, in place of the password.
        referencing: `ln` for logical names, `sn` for short names.
    """

    host: str
    port: int = 3333
    framing: str = "hdlc"
    client: int = 1
    server: int = 1
    physical: int | None = None
    password: bytes | None = field(default=None, repr=False)
    hdlc: HdlcParameters = field(default_factory=HdlcParameters)
    credentials: Credentials | None = None
    referencing: str = "ln"

    def link(self) -> Link:
        """Make a fresh link.

        Raises:
            ConfigurationError: an address that does not exist, or an unknown framing.
        """
        try:
            if self.framing == "hdlc":
                return HdlcLink(client_address(self.client), server_address(self.server, self.physical), self.hdlc)
            if self.framing in ("wrapper", "wrapper-udp"):
                return WrapperLink(self.client, self.server)
        except LocalProtocolError as error:
            raise ConfigurationError(str(error)) from None
        raise ConfigurationError(f"framing {self.framing!r} is none of hdlc, wrapper and wrapper-udp")

    @property
    def short_names(self) -> bool:
        """Whether objects are named by short names.

        Raises:
            ConfigurationError: an unknown referencing.
        """
        if self.referencing not in ("ln", "sn"):
            raise ConfigurationError(f"referencing {self.referencing!r} is neither ln nor sn")
        return self.referencing == "sn"

    def __str__(self) -> str:
        server = f"{self.server}" if self.physical is None else f"{self.server}/{self.physical}"
        return f"{host_port(self.host, self.port)}, client {self.client}, server {server}"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a client waits, in seconds.

    Args:
        connect: for the TCP connection.
        response: for an answer, and for each part of one that comes in parts.
        exchange: for a request and its whole answer, however many parts it has: a meter that always sends one more
            part would hold its worker for ever.
        retransmissions: how often an HDLC request is said again after `response` without an answer.
        keep_alive: idle time after which RR keeps an HDLC link from its inactivity time-out; 0 leaves it alone.
    """

    connect: float = 5.0
    response: float = 5.0
    retransmissions: int = 1
    keep_alive: float = 0.0
    exchange: float = 3600.0
