"""The recorder commits in groups, in order, and loses nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from migrator.archive import Archive, TicketRow
from migrator.errors import ArchiveUnwritable
from migrator.pull.recorder import LARGEST_GROUP, Recorder


def departments(archive: Archive) -> dict[int, int]:
    """Return the department of every ticket."""
    return {one.id: one.department_id for one in archive.threads.all_tickets()}


class Spied:
    """A ledger that counts its transactions, and may fail to commit or wait at a gate."""

    def __init__(self, *, full: bool = False) -> None:
        self.groups: list[int] = []
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.full = full
        self._depth = 0

    @contextmanager
    def atomic(self) -> Iterator[None]:
        if self._depth:
            yield
            return
        self.groups.append(0)
        self._depth = 1
        self.entered.set()
        assert self.gate.wait(10)
        try:
            yield
            if self.full:
                raise ArchiveUnwritable("disk full")
        finally:
            self._depth = 0

    whole = atomic

    def count(self) -> None:
        """Be an operation that counts itself."""
        self.groups[-1] += 1


def together(ledger: Any, operations: list[Callable[[], Any]]) -> list[Any]:
    """Run operations at the same time and give results or exceptions."""

    async def main() -> list[Any]:
        async with Recorder(ledger) as recorder:
            asked = [recorder.do(operation) for operation in operations]
            return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(main())


def test_operations_run_in_order_and_give_their_results() -> None:
    """What is asked first is written first, and everybody gets an own answer."""
    order: list[int] = []

    def note(number: int) -> Callable[[], int]:
        def operation() -> int:
            order.append(number)
            return number

        return operation

    assert together(Spied(), [note(number) for number in range(250)]) == list(range(250))
    assert order == list(range(250))


def test_what_waits_meanwhile_becomes_one_transaction() -> None:
    """While one group is committed all others gather, up to the largest group."""
    ledger = Spied()
    ledger.gate.clear()

    async def main() -> None:
        async with Recorder(ledger) as recorder:  # type: ignore[arg-type]
            first = asyncio.create_task(recorder.do(ledger.count))
            assert await asyncio.to_thread(ledger.entered.wait, 10)
            others = [asyncio.create_task(recorder.do(ledger.count)) for _ in range(150)]
            await asyncio.sleep(0)
            ledger.gate.set()
            await asyncio.gather(first, *others)

    asyncio.run(main())
    assert ledger.groups == [1, LARGEST_GROUP, 150 - LARGEST_GROUP]


def test_equal_operations_of_a_group_run_as_one() -> None:
    """Who waits with the same operation gets an own result of one call, in the order of asking."""
    ledger, calls = Spied(), []

    def double(items: list[int]) -> list[int]:
        calls.append(items)
        return [2 * item for item in items]

    async def main() -> list[Any]:
        async with Recorder(ledger) as recorder:  # type: ignore[arg-type]
            asked = [recorder.do_jointly(double, 1), recorder.do(lambda: "alone")]
            return await asyncio.gather(*asked, recorder.do_jointly(double, 3))

    assert asyncio.run(main()) == [2, "alone", 6]
    assert calls == [[1, 3]]


def test_an_item_that_fails_fails_alone(archive: Archive) -> None:
    """Of items that are written together one that cannot be fails its own caller."""
    ledger = archive.ledger

    def put(numbers: list[int]) -> list[None]:
        for number in numbers:
            ledger.put_ticket(TicketRow(number, 1))
            if number == 2:
                raise ValueError("no")
        return [None for _ in numbers]

    async def main() -> list[Any]:
        async with Recorder(ledger) as recorder:
            asked = [recorder.do_jointly(put, number) for number in (1, 2, 3)]
            return await asyncio.gather(*asked, return_exceptions=True)

    results = asyncio.run(main())
    assert isinstance(results[1], ValueError)
    assert [results[0], results[2]] == [None, None]
    assert departments(archive) == {1: 1, 3: 1}


def test_an_operation_that_fails_fails_alone(archive: Archive) -> None:
    """Its own writes are undone, and its neighbours in the group are stored."""
    ledger = archive.ledger

    def broken() -> None:
        ledger.put_ticket(TicketRow(2, 1))
        raise ValueError("no")

    def fine(number: int) -> Callable[[], None]:
        return lambda: ledger.put_ticket(TicketRow(number, 1))

    results = together(ledger, [fine(1), broken, fine(3)])
    assert isinstance(results[1], ValueError)
    assert [results[0], results[2]] == [None, None]
    assert departments(archive) == {1: 1, 3: 1}


def test_an_exception_may_be_a_result() -> None:
    """An operation that returns an exception did not fail."""
    given = ValueError("a value")

    async def main() -> ValueError:
        async with Recorder(Spied()) as recorder:  # type: ignore[arg-type]
            return await recorder.do(lambda: given)

    assert asyncio.run(main()) is given


def test_a_commit_that_fails_fails_for_all_who_wait() -> None:
    """Nobody is told that something is written when the transaction was not."""
    results = together(Spied(full=True), [lambda: 1, lambda: 2])
    assert [str(result) for result in results] == ["disk full", "disk full"]


def test_after_a_failed_commit_the_recorder_goes_on() -> None:
    """A disk that has room again is written to again."""
    ledger = Spied(full=True)

    async def main() -> int:
        async with Recorder(ledger) as recorder:  # type: ignore[arg-type]
            with pytest.raises(ArchiveUnwritable):
                await recorder.do(lambda: 1)
            ledger.full = False
            return await recorder.do(lambda: 2)

    assert asyncio.run(main()) == 2


def test_a_caller_that_is_cancelled_undoes_nothing(archive: Archive) -> None:
    """What was handed over is written, and others of the same group get their answers."""

    async def main() -> None:
        async with Recorder(archive.ledger) as recorder:
            write = recorder.do(lambda: archive.ledger.put_ticket(TicketRow(1, 1)))
            caller = asyncio.create_task(write)
            await asyncio.sleep(0)
            caller.cancel()
            assert await recorder.do(lambda: "answered") == "answered"
            assert caller.cancelled()

    asyncio.run(main())
    assert departments(archive)[1] == 1


def test_leaving_waits_for_all_that_was_handed_over(archive: Archive) -> None:
    """Nothing is lost on exit, also not when a group is being committed just then."""
    ledger = archive.ledger

    def write(number: int) -> Callable[[], None]:
        return lambda: ledger.put_ticket(TicketRow(number, 1))

    async def main() -> list[asyncio.Task[None]]:
        async with Recorder(ledger) as recorder:
            tasks = [asyncio.create_task(recorder.do(write(number))) for number in range(1, 301)]
            await asyncio.sleep(0)
        return tasks

    asyncio.run(main())
    assert archive.queries.ticket_count() == 300
    assert not [one for one in threading.enumerate() if one.name.startswith("checkpoint")]


def test_leaving_a_recorder_that_did_nothing_is_harmless() -> None:
    """A run that fails at once leaves no thread behind."""

    async def main() -> None:
        async with Recorder(Spied()):  # type: ignore[arg-type]
            pass

    asyncio.run(main())


def test_all_operations_run_in_one_thread() -> None:
    """SQLite sees one writer, and never the event loop's thread."""
    names = together(Spied(), [lambda: threading.current_thread().name for _ in range(20)])
    assert len(set(names)) == 1
    assert names[0].startswith("checkpoint")
