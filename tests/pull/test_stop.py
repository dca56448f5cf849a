"""Stopping: first politely, then at once, and never held up by a wait."""

from __future__ import annotations

import asyncio

import pytest

from migrator.errors import Interrupted
from migrator.pull.options import Stop


def test_the_first_ask_is_polite_and_the_second_is_not() -> None:
    """What is in flight may finish until somebody asks again."""
    stop = Stop()
    assert not stop.asked
    stop.ask()
    assert stop.asked
    assert not stop.hard.is_set()
    stop.ask()
    assert stop.hard.is_set()


def test_a_sleep_ends_by_itself() -> None:
    """Nobody asked: the pause is a pause."""
    asyncio.run(Stop().sleep(0.001))


def test_stopping_does_not_wait_for_a_sleep() -> None:
    """An hour of Retry-After does not hold up Ctrl-C."""

    async def main() -> None:
        stop = Stop()
        sleeping = asyncio.create_task(stop.sleep(3600))
        await asyncio.sleep(0)
        stop.ask()
        await sleeping

    with pytest.raises(Interrupted):
        asyncio.run(main())


def test_who_is_asked_to_stop_does_not_fall_asleep() -> None:
    """After the ask no pause begins any more."""

    async def main() -> None:
        stop = Stop()
        stop.ask()
        await stop.sleep(3600)

    with pytest.raises(Interrupted):
        asyncio.run(main())
