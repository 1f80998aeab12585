"""One at a time, in order, and nobody who gives up keeps the others waiting."""

from __future__ import annotations

import asyncio

import pytest

from meterbridge.meter.turn import Turn


async def test_a_free_turn_is_taken_at_once_and_only_once() -> None:
    turn = Turn()
    assert turn.take_if_free()
    assert not turn.take_if_free()
    turn.give_back()
    assert turn.take_if_free()


async def test_turns_are_given_in_the_order_of_asking() -> None:
    turn, order = Turn(), []

    async def ask(number: int) -> None:
        async with turn:
            order.append(number)
            await asyncio.sleep(0)

    assert turn.take_if_free()
    tasks = [asyncio.create_task(ask(number)) for number in range(5)]
    await asyncio.sleep(0)
    turn.give_back()
    assert not turn.take_if_free()  # the first in line has it
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]
    assert turn.take_if_free()


@pytest.mark.parametrize("handed_over", [False, True])
async def test_who_is_cancelled_passes_the_turn_on(handed_over: bool) -> None:
    turn, reached = Turn(), []

    async def ask(number: int) -> None:
        async with turn:
            reached.append(number)

    assert turn.take_if_free()
    first, second = asyncio.create_task(ask(1)), asyncio.create_task(ask(2))
    await asyncio.sleep(0)
    if handed_over:
        turn.give_back()
    first.cancel()
    if not handed_over:
        turn.give_back()
    await asyncio.gather(first, second, return_exceptions=True)
    assert reached == [2]
    assert turn.take_if_free()


async def test_an_error_inside_gives_the_turn_back() -> None:
    turn = Turn()
    with pytest.raises(ValueError, match="inside"):
        async with turn:
            raise ValueError("inside")
    assert turn.take_if_free()
