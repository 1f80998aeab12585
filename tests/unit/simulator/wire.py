"""A client and a simulated meter with nothing between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from meterbridge.dlms import (
    AssociationOpened,
    AssociationParameters,
    AttributeDescriptor,
    ClientAssociation,
    Conformance,
    Data,
    HdlcLink,
    HdlcParameters,
    LogicalName,
    RequestCompleted,
    SelectiveAccess,
    WrapperLink,
    client_address,
    server_address,
)
from meterbridge.dlms.xdlms import MethodDescriptor
from meterbridge.simulator import Faithful, Identity, Load, LoadOptions, SimulatedMeter
from meterbridge.simulator.association import ServerAssociation
from meterbridge.simulator.links import HdlcSide, ServerSide, WrapperSide

NOW = 1_764_158_400.0
ENERGY = AttributeDescriptor(3, LogicalName.parse("1-0:1.8.0"), 2)
VOLTAGE = AttributeDescriptor(3, LogicalName.parse("1-1:32.7.0"), 2)
MISSING = AttributeDescriptor(3, LogicalName.parse("1-0:99.99.0"), 2)
BUFFER = AttributeDescriptor(7, LogicalName.parse("1-0:99.1.0"), 2)
FRAMINGS = ("hdlc", "wrapper")


def simulated(max_pdu: int = 1024) -> SimulatedMeter:
    return SimulatedMeter(Load(LoadOptions(seed=9)), Identity(max_pdu=max_pdu, profile_entries=96))


class Wire:
    """A client and a meter with nothing between them."""

    def __init__(
        self,
        framing: str = "hdlc",
        *,
        meter: SimulatedMeter | None = None,
        client: int = 1,
        address: bytes | None = None,
        password: bytes | None = b"00000000",
        conformance: Conformance | None = None,
        window: int = 1,
        claim: Callable[[], bool] = lambda: True,
        faults: Faithful | None = None,
        chunk: int = 4096,
        short_names: bool = False,
        max_receive_pdu: int = 0xFFFF,
        max_information: int = 128,
    ) -> None:
        self.meter = meter or simulated()
        self.associations: list[ServerAssociation] = []
        behaviour = faults or Faithful()

        def associate(sap: int) -> ServerAssociation:
            self.associations.append(ServerAssociation(self.meter, sap, behaviour, claim))
            return self.associations[-1]

        parameters = HdlcParameters(max_information, max_information, window, window)
        wanted = AssociationParameters(
            password=password, conformance=conformance, short_names=short_names, max_receive_pdu=max_receive_pdu
        )
        self.side: ServerSide
        if framing == "hdlc":
            self.side = HdlcSide(self.meter.identity, parameters, associate)
            link = HdlcLink(client_address(client), address or server_address(1), parameters)
            self.client = ClientAssociation(link, wanted)
        else:
            self.side = WrapperSide(self.meter.identity, associate)
            self.client = ClientAssociation(WrapperLink(client, 1), wanted)
        self.chunk = chunk
        self.answers: list[bytes] = []

    def run(self) -> object:
        """Move octets until the client has an event; None when both are silent."""
        while True:
            if (event := self.client.next_event()) is not None:
                return event
            sent = self.client.data_to_send()
            if not sent:
                return None
            for start in range(0, len(sent), self.chunk):
                answer = self.side.receive(sent[start : start + self.chunk], NOW)
                self.answers.append(answer)
                self.client.receive_data(answer)

    def open(self) -> AssociationOpened:
        self.client.open()
        event = self.run()
        assert isinstance(event, AssociationOpened)
        return event

    def get(self, *attributes: AttributeDescriptor) -> tuple[object, ...]:
        self.client.get(attributes)
        return self.results()

    def set(self, *writes: tuple[AttributeDescriptor, Data]) -> tuple[Any, ...]:
        self.client.set(writes)
        return self.results()

    def call(self, *calls: tuple[MethodDescriptor, Data | None]) -> tuple[Any, ...]:
        self.client.action(calls)
        return self.results()

    def read(self, *names: tuple[int, SelectiveAccess | None]) -> tuple[Any, ...]:
        self.client.read(names)
        return self.results()

    def write(self, *writes: tuple[int, SelectiveAccess | None, Data], confirmed: bool = True) -> tuple[Any, ...]:
        self.client.write(writes, confirmed=confirmed)
        return self.results()

    def results(self) -> tuple[Any, ...]:
        event = self.run()
        assert isinstance(event, RequestCompleted), event
        return event.results
