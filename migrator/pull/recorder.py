"""One thread writes the checkpoint, many operations to a transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from migrator.archive.ledger import Ledger
from migrator.sources.base import in_pool

T = TypeVar("T")
Item = TypeVar("Item")
_Waiting = tuple[Callable[[list[Any]], Sequence[Any]], Any, asyncio.Future[Any]]
_Result = tuple[Any, Exception | None]

LARGEST_GROUP = 100
"""Operations in one transaction: beyond this a commit costs little per operation."""


class Recorder:
    """Runs operations on the ledger, equal ones together; each is durable when ``do`` returns.

    They keep their order, but for equal ones, which run where the first of them stands: whatever
    depends on another operation is asked for once that one has returned.

    While one group is being committed the next one gathers, so a slow disk makes the groups larger
    and an idle run commits at once. An operation that raises is undone alone; for that the others
    of its group may run twice, so they must have no effect but in the ledger.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._waiting: list[_Waiting] = []
        self._commit: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Return the recorder itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Commit what is still waiting, then end the thread."""
        while self._commit is not None and not self._commit.done():
            await asyncio.wait([self._commit])
        self._thread.shutdown()

    async def do(self, operation: Callable[[], T]) -> T:
        """Run one operation and return its result once it is committed.

        Cancelling the caller does not undo it.
        """
        return await self.do_jointly(lambda _items: [operation()], None)

    async def do_jointly(self, operation: Callable[[list[Item]], Sequence[T]], item: Item) -> T:
        """Run an operation on many items, one of them the caller's; return its result.

        It runs once for the items of all callers with an equal operation, in the place of the
        first, and returns a result for each; if it fails, it runs once for each of them.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.append((operation, item, future))
        if self._commit is None or self._commit.done():
            self._commit = loop.create_task(self._commit_all())
        return await future

    async def _commit_all(self) -> None:
        while self._waiting:
            group = self._waiting[:LARGEST_GROUP]
            del self._waiting[:LARGEST_GROUP]
            try:
                results = await in_pool(self._thread, partial(self._run, group))
            except Exception as error:  # noqa: BLE001 - raised to all callers of the group
                results = [(None, error)] * len(group)
            for (_, _, future), (result, failure) in zip(group, results, strict=True):
                if future.cancelled():
                    continue
                if failure is None:
                    future.set_result(result)
                else:
                    future.set_exception(failure)

    def _run(self, group: list[_Waiting]) -> list[_Result]:
        """Run operations in one transaction; undo only those that raise."""
        joint: dict[Callable[..., Any], list[int]] = {}
        for place, (operation, _, _) in enumerate(group):
            joint.setdefault(operation, []).append(place)
        results: dict[int, _Result] = {}
        begun = False
        try:
            with self._ledger.whole():
                begun = True
                for operation, places in joint.items():
                    found = operation([group[place][1] for place in places])
                    for place, result in zip(places, found, strict=True):
                        results[place] = (result, None)
        except Exception:
            if not begun or len(results) == len(group):  # it is no operation's fault
                raise
            return self._run_apart(group)
        return [results[place] for place in range(len(group))]

    def _run_apart(self, group: list[_Waiting]) -> list[_Result]:
        """Run them again, each in its own block, after all of them were undone."""
        results: list[_Result] = []
        with self._ledger.atomic():
            for operation, item, _ in group:
                try:
                    with self._ledger.atomic():
                        (result,) = operation([item])
                    results.append((result, None))
                except Exception as error:  # noqa: BLE001 - raised to its caller
                    results.append((None, error))
        return results
