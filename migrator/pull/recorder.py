"""One thread writes the checkpoint, many operations to a transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from migrator.archive.ledger import Ledger
from migrator.sources.base import in_pool

T = TypeVar("T")
_Result = tuple[Any, Exception | None]

LARGEST_GROUP = 100
"""Operations in one transaction: beyond this a commit costs next to nothing per operation."""


class Recorder:
    """Runs operations on the ledger in order; each is durable when ``do`` returns.

    While one group is being committed the next one gathers by itself, so a slow disk makes the
    groups larger and an idle run commits at once. An operation that raises is undone alone; for
    that the others of its group may run twice, so they must leave no trace but in the ledger.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._waiting: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []
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
        """Commit what is still waiting, then let the thread go."""
        while self._commit is not None and not self._commit.done():
            await asyncio.wait([self._commit])
        self._thread.shutdown()

    async def do(self, operation: Callable[[], T]) -> T:
        """Run one operation and give its result once it is committed.

        A caller that is cancelled meanwhile does not undo it.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.append((operation, future))
        if self._commit is None or self._commit.done():
            self._commit = loop.create_task(self._commit_all())
        return await future

    async def _commit_all(self) -> None:
        while self._waiting:
            group = self._waiting[:LARGEST_GROUP]
            del self._waiting[:LARGEST_GROUP]
            operations = [operation for operation, _ in group]
            try:
                results = await in_pool(self._thread, partial(self._run, operations))
            except Exception as error:  # noqa: BLE001 - handed to whoever waits for the group
                results = [(None, error)] * len(group)
            for (_, future), (result, failure) in zip(group, results, strict=True):
                if future.cancelled():
                    continue
                if failure is None:
                    future.set_result(result)
                else:
                    future.set_exception(failure)

    def _run(self, operations: list[Callable[[], Any]]) -> list[_Result]:
        """Run operations in one transaction; one that raises is undone, the others are not."""
        results: list[_Result] | None = None
        try:
            with self._ledger.whole():
                results = []
                for operation in operations:
                    results.append((operation(), None))
        except Exception:
            if results is None or len(results) == len(operations):  # it is no operation's fault
                raise
            return self._run_apart(operations)
        return results

    def _run_apart(self, operations: list[Callable[[], Any]]) -> list[_Result]:
        """Run them again, each in a block of its own: all that was done of them is undone."""
        results: list[_Result] = []
        with self._ledger.atomic():
            for operation in operations:
                try:
                    with self._ledger.atomic():
                        results.append((operation(), None))
                except Exception as error:  # noqa: BLE001 - handed to whoever asked for it
                    results.append((None, error))
        return results
