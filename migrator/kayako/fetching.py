"""What a fetch needs and gives: sinks, results, and threads for the work.

Apart from :mod:`migrator.kayako.source`, so that who reads archives only loads no HTTP client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

from migrator.kayako.records import Contents

T = TypeVar("T")


class FetchSink(Protocol):
    """Where decoded bytes go; ``abort`` throws away what came and may be called twice."""

    def write(self, data: bytes, /) -> None:
        """Take the next decoded bytes."""

    def abort(self) -> None:
        """Forget everything written; called when the reply proves to be no good."""


@runtime_checkable
class ThoroughSink(FetchSink, Protocol):
    """A sink that has more to do at the end, in the thread that wrote.

    Another hand-over would cost as much as hashing a small file.
    """

    def finish(self, contents: Contents, /) -> None:
        """Hear, once at most, that the reply was good, and what it said."""


S = TypeVar("S", bound=FetchSink)


class Fetched(NamedTuple, Generic[S]):
    """A whole attachment: what the reply said, the sink that got its bytes, the tries it took."""

    contents: Contents
    sink: S
    attempts: int


async def in_pool(pool: Executor | None, work: Callable[[], T]) -> T:
    """Run ``work`` in a thread; when cancelled, wait for it to end before giving way.

    A thread cannot be stopped: whoever cleans up after a cancellation must not find it still
    writing.
    """
    future = asyncio.get_running_loop().run_in_executor(pool, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError as error:
        cancelled = error
    while not future.done():
        try:
            await asyncio.wait([future])  # unlike the future itself, this can be cancelled safely
        except asyncio.CancelledError as error:
            cancelled = error
    future.exception()  # looked at, so that asyncio does not report it as overlooked
    raise cancelled
