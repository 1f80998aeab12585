"""What goes both ways beside the rows: bounded, and lost with the connection."""

from __future__ import annotations

from collections.abc import Callable

from meterbridge.delivery import Heard, Saying
from meterbridge.delivery.conversation import Ear, Mouth


def heard(payload: bytes = b"{}") -> Heard:
    return Heard("r", None, "t", payload, False)


def test_what_is_heard_reaches_the_loop_many_at_a_time_and_no_more_than_it_can_bear() -> None:
    calls: list[Callable[[], None]] = []
    got: list[int] = []
    ear = Ear(lambda messages: got.append(len(messages)), calls.append)
    ear.hear(heard(b"x" * 65_537))
    assert (calls, ear.dropped) == ([], 1)
    for _ in range(1_500):
        ear.hear(heard())
    # A batch asks for the next one, so that others have their turn in between.
    for number in range(32):
        assert len(calls) == number + 1
        calls[number]()
    assert (sum(got), max(got)) == (1_000, 32)
    assert ear.dropped == 501
    ear.hear(heard())
    calls[-1]()
    assert got[-1] == 1


def test_large_messages_are_bounded_by_their_octets() -> None:
    calls: list[Callable[[], None]] = []
    got: list[int] = []
    ear = Ear(lambda messages: got.append(len(messages)), calls.append)
    for _ in range(100):
        ear.hear(heard(b"x" * 65_536))
    assert ear.dropped == 36
    while len(got) < len(calls):
        calls[len(got)]()
    assert sum(got) == 64
    ear.hear(heard(b"x" * 65_536))
    assert ear.dropped == 36


def test_what_is_to_be_said_is_bounded_and_ends_with_the_connection() -> None:
    mouth = Mouth()
    for number in range(1_200):
        mouth.say(Saying(str(number), b""))
    assert (len(mouth), mouth.unsaid) == (1_000, 200)
    assert mouth.next().topic == "0"
    mouth.said()
    assert mouth.next().topic == "1"
    mouth.down()
    assert (len(mouth), mouth.unsaid) == (0, 1_199)


def test_a_server_that_closes_over_a_subscription_is_asked_no_more() -> None:
    mouth = Mouth()
    for _ in range(2):
        mouth.asked(1)
        mouth.down()
    mouth.asked(2)
    assert not mouth.answered(1)
    assert mouth.answered(2)
    for _ in range(3):
        assert mouth.may_subscribe
        mouth.asked(3)
        mouth.down()
    assert not mouth.may_subscribe
