"""What the commands that loop share: an event loop, signals and threads."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from migrator.cli._heap import share_one_heap
from migrator.kayako.settings import KayakoSettings
from migrator.transfer.stop import Stop

T = TypeVar("T")


def drive(work: Callable[[Stop], Awaitable[T]]) -> T:
    """Run ``work`` to its end; Ctrl-C and SIGTERM ask it to stop, a second one at once."""

    async def main() -> T:
        stop = Stop()
        loop = asyncio.get_running_loop()
        with suppress(RuntimeError, ValueError):  # only the main thread may catch signals
            loop.add_signal_handler(signal.SIGINT, stop.ask)
            loop.add_signal_handler(signal.SIGTERM, stop.ask)
        return await work(stop)

    return asyncio.run(main())


def threads(settings: KayakoSettings) -> ThreadPoolExecutor:
    """Make the pool that parses, hashes and writes: more threads only pass the GIL around."""
    share_one_heap()
    return ThreadPoolExecutor(min(settings.concurrency, 4), thread_name_prefix="transfer")
