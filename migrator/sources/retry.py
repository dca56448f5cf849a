"""When a request is worth another try, and after how long."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from migrator.errors import Again, SourceError, Throttled
from migrator.events import Listener, Retrying, ignore
from migrator.sources.pace import Breaker, Pacer, Sleep

T = TypeVar("T")

FIRST_WAIT = 0.5
"""Seconds before the second attempt; doubled for each further one."""
LONGEST_WAIT = 30.0
"""Cap of the wait between two attempts, in seconds."""
LONGEST_RETRY_AFTER = 300.0
"""Cap of a wait that the server asks for: beyond it, later runs are the better answer."""


def worth_another(error: BaseException) -> bool:
    """Return whether the same request may get a better answer later."""
    return isinstance(error, SourceError) and error.again is Again.LATER


def wait_before(attempt: int, error: BaseException | None, *, spread: float | None = None) -> float:
    """Return the seconds to wait after failed ``attempt``; the first is 1.

    A time that the server named wins; otherwise the wait doubles from attempt to attempt and is
    spread over its upper half, so that requests that failed together do not return together.
    """
    if isinstance(error, Throttled) and error.retry_after is not None:
        return min(max(error.retry_after, 0.0), LONGEST_RETRY_AFTER)
    longest: float = min(FIRST_WAIT * 2.0 ** (attempt - 1), LONGEST_WAIT)
    share = random.random() if spread is None else spread  # noqa: S311 - jitter, not a secret
    return longest * (0.5 + share / 2)


class Retrier:
    """Makes a call up to ``attempts`` times, as long as another try is worth it.

    The error that is finally raised carries the number of tries in ``attempts``. With a
    ``breaker``, a call that failed because the server was gone is made once more when it is back.
    """

    def __init__(
        self,
        attempts: int,
        pacer: Pacer,
        *,
        listener: Listener = ignore,
        sleep: Sleep = asyncio.sleep,
        breaker: Breaker | None = None,
    ) -> None:
        self._attempts = attempts
        self._pacer = pacer
        self._listener = listener
        self._sleep = sleep
        self._breaker = breaker

    async def __call__(self, what: str, call: Callable[[], Awaitable[T]]) -> tuple[T, int]:
        """Return the result of ``call`` and the number of tries it took.

        Raises the last SourceError when no try succeeded.
        """
        if (breaker := self._breaker) is None:
            return await self._try(what, call)
        number, outages = 0, breaker.outages

        async def watched() -> T:
            nonlocal number
            number = breaker.begin()
            try:
                result = await call()
            except SourceError as error:
                await breaker.failed(error)
                raise
            breaker.answered(number)
            return result

        try:
            return await self._try(what, watched)
        except SourceError as error:
            if not await breaker.explains(error, number=number, outages=outages):
                raise
            in_vain = error.attempts
        return await self._try(what, watched, in_vain)

    async def _try(
        self, what: str, call: Callable[[], Awaitable[T]], tries: int = 0
    ) -> tuple[T, int]:
        tries += 1
        try:
            return await call(), tries  # mostly; the machinery below costs as much as a request
        except SourceError as error:
            failed: SourceError | None = error

        async def counted() -> T:
            nonlocal failed, tries
            if failed is not None:
                error, failed = failed, None
                raise error
            tries += 1
            return await call()

        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._attempts),
            retry=retry_if_exception(worth_another),
            wait=_wait,
            before_sleep=lambda state: self._tell(what, state),
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return await retrying(counted), tries
        except SourceError as error:
            error.attempts = tries
            if isinstance(error, Throttled) and error.retry_after is not None:
                self._pacer.hold(wait_before(1, error))  # the next calls are to keep to it, too
            raise

    def _tell(self, what: str, state: RetryCallState) -> None:
        error = _error_of(state)
        wait = state.next_action.sleep if state.next_action else 0.0
        if isinstance(error, Throttled):
            self._pacer.hold(wait)
        problem = error.problem if isinstance(error, SourceError) else "unknown"
        self._listener(Retrying(what, problem, state.attempt_number, wait))


def _error_of(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _wait(state: RetryCallState) -> float:
    return wait_before(state.attempt_number, _error_of(state))
