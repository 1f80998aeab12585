"""Any APDU as named fields, for people who look at octets (Green Book, xDLMS and ACSE APDUs).

Nothing here takes part in an association: it reads what it is shown, and secrets in it stay unsaid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from meterbridge.dlms import acse, xdlms
from meterbridge.dlms.axdr import Data, decode_at, decode_length
from meterbridge.dlms.block_transfer import GENERAL_BLOCK_TRANSFER, Block
from meterbridge.dlms.conformance import Conformance
from meterbridge.dlms.field_reader import FieldReader
from meterbridge.dlms.notification import (
    DATA_NOTIFICATION,
    EVENT_NOTIFICATION,
    INFORMATION_REPORT,
    DataNotification,
    EventNotification,
    InformationReport,
)
from meterbridge.dlms.obis import LogicalName
from meterbridge.dlms.xdlms import AttributeDescriptor, MethodDescriptor
from meterbridge.errors import DataAccessError, RemoteProtocolError

Fields = Mapping[str, object]
"""Values are numbers, text, octets, Data, DateTime, DataAccessError, or lists and mappings of such."""

_SERVICES = {
    0x01: "initiate-request", 0x05: "read-request", 0x06: "write-request", 0x08: "initiate-response",
    0x0C: "read-response", 0x0D: "write-response", 0x0E: "confirmed-service-error", 0x0F: "data-notification",
    0x16: "unconfirmed-write-request", 0x18: "information-report",
    0x60: "aarq", 0x61: "aare", 0x62: "rlrq", 0x63: "rlre",
    0xC0: "get-request", 0xC1: "set-request", 0xC2: "event-notification", 0xC3: "action-request",
    0xC4: "get-response", 0xC5: "set-response", 0xC7: "action-response", 0xD8: "exception-response",
    0xD9: "access-request", 0xDA: "access-response", 0xDB: "general-glo-ciphering", 0xDC: "general-ded-ciphering",
    0xDD: "general-ciphering", 0xDF: "general-signing", 0xE0: "general-block-transfer",
}  # fmt: skip
_NAMES = {
    **{tag + 0x20: f"glo-{name}" for tag, name in _SERVICES.items() if tag < 0x20 and tag != 0x0F},
    **{tag + 0x40: f"ded-{name}" for tag, name in _SERVICES.items() if tag < 0x20 and tag != 0x0F},
    **{tag + 0x08: f"glo-{name}" for tag, name in _SERVICES.items() if 0xC0 <= tag <= 0xC7},
    **{tag + 0x10: f"ded-{name}" for tag, name in _SERVICES.items() if 0xC0 <= tag <= 0xC7},
    **_SERVICES,
}


def apdu_name(tag: int) -> str:
    """Return what an APDU with this first octet is called: `data-notification`, `apdu 0x7F` for one that is none."""
    return _NAMES.get(tag, f"apdu 0x{tag:02X}")


def describe(apdu: bytes) -> Fields:
    """Take an APDU apart.

    Raises:
        RemoteProtocolError: malformed, or of a kind that is not taken apart here.
    """
    describer = _DESCRIBERS.get(apdu[0]) if apdu else None
    if describer is None:
        raise RemoteProtocolError(f"{apdu_name(apdu[0])} is not taken apart" if apdu else "an APDU of no octets")
    return describer(apdu)


class _Cursor(FieldReader):
    """Reads what xDLMS APDUs are made of beside octets and numbers."""

    def count(self) -> int:
        count, self.position = decode_length(self.octets, self.position)
        if count > len(self.octets) - self.position:
            raise RemoteProtocolError(f"{count} elements announced, {len(self.octets) - self.position} octets left")
        return count

    def data(self) -> Data:
        data, self.position = decode_at(self.octets, self.position)
        return data

    def data_list(self) -> list[Data]:
        return [self.data() for _ in range(self.count())]

    def attribute(self) -> str:
        descriptor, self.position = AttributeDescriptor.decode_at(self.octets, self.position)
        return _spelt(descriptor)

    def method(self) -> str:
        return str(MethodDescriptor(self.uint(2), LogicalName(self.take(6)), self.uint()))

    def result(self) -> object:
        result, self.position = xdlms.decode_result_at(self.octets, self.position, decode_at)
        return result

    def access_result(self) -> DataAccessError | str:
        code = self.uint()
        return xdlms.data_access_error(code) if code else "success"

    def action_result(self) -> DataAccessError | str:
        code = self.uint()
        return xdlms.action_error(code) if code else "success"

    def invoke_id(self) -> int:
        return self.uint() & xdlms.INVOKE_ID_MASK

    def done(self, **fields: object) -> Fields:
        self.end()
        return {name: value for name, value in fields.items() if value is not None}


def _spelt(descriptor: AttributeDescriptor) -> str:
    selection = descriptor.selection
    return str(descriptor) if selection is None else f"{descriptor} selector {selection.selector}"


def _block(cursor: _Cursor) -> dict[str, object]:
    last, number = bool(cursor.uint()), cursor.uint(4)
    return {"last": last, "block": number, "raw": cursor.octet_string()}


def _unknown(service: str, kind: int) -> RemoteProtocolError:
    return RemoteProtocolError(f"{service} of type {kind} does not exist")


def _get_request(apdu: bytes) -> Fields:
    request = xdlms.GetRequest.decode(apdu)
    if request.block_number is not None:
        return {"type": "next", "invoke_id": request.invoke_id, "block": request.block_number}
    kind = "with-list" if request.with_list else "normal"
    return {"type": kind, "invoke_id": request.invoke_id, "attributes": list(map(_spelt, request.attributes))}


def _get_response(apdu: bytes) -> Fields:
    cursor = _Cursor(apdu)
    kind, invoke_id = cursor.uint(), cursor.invoke_id()
    if kind == xdlms.GetType.NORMAL:
        return cursor.done(type="normal", invoke_id=invoke_id, result=cursor.result())
    if kind == xdlms.GetType.WITH_LIST:
        results = [cursor.result() for _ in range(cursor.count())]
        return cursor.done(type="with-list", invoke_id=invoke_id, results=results)
    if kind != xdlms.GetType.NEXT:
        raise _unknown("Get-Response", kind)
    last, number = bool(cursor.uint()), cursor.uint(4)
    result = cursor.access_result() if cursor.uint() else cursor.octet_string()
    return cursor.done(type="with-datablock", invoke_id=invoke_id, last=last, block=number, raw=result)


def _set_request(apdu: bytes) -> Fields:
    cursor = _Cursor(apdu)
    kind, invoke_id = cursor.uint(), cursor.invoke_id()
    if kind == 1:
        return cursor.done(type="normal", invoke_id=invoke_id, attributes=[cursor.attribute()], values=[cursor.data()])
    if kind == 2:
        return cursor.done(
            type="with-first-datablock", invoke_id=invoke_id, attributes=[cursor.attribute()], **_block(cursor)
        )
    if kind == 3:
        return cursor.done(type="with-datablock", invoke_id=invoke_id, **_block(cursor))
    if kind not in (4, 5):
        raise _unknown("Set-Request", kind)
    attributes = [cursor.attribute() for _ in range(cursor.count())]
    if kind == 4:
        return cursor.done(type="with-list", invoke_id=invoke_id, attributes=attributes, values=cursor.data_list())
    block = _block(cursor)
    return cursor.done(type="with-list-and-first-datablock", invoke_id=invoke_id, attributes=attributes, **block)


def _set_response(apdu: bytes) -> Fields:
    cursor = _Cursor(apdu)
    kind, invoke_id = cursor.uint(), cursor.invoke_id()
    if kind == xdlms.SetType.NORMAL:
        return cursor.done(type="normal", invoke_id=invoke_id, result=cursor.access_result())
    if kind == xdlms.SetType.BLOCK:
        return cursor.done(type="datablock", invoke_id=invoke_id, block=cursor.uint(4))
    if kind == xdlms.SetType.LAST_BLOCK:
        result = cursor.access_result()
        return cursor.done(type="last-datablock", invoke_id=invoke_id, result=result, block=cursor.uint(4))
    if kind not in (xdlms.SetType.LAST_BLOCK_WITH_LIST, xdlms.SetType.WITH_LIST):
        raise _unknown("Set-Response", kind)
    results = [cursor.access_result() for _ in range(cursor.count())]
    if kind == xdlms.SetType.WITH_LIST:
        return cursor.done(type="with-list", invoke_id=invoke_id, results=results)
    return cursor.done(type="last-datablock-with-list", invoke_id=invoke_id, results=results, block=cursor.uint(4))


def _action_request(apdu: bytes) -> Fields:
    cursor = _Cursor(apdu)
    kind, invoke_id = cursor.uint(), cursor.invoke_id()
    if kind == 1:
        method = cursor.method()
        parameters = [cursor.data()] if cursor.uint() else None
        return cursor.done(type="normal", invoke_id=invoke_id, methods=[method], values=parameters)
    if kind == 2:
        return cursor.done(type="next-pblock", invoke_id=invoke_id, block=cursor.uint(4))
    if kind == 3:
        methods = [cursor.method() for _ in range(cursor.count())]
        return cursor.done(type="with-list", invoke_id=invoke_id, methods=methods, values=cursor.data_list())
    if kind == 4:
        method = cursor.method()
        return cursor.done(type="with-first-pblock", invoke_id=invoke_id, methods=[method], **_block(cursor))
    if kind == 5:
        methods = [cursor.method() for _ in range(cursor.count())]
        return cursor.done(type="with-list-and-first-pblock", invoke_id=invoke_id, methods=methods, **_block(cursor))
    if kind == 6:
        return cursor.done(type="with-pblock", invoke_id=invoke_id, **_block(cursor))
    raise _unknown("Action-Request", kind)


def _action_response(apdu: bytes) -> Fields:
    cursor = _Cursor(apdu)
    kind, invoke_id = cursor.uint(), cursor.invoke_id()

    def answer() -> tuple[object, object]:
        return cursor.action_result(), cursor.result() if cursor.uint() else None

    if kind == xdlms.ActionType.NORMAL:
        result, value = answer()
        return cursor.done(type="normal", invoke_id=invoke_id, result=result, value=value)
    if kind == xdlms.ActionType.WITH_BLOCK:
        return cursor.done(type="with-pblock", invoke_id=invoke_id, **_block(cursor))
    if kind == xdlms.ActionType.WITH_LIST:
        answers = [answer() for _ in range(cursor.count())]
        results = [{"result": result, "value": value} for result, value in answers]
        return cursor.done(type="with-list", invoke_id=invoke_id, results=results)
    if kind == xdlms.ActionType.NEXT_BLOCK:
        return cursor.done(type="next-pblock", invoke_id=invoke_id, block=cursor.uint(4))
    raise _unknown("Action-Response", kind)


def _variable(cursor: _Cursor) -> str:
    choice = cursor.uint()
    if choice == 2:
        return f"0x{cursor.uint(2):04X}"
    if choice == 4:
        name, selector = cursor.uint(2), cursor.uint()
        cursor.data()
        return f"0x{name:04X} selector {selector}"
    if choice == 5:
        return f"block {cursor.uint(2)}"
    raise RemoteProtocolError(f"a variable is named by choice {choice}")


def _read_request(apdu: bytes) -> Fields:
    cursor = _Cursor(apdu)
    return cursor.done(variables=[_variable(cursor) for _ in range(cursor.count())])


def _write_request(apdu: bytes) -> Fields:
    cursor = _Cursor(apdu)
    variables = [_variable(cursor) for _ in range(cursor.count())]
    return cursor.done(variables=variables, values=cursor.data_list())


def _read_response(apdu: bytes) -> Fields:
    cursor = _Cursor(apdu)
    results: list[object] = []
    for _ in range(cursor.count()):
        choice = cursor.uint()
        if choice == 0:
            results.append(cursor.data())
        elif choice == 1:
            results.append(cursor.access_result())
        elif choice == 2:
            last, number = bool(cursor.uint()), cursor.uint(2)
            results.append({"last": last, "block": number, "raw": cursor.octet_string()})
        else:
            raise RemoteProtocolError(f"Read-Response with choice {choice}")
    return cursor.done(results=results)


def _write_response(apdu: bytes) -> Fields:
    cursor = _Cursor(apdu)
    results: list[object] = []
    for _ in range(cursor.count()):
        choice = cursor.uint()
        results.append("success" if choice == 0 else cursor.access_result() if choice == 1 else f"choice {choice}")
    return cursor.done(results=results)


def _services(conformance: Conformance) -> list[str]:
    return [str(flag.name).lower().replace("_", "-") for flag in Conformance if flag in conformance]


def _initiate_request(apdu: bytes) -> Fields:
    request = acse.InitiateRequest.decode(apdu)
    return {
        "conformance": _services(request.conformance),
        "max_receive_pdu": request.max_receive_pdu,
        "dedicated_key": request.dedicated_key is not None,
    }


def _initiate_response(apdu: bytes) -> Fields:
    response = acse.InitiateResponse.decode(apdu)
    return {
        "conformance": _services(response.conformance),
        "max_receive_pdu": response.max_receive_pdu,
        "vaa_name": response.vaa_name,
    }


def _user_information(octets: bytes) -> object:
    """What an association APDU carries: taken apart where it is plain, named where it is ciphered."""
    if not octets:
        return None
    try:
        return {"apdu": apdu_name(octets[0]), **describe(octets)}
    except RemoteProtocolError:
        return {"apdu": apdu_name(octets[0])}


def _aarq(apdu: bytes) -> Fields:
    aarq = acse.Aarq.decode(apdu)
    return {
        "application_context": aarq.context.name.lower().replace("_", "-"),
        "mechanism": None if aarq.mechanism is None else aarq.mechanism.name.lower().replace("_", "-"),
        "system_title": aarq.system_title,
        "user_information": _user_information(aarq.user_information),
    }


def _aare(apdu: bytes) -> Fields:
    aare = acse.Aare.decode(apdu)
    return {
        "application_context": aare.context,
        "result": "accepted" if aare.result == acse.AssociationResult.ACCEPTED else aare.reason,
        "mechanism": aare.mechanism,
        "system_title": aare.system_title,
        "user_information": _user_information(aare.user_information),
    }


def _release(apdu: bytes) -> Fields:
    release = acse.Release.decode(apdu)
    return {"reason": release.reason, "user_information": _user_information(release.user_information)}


def _exception_response(apdu: bytes) -> Fields:
    response = xdlms.ExceptionResponse.decode(apdu)
    return {"reason": response.reason, "expected_invocation_counter": response.invocation_counter}


def _confirmed_service_error(apdu: bytes) -> Fields:
    return {"reason": acse.ConfirmedServiceError.decode(apdu).reason}


def _general_block(apdu: bytes) -> Fields:
    block = Block.decode(apdu)
    return {
        "block": block.number,
        "acknowledged": block.acknowledged,
        "last": block.last,
        "streaming": block.streaming,
        "window": block.window,
        "raw": block.data,
    }


def _data_notification(apdu: bytes) -> Fields:
    notification = DataNotification.decode(apdu)
    return {
        "long_invoke_id": notification.long_invoke_id,
        "date_time": notification.date_time,
        "body": notification.body,
    }


def _event_notification(apdu: bytes) -> Fields:
    event = EventNotification.decode(apdu)
    where = AttributeDescriptor(event.class_id, event.logical_name, event.attribute)
    return {"date_time": event.date_time, "attribute": str(where), "value": event.value}


def _information_report(apdu: bytes) -> Fields:
    report = InformationReport.decode(apdu)
    return {"time": report.time, "values": {f"0x{name:04X}": value for name, value in report.values}}


_DESCRIBERS: dict[int, Callable[[bytes], Fields]] = {
    acse.AARQ: _aarq,
    acse.AARE: _aare,
    acse.RLRQ: _release,
    acse.RLRE: _release,
    acse.INITIATE_REQUEST: _initiate_request,
    acse.INITIATE_RESPONSE: _initiate_response,
    acse.CONFIRMED_SERVICE_ERROR: _confirmed_service_error,
    xdlms.GET_REQUEST: _get_request,
    xdlms.GET_RESPONSE: _get_response,
    xdlms.SET_REQUEST: _set_request,
    xdlms.SET_RESPONSE: _set_response,
    xdlms.ACTION_REQUEST: _action_request,
    xdlms.ACTION_RESPONSE: _action_response,
    xdlms.READ_REQUEST: _read_request,
    xdlms.READ_RESPONSE: _read_response,
    xdlms.WRITE_REQUEST: _write_request,
    xdlms.WRITE_RESPONSE: _write_response,
    xdlms.UNCONFIRMED_WRITE_REQUEST: _write_request,
    xdlms.EXCEPTION_RESPONSE: _exception_response,
    GENERAL_BLOCK_TRANSFER: _general_block,
    DATA_NOTIFICATION: _data_notification,
    EVENT_NOTIFICATION: _event_notification,
    INFORMATION_REPORT: _information_report,
}
