"""The whole way of what meters push: octets to APDUs, deciphered, taken apart, with names, values and units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from meterbridge.dlms import acse
from meterbridge.dlms.axdr import Data, DataType
from meterbridge.dlms.ciphering import CIPHERED_TAGS, CipheredApdu
from meterbridge.dlms.cosem_time import DateTime
from meterbridge.dlms.counters import ReceivedCounters
from meterbridge.dlms.described import Fields, apdu_name, describe
from meterbridge.dlms.general_ciphering import GENERAL_CIPHERING, GeneralCiphering
from meterbridge.dlms.notification import (
    DATA_NOTIFICATION,
    EVENT_NOTIFICATION,
    INFORMATION_REPORT,
    DataNotification,
    EventNotification,
    InformationReport,
)
from meterbridge.dlms.push_list import ListLayout, PushedValue, PushList, interpret
from meterbridge.dlms.reception import Arrived, Framing, Reception, Refused
from meterbridge.dlms.security import Keys, SecurityControl, SecurityPolicy
from meterbridge.dlms.signing import GENERAL_SIGNING, SignedApdu
from meterbridge.errors import ConfigurationError, RemoteProtocolError

_MOST_LAYERS = 3
"""Protections around one APDU: signed, for one recipient, with a key of the association."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Keys by the system title of the sender.

    Args:
        by_title: keys of senders that are known.
        default: keys of everybody else; None where there are none.
        title: system title of senders that do not say theirs, empty where not known.
    """

    by_title: Mapping[bytes, Keys] = field(default_factory=dict)
    default: Keys | None = None
    title: bytes = b""

    def keys_of(self, system_title: bytes) -> Keys | None:
        """Return the keys of a sender, None where there are none."""
        return self.by_title.get(system_title, self.default)


@dataclass(frozen=True, slots=True)
class Decoded:
    """One APDU with its meaning.

    Args:
        framing: what it came in.
        offset: where in the stream it began, octets.
        apdu: what it is called, of the outermost form that could not be opened: `data-notification`.
        octets: the APDU of that name.
        time: when the sender says it was sent, or what the clock in its list said.
        system_title: of the sender, None where nothing was ciphered.
        invocation_counter: None where nothing was ciphered.
        values: by reduced OBIS code or place in the list; empty for what carries none.
        fields: the APDU taken apart; None where it could not be.
        layout: catalogue entry that named values or units.
        error: why it could not be opened or taken apart, None where it could.
    """

    framing: Framing
    offset: int
    apdu: str
    octets: bytes
    time: DateTime | None = None
    system_title: bytes | None = None
    invocation_counter: int | None = None
    values: Mapping[str, PushedValue] = field(default_factory=dict)
    fields: Fields | None = None
    layout: str | None = None
    error: str | None = None


@dataclass(slots=True)
class _Opened:
    """An APDU and what was found around it."""

    apdu: bytes
    system_title: bytes | None = None
    counter: int | None = None
    error: str | None = None


class PushDecoder:
    """Decodes what arrives unasked; nothing that arrives raises.

    Args:
        reception: takes APDUs out of the octets.
        keys: to decipher with.
        layouts: what is known of makes beside what their messages say.
        received: counters seen so far, where an authenticated APDU that comes again is to be refused; None takes it.
    """

    def __init__(
        self,
        reception: Reception,
        keys: KeyRing | None = None,
        layouts: Sequence[ListLayout] = (),
        received: ReceivedCounters | None = None,
    ) -> None:
        self._reception = reception
        self._keys = keys or KeyRing()
        self._layouts = layouts
        self._received = received
        self._client_title = self._server_title = self._keys.title

    @property
    def pending(self) -> int:
        """Octets held of a frame that is not complete."""
        return self._reception.pending

    def stretch(self, octets: bytes, position: int) -> int:
        """See Reception."""
        return self._reception.stretch(octets, position)

    def receive_data(self, data: bytes) -> None:
        """Take octets in; what they complete is read with `next_event`."""
        self._reception.receive_data(data)

    def end(self, *, datagram: bool = False) -> None:
        """No more octets come, or none of this datagram."""
        self._reception.end(datagram=datagram)

    def next_event(self) -> Decoded | Refused | None:
        """Return the next APDU or refusal, or None when more octets are needed."""
        event = self._reception.next_event()
        return self._decoded(event) if isinstance(event, Arrived) else event

    # ---- within

    def _decoded(self, arrived: Arrived) -> Decoded:
        opened = _Opened(arrived.apdu)
        fields: Fields | None = None
        pushed = PushList({})
        time: DateTime | None = None
        try:
            self._open(opened)
            if opened.error is None:
                fields, pushed, time = self._take_apart(opened)
        except RemoteProtocolError as error:
            opened.error = str(error)
        apdu = opened.apdu
        return Decoded(
            arrived.framing,
            arrived.offset,
            apdu_name(apdu[0]) if apdu else "nothing",
            apdu,
            time or pushed.time,
            opened.system_title,
            opened.counter,
            pushed.values,
            fields,
            pushed.layout,
            opened.error,
        )

    def _open(self, opened: _Opened) -> None:
        for _ in range(_MOST_LAYERS):
            tag = opened.apdu[0] if opened.apdu else 0
            if tag in CIPHERED_TAGS:
                self._open_ciphered(opened)
            elif tag == GENERAL_CIPHERING:
                self._open_general(opened)
            elif tag == GENERAL_SIGNING:
                self._open_signed(opened)
            else:
                return
            if opened.error is not None:
                return

    def _open_ciphered(self, opened: _Opened) -> None:
        ciphered = CipheredApdu.decode(opened.apdu)
        title = ciphered.system_title or self._title_of(ciphered)
        opened.system_title, opened.counter = title or None, ciphered.counter
        keys = self._keys_of(title, opened)
        if keys is None:
            return
        try:
            opened.apdu = ciphered.open(keys, title)
        except ConfigurationError as error:
            opened.error = str(error)
            return
        self._check(title, ciphered.key_name, ciphered.control, ciphered.counter)

    def _open_general(self, opened: _Opened) -> None:
        ciphered = GeneralCiphering.decode(opened.apdu)
        title, counter = ciphered.header.originator, ciphered.counter
        opened.system_title, opened.counter = title or None, counter
        keys = self._keys_of(title, opened)
        if keys is None:
            return
        try:
            try:
                opened.apdu = ciphered.open(keys)
            except RemoteProtocolError:
                # Not all stacks authenticate the header's fields along.
                opened.apdu = ciphered.open(keys, header_authenticated=False)
        except ConfigurationError as error:
            opened.error = str(error)
            return
        self._check(title, "general", ciphered.control, counter)

    def _open_signed(self, opened: _Opened) -> None:
        signed = SignedApdu.decode(opened.apdu)
        opened.system_title = signed.header.originator or None
        keys = self._keys.keys_of(signed.header.originator)
        if keys is None or keys.peer_signing is None:
            opened.error = "the APDU is signed, and its signer's public key is not known"
            return
        opened.apdu = signed.open(keys.peer_signing)

    def _keys_of(self, title: bytes, opened: _Opened) -> Keys | None:
        keys = self._keys.keys_of(title)
        if keys is None:
            whose = f"of {title.hex().upper()}" if title else "of its sender, who does not say his system title,"
            opened.error = f"the APDU is ciphered, and the key {whose} is not known"
        return keys

    def _title_of(self, ciphered: CipheredApdu) -> bytes:
        """The title of whoever sends such APDUs, as the association in the same octets gave it."""
        tag = ciphered.plain_tag
        from_client = tag in (0x01, 0x05, 0x06, 0x16, 0xC0, 0xC1, 0xC3)
        return self._client_title if from_client else self._server_title

    def _check(self, title: bytes, key: str, control: SecurityControl, counter: int) -> None:
        # Only of what is authenticated is it known that its sender used the counter.
        if self._received is not None and control.policy & SecurityPolicy.AUTHENTICATED:
            self._received.check(f"{title.hex()} {key}", counter)

    def _take_apart(self, opened: _Opened) -> tuple[Fields, PushList, DateTime | None]:
        apdu = opened.apdu
        tag = apdu[0] if apdu else 0
        fields = describe(apdu)
        if tag == DATA_NOTIFICATION:
            notification = DataNotification.decode(apdu)
            title = opened.system_title or b""
            bare = notification.bare_descriptors
            pushed = interpret(notification.body, self._layouts, system_title=title, bare_descriptors=bare)
            return fields, pushed, _said(notification.date_time)
        if tag == EVENT_NOTIFICATION:
            event = EventNotification.decode(apdu)
            named = Data(DataType.STRUCTURE, (Data(DataType.OCTET_STRING, bytes(event.logical_name)), event.value))
            return fields, interpret(named), _said(event.date_time)
        if tag == INFORMATION_REPORT:
            report = InformationReport.decode(apdu)
            named_by = {f"0x{name:04X}": value.plain() for name, value in report.values}
            return fields, PushList({key: PushedValue(key, value) for key, value in named_by.items()}), None
        if tag == acse.AARQ:
            self._client_title = acse.Aarq.decode(apdu).system_title or self._client_title
        elif tag == acse.AARE:
            self._server_title = acse.Aare.decode(apdu).system_title or self._server_title
        return fields, PushList({}), None


def _said(time: DateTime | None) -> DateTime | None:
    """A date-time of nothing but wildcards says nothing."""
    return None if time is None or time.to_datetime() is None else time
