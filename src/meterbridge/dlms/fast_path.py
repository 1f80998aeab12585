"""The quick way for what a poller does all day: a GET it has sent before, answered as it was answered before.

Request frames are kept per request, sequence numbers and invoke id, and shared by all meters with the same addresses.
An answer is recognised by its first octets and, on HDLC, its frame check; its values lie where they lay last time.
Whatever is unusual (segmented, ciphered, out of sequence, noise, another type) is left to the full way, which
understands it and from which the quick one learns.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from struct import Struct
from typing import Any, Protocol, runtime_checkable

from meterbridge.dlms import xdlms
from meterbridge.dlms.axdr import FIXED_SIZE_CODES
from meterbridge.dlms.exchange import GetExchange
from meterbridge.dlms.xdlms import INVOKE_ID_MASK, AttributeDescriptor, GetRequest


@runtime_checkable
class FastLink(Protocol):
    """What a link offers the quick way beside the full one."""

    @property
    def fast_addresses(self) -> Hashable:
        """What frames of equal requests to equal addresses have in common."""

    @property
    def fast_check(self) -> Callable[[bytes], int] | None:
        """Gives one number for all undamaged answers of one length; None where what carries the link checks octets."""

    def fast_sequence(self) -> int:
        """What else goes into the next frame (sequence numbers); -1 when the link has unusual things to do."""

    def fast_following(self, sequence: int) -> int:
        """The same for the request after this one and its answer."""

    def fast_frame(self, apdu: bytes, sequence: int) -> bytes | None:
        """The frame of a request; None when it takes several."""

    def fast_resume(self, sequence: int, apdu: bytes | None) -> None:
        """Catch up: all before `sequence` was exchanged, and `apdu`, unless it is None, was sent with it."""

    def fast_head(self, data: bytes, apdu: bytes) -> int:
        """Where in `data` the APDU begins when `data` is its one frame and nothing else; -1 otherwise."""


class _Layout:
    """Where the values of an answer lie: choice and tag, then the value, for each result; all of fixed size.

    Choice and tag of a single result are part of the prefix; `marks` is then empty.
    """

    __slots__ = ("checked", "length", "marks", "prefix", "start", "unpack_from")

    def __init__(self, data: bytes, start: int, codes: str, marks: tuple[int, ...], checked: int) -> None:
        single = len(marks) == 1
        self.start = start + 2 if single else start
        self.prefix = data[: self.start]
        self.length = len(data)
        self.marks = () if single else marks
        self.checked = checked
        # Choice and tag as one number: small ones exist already.
        self.unpack_from = Struct(">" + (codes if single else "".join(f"H{code}" for code in codes))).unpack_from


class _Known:
    """A request frame, what its answer looked like last time, and what is sent after that answer."""

    __slots__ = ("apdu", "following", "frame", "invoke_id", "layout", "sequence")

    def __init__(self, frame: bytes, apdu: bytes, sequence: int, invoke_id: int) -> None:
        self.frame = frame
        self.apdu = apdu
        self.sequence = sequence
        self.invoke_id = invoke_id
        self.layout: _Layout | None = None
        self.following: _Known | None = None


class PreparedGet:
    """A GET that is sent over and over, by one meter or by thousands.

    Args:
        attributes: what to read.
    """

    __slots__ = ("_apdus", "_known", "attributes", "several")

    def __init__(self, attributes: tuple[AttributeDescriptor, ...]) -> None:
        self.attributes = attributes
        self.several = len(attributes) > 1
        self._apdus = [GetRequest(invoke_id, attributes).encode() for invoke_id in range(16)]
        self._known: dict[Hashable, dict[int, _Known]] = {}

    def apdu(self, invoke_id: int) -> bytes:
        """Return the APDU with this invoke id."""
        return self._apdus[invoke_id]

    def known(self, addresses: Hashable) -> dict[int, _Known]:
        """Return what is known of the frames between two addresses, by sequence and invoke id.

        Args:
            addresses: both, and whatever else decides whether a request fits one frame.
        """
        return self._known.setdefault(addresses, {})


class FastPath:
    """The quick way over one link; does nothing on a link that has none.

    The link hears nothing of exchanges that follow each other on the quick way. Before anything else is asked of it,
    `leave` lets it catch up.
    """

    __slots__ = ("_asked", "_awaited", "_check", "_link", "_max_pdu", "_next", "_prepared", "_received", "_table")

    def __init__(self, link: object) -> None:
        self._link = link if isinstance(link, FastLink) else None
        self._check = None if self._link is None else self._link.fast_check
        self._max_pdu = 0
        self._prepared: PreparedGet | None = None
        self._table: dict[int, _Known] = {}
        self._next: _Known | None = None  # what repeats the exchange that was over last
        self._awaited: _Known | None = None  # what was sent, until anything at all has come
        self._asked: _Known | None = None  # what was sent and is being answered the full way
        self._received = b""

    def opened(self, max_pdu: int) -> None:
        """An association is open to a peer that takes APDUs of so many octets, 0 for any."""
        self._max_pdu = max_pdu
        self._prepared = None
        self.leave()

    def again(self, prepared: PreparedGet) -> bytes | None:
        """Return the frame of a request, for the caller to send, where this was the last one too; None otherwise."""
        known = self._next
        if known is None or prepared is not self._prepared:
            return None
        self._next = None
        self._awaited = known
        return known.frame

    def send(self, prepared: PreparedGet, invoke_id: int) -> bytes | None:
        """Return the one frame of a request, for the caller to send; None leaves the request to the full way."""
        link = self._link
        if link is None:
            return None
        sequence = link.fast_sequence()
        if sequence < 0:
            return None
        if prepared is not self._prepared:
            self._prepared = prepared
            self._table = prepared.known((link.fast_addresses, self._max_pdu))
        self._awaited = known = self._known(link, prepared, sequence, invoke_id)
        return None if known is None else known.frame

    def _known(self, link: FastLink, prepared: PreparedGet, sequence: int, invoke_id: int) -> _Known | None:
        key = sequence << 4 | invoke_id
        known = self._table.get(key)
        if known is None:
            apdu = prepared.apdu(invoke_id)
            frame = None if self._max_pdu and len(apdu) > self._max_pdu else link.fast_frame(apdu, sequence)
            if frame is None:
                return None
            known = self._table[key] = _Known(frame, apdu, sequence, invoke_id)
        return known

    def leave(self) -> int | None:
        """Let the link catch up; return the invoke id that was used last, None where there was nothing to catch up."""
        link, sent, following = self._link, self._awaited, self._next
        self._asked, self._awaited, self._next = sent, None, None
        if link is None:
            return None
        if sent is not None:
            link.fast_resume(sent.sequence, sent.apdu)
            return sent.invoke_id
        if following is not None:
            link.fast_resume(following.sequence, None)
            return following.invoke_id - 1 & INVOKE_ID_MASK
        return None

    def receive(self, data: bytes) -> tuple[Any, ...] | None:
        """Return the results if octets are just the answer expected; None leaves them to the full way."""
        known = self._awaited
        if known is None:
            self._received = b""
            return None
        layout = known.layout
        if layout is not None and len(data) == layout.length and data.startswith(layout.prefix):
            values = layout.unpack_from(data, layout.start)
            if not layout.marks or values[::2] == layout.marks:
                check = self._check
                if check is None or check(data) == layout.checked:
                    self._awaited = None
                    self._next = known.following or self._follow(known)
                    return values[1::2] if layout.marks else values
        self._received = data
        return None

    def _follow(self, known: _Known) -> _Known | None:
        link, prepared = self._link, self._prepared
        if link is None or prepared is None:
            return None
        sequence, invoke_id = link.fast_following(known.sequence), known.invoke_id + 1 & INVOKE_ID_MASK
        known.following = self._known(link, prepared, sequence, invoke_id)
        return known.following

    def exchange(self, invoke_id: int) -> GetExchange:
        """Return the exchange of the request that was sent, for the full way to go on with."""
        exchange = GetExchange(self._prepared.attributes if self._prepared is not None else ())
        exchange.start(invoke_id, 0)
        return exchange

    def answered(self, apdu: bytes) -> None:
        """Learn from an answer that came the full way, where it was the only thing in the octets received last."""
        known, data = self._asked, self._received
        if known is None or self._link is None or not data:
            return
        head = self._link.fast_head(data, apdu)
        if head >= 0:
            known.layout = _layout(data, head, apdu, 0 if self._check is None else self._check(data))


def _layout(data: bytes, head: int, apdu: bytes, checked: int) -> _Layout | None:
    """Return where the values of an answer lie, None where one has no fixed size or is an error."""
    if apdu[1] == xdlms.GetType.NORMAL:
        start = position = 3
        count = 1
    elif apdu[1] == xdlms.GetType.WITH_LIST and apdu[3] < 0x80:
        start = position = 4
        count = apdu[3]
    else:
        return None
    codes, marks = [], []
    for _ in range(count):
        mark = apdu[position : position + 2]
        fixed = FIXED_SIZE_CODES.get(mark[1]) if mark[:1] == b"\x00" else None
        if fixed is None:
            return None
        code, size = fixed
        codes.append(code)
        marks.append(mark[1])
        position += 2 + size
    return _Layout(data, head + start, "".join(codes), tuple(marks), checked)
