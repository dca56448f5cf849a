"""Fetching a few attachments only, to know the pace; a wrapper on the path of the real run."""

from __future__ import annotations

import time

from migrator.archive.records import State, Work
from migrator.transfer.fetch import Tried
from migrator.transfer.result import Fetch, RunResult, Timing

SAMPLE = 20
"""Attachments that a dry run fetches, unless told otherwise."""
LARGEST = 32 * 1024 * 1024
"""An attachment above this many bytes is not worth the wait in a sample."""


class Sampled:
    """Fetches the first few attachments and leaves the state of all as it is."""

    def __init__(self, fetch: Fetch, limit: int = SAMPLE) -> None:
        self._fetch = fetch
        self._left = limit
        self.timing = Timing()

    async def __call__(self, work: Work) -> Tried | None:
        """Fetch one of the sample; always None, for nothing is to be written down."""
        if self._left <= 0 or work.declared_size > LARGEST:
            return None
        self._left -= 1
        started = time.monotonic()
        tried = await self._fetch(work)
        if tried is not None and tried.outcome.state is State.STORED:
            self.timing.add(started, tried.received)
        return None


def estimate_seconds(
    result: RunResult,
    sample: Timing,
    *,
    todo: int,
    todo_bytes: int,
    concurrency: int,
    threads: int = 0,
) -> float | None:
    """Estimate how long the real run takes, in seconds; None without a sample.

    Listing took as long as it will take. A fetch costs a request, as a list does (without lists:
    as a fetch of the sample did), and its bytes at the speed that the sample had; reading one of
    ``threads`` costs a request, too. ``concurrency`` of them go on at the same time.
    """
    if todo and not sample.calls:
        return None
    known = result.lists if result.lists.calls else sample
    per_request = known.seconds / known.calls if known.calls else 0.0
    moving = max(0.0, sample.seconds - sample.calls * per_request)
    per_byte = moving / sample.bytes if sample.bytes else 0.0
    fetching = ((todo + threads) * per_request + todo_bytes * per_byte) / concurrency
    return max(result.seconds, fetching)
