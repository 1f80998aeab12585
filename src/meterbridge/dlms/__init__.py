"""DLMS/COSEM without a socket or a clock: octets in, events out.

Usable alone: `HdlcLink` or `WrapperLink` below a `ClientAssociation`, driven by whatever moves octets.
"""

from meterbridge.dlms.acse import Mechanism
from meterbridge.dlms.association import ClientAssociation, Protection
from meterbridge.dlms.association_events import (
    AssociationClosed,
    AssociationEvent,
    AssociationOpened,
    Notified,
    RequestCompleted,
)
from meterbridge.dlms.association_parameters import AssociationParameters
from meterbridge.dlms.association_states import State
from meterbridge.dlms.authentication import Credentials
from meterbridge.dlms.axdr import BitString, CompactArray, Data, DataType, TypeDescription
from meterbridge.dlms.conformance import Conformance
from meterbridge.dlms.cosem import class_name, present, present_object
from meterbridge.dlms.cosem_time import Date, DateTime, Time
from meterbridge.dlms.counters import InvocationCounter, ReservedCounter
from meterbridge.dlms.fast_path import PreparedGet
from meterbridge.dlms.hdlc import Frame, FrameDecoder, client_address, server_address
from meterbridge.dlms.hdlc_link import HdlcLink
from meterbridge.dlms.hdlc_parameters import HdlcParameters
from meterbridge.dlms.hdlc_server_link import HdlcServerLink
from meterbridge.dlms.link import ApduReceived, Link, LinkClosed, LinkEvent, LinkOpened
from meterbridge.dlms.notification import DataNotification, EventNotification, InformationReport
from meterbridge.dlms.obis import LogicalName
from meterbridge.dlms.profile_rows import BufferDecoder
from meterbridge.dlms.push_decoder import Decoded, KeyRing, PushDecoder
from meterbridge.dlms.push_list import ListLayout, PushedValue, PushList, interpret
from meterbridge.dlms.reception import Arrived, Framing, Reception, Refused
from meterbridge.dlms.security import Keys, SecurityContext, SecurityPolicy, SecuritySuite
from meterbridge.dlms.stream import Discarded
from meterbridge.dlms.units import scaled, unit_symbol
from meterbridge.dlms.wrapper import WrapperLink
from meterbridge.dlms.xdlms import AttributeDescriptor, DataAccessResult, MethodDescriptor, SelectiveAccess

__all__ = [
    "ApduReceived",
    "Arrived",
    "AssociationClosed",
    "AssociationEvent",
    "AssociationOpened",
    "AssociationParameters",
    "AttributeDescriptor",
    "BitString",
    "BufferDecoder",
    "ClientAssociation",
    "CompactArray",
    "Conformance",
    "Credentials",
    "Data",
    "DataAccessResult",
    "DataNotification",
    "DataType",
    "Date",
    "DateTime",
    "Decoded",
    "Discarded",
    "EventNotification",
    "Frame",
    "FrameDecoder",
    "Framing",
    "HdlcLink",
    "HdlcParameters",
    "HdlcServerLink",
    "InformationReport",
    "InvocationCounter",
    "KeyRing",
    "Keys",
    "Link",
    "LinkClosed",
    "LinkEvent",
    "LinkOpened",
    "ListLayout",
    "LogicalName",
    "Mechanism",
    "MethodDescriptor",
    "Notified",
    "PreparedGet",
    "Protection",
    "PushDecoder",
    "PushList",
    "PushedValue",
    "Reception",
    "Refused",
    "RequestCompleted",
    "ReservedCounter",
    "SecurityContext",
    "SecurityPolicy",
    "SecuritySuite",
    "SelectiveAccess",
    "State",
    "Time",
    "TypeDescription",
    "WrapperLink",
    "class_name",
    "client_address",
    "interpret",
    "present",
    "present_object",
    "scaled",
    "server_address",
    "unit_symbol",
]
