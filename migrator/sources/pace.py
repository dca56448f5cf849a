"""The pace of requests: when to send one, how many, and when to try again.

Three things decide: how many requests run at once and in a second (:class:`Pacer`), whether to
repeat a failed one, and whether the server is down (:class:`Breaker`). Then the only requests are
probes at growing intervals.

A server that fails on some attachments and one that is gone look the same to a single request.
The difference is whether any request gets a proper answer.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from email.utils import parsedate_to_datetime
from itertools import takewhile
from types import TracebackType
from typing import Final, Self, TypeVar

from migrator.errors import Again, SourceDown, SourceError, Throttled
from migrator.events import (
    Listener,
    Notice,
    PaceChanged,
    Paused,
    Request,
    Requested,
    Retrying,
    Slow,
    ignore,
)
from migrator.hours import Halted, Rate

T = TypeVar("T")

FIRST_WAIT = 0.5
"""Seconds before the second attempt; doubled for each further one."""
LONGEST_WAIT = 30.0
"""Cap of the wait between two attempts, in seconds."""
LONGEST_RETRY_AFTER = 300.0
"""Cap of a wait that the server asks for: beyond it, a later run tries again."""
_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)


def worth_another(error: BaseException) -> bool:
    """Return whether the same request may get a better answer later."""
    return isinstance(error, SourceError) and error.again is Again.LATER


def wait_before(attempt: int, error: BaseException | None, *, spread: float | None = None) -> float:
    """Return the seconds to wait after failed ``attempt``; the first is 1.

    The wait doubles from attempt to attempt and is spread over its upper half, so that requests
    that failed together do not return together. A time that the server named can make it longer,
    never shorter.
    """
    longest: float = min(FIRST_WAIT * 2.0 ** (attempt - 1), LONGEST_WAIT)
    share = random.random() if spread is None else spread  # noqa: S311 - jitter, not a secret
    return max(longest * (0.5 + share / 2), asked_for(error))


def asked_for(error: BaseException | None) -> float:
    """Return the seconds of a pause that the server asks for, at most the longest allowed."""
    named = error.retry_after if isinstance(error, Throttled) else None
    return min(named or 0.0, LONGEST_RETRY_AFTER)


def retry_after(value: str) -> float | None:
    """Return the seconds of a Retry-After, which is a number or an HTTP date; None: unreadable."""
    value = value.strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


class Retrier:
    """Makes a call up to ``attempts`` times, as long as another try may help.

    The error that is finally raised carries the number of tries in ``attempts``. With a
    ``breaker``, a call that failed because the server was gone, or turned everybody away, is made
    again when it is back; and one that was refused alone is made once more.
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
        tries, breaker = 0, self._breaker
        for left in range(MOST_OUTAGES, -1, -1):
            outages = breaker.outages if breaker else 0
            try:
                return await self._try(what, call, tries)
            except SourceError as error:
                if (
                    breaker is None
                    or not left
                    or not await breaker.explains(error, number=error.number, outages=outages)
                ):
                    raise
                tries = error.attempts
        raise AssertionError  # the last round returns or raises

    async def once(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of one ``call``, whose outcome the listener gets."""
        began = self._pacer.clock()
        try:
            result = await call()
        except SourceError as error:
            took = self._pacer.clock() - began
            self._listener(Requested(what, error.problem, took, str(error)))
            raise
        self._listener(Requested(what, "ok", self._pacer.clock() - began))
        return result

    async def _try(self, what: str, call: Callable[[], Awaitable[T]], before: int) -> tuple[T, int]:
        breaker, refused = self._breaker, False
        for made in range(1, self._attempts + 1):
            number, outages = (breaker.begin(), breaker.outages) if breaker else (0, 0)
            try:
                result = await self.once(what, call)
            except SourceError as error:
                error.attempts, error.number = before + made, number
                if breaker:
                    await breaker.failed(error)
                again = self._helps(what, error, refused=refused) and made < self._attempts
                refused = refused or not worth_another(error)
                wait = wait_before(made, error)
                if isinstance(error, Throttled) and (again or asked_for(error)):
                    self._pacer.hold(wait)  # it applies to the next calls, too
                if not again:
                    raise
                failure = error
            else:
                if breaker:
                    breaker.answered(number)
                return result, before + made
            self._listener(Retrying(what, failure.problem, made, wait))
            await self._sleep(wait)
            last = refused or made + 1 == self._attempts
            if breaker and last and breaker.outages == outages:
                await breaker.suspect(failure, number)  # so that no outage takes the last try
        raise AssertionError  # the last try returns or raises

    def _helps(self, what: str, error: SourceError, *, refused: bool) -> bool:
        """Return whether another try may help; ``refused``: one was refused before."""
        if worth_another(error):
            return True
        if self._breaker is None or not self._breaker.doubts(error):
            return False
        if crowded := self._breaker.crowded(what):
            self._pacer.overloaded(self._pacer.clock())
        return crowded or not refused


Sleep = Callable[[float], Awaitable[None]]
Clock = Callable[[], float]

STEP_EVERY: Final = 1.0
"""Seconds between two halvings: one bad second must not leave a single request at a time."""
GOOD_IN_A_ROW: Final = 16
"""Good answers after which one more request may be in flight."""
BEARABLE: Final = 1.0
"""Seconds to the head of a reply that never count as slow."""
TOLD: Final = 10.0
"""Seconds of a pause that is not announced."""
SLOWER: Final = 4.0
"""Multiple of its best time above which a source counts as slow."""
GLANCE: Final = 1.0
"""Seconds between two looks whether a halt is over, or a rate has changed."""
BURST: Final = 0.1
"""Seconds of a rate that may come at once after a pause, so that late timers cost nothing."""
SLOW: Final = 5.0
"""Seconds under way after which the listener learns of a request, then every :data:`GLANCE`."""

_name: ContextVar[str] = ContextVar("name", default="")


@contextmanager
def for_file(name: str) -> Iterator[None]:
    """Name the file that requests in the block are for, to people who wait for it."""
    token = _name.set(name)
    try:
        yield
    finally:
        _name.reset(token)


class Throttle:
    """Lets no more bytes come than ``rate`` allows, over all requests together.

    Who has got some waits until they are paid for, in the order in which they came. While nobody
    reads, the server waits, and nothing heaps up here. The wait is ours, so it counts neither as
    the server's silence nor as its slowness.
    """

    def __init__(
        self, rate: Rate, *, clock: Clock = time.monotonic, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._spent = self._paid = 0.0
        self._at = clock()

    async def spend(self, size: int) -> None:
        """Wait until ``size`` bytes, which have come, are paid for."""
        rate = self._pay()
        self._spent += size
        until = self._spent
        while rate and (wait := (until - self._paid) / rate) > 0:
            if wait < BURST / 10:
                return  # the next one pays
            await self._sleep(min(wait, GLANCE))  # by then there may be another rate
            rate = self._pay()

    def _pay(self) -> float:
        """Add what the time since the last call has paid; return the rate."""
        now, rate = self._clock(), self._rate()
        most = self._spent + rate * BURST
        paid = self._paid + (now - self._at) * rate if rate else most
        self._paid, self._at = min(paid, most), now
        return rate


class Pacer:
    """Lets requests start, never more than ``concurrency`` at once.

    With ``per_second`` above 0 the starts are spaced evenly instead of coming in bursts, because
    a burst is what hurts a small PHP server. A server that asks for a pause gets it from all
    requests, not only from the one it answered.

    The limit follows what the server can bear: trouble halves it, slowness lowers it by one, and
    a row of good answers raises it by one. The listener gets every change, and what takes long.

    While ``halted`` returns anything, no request starts, not even a probe. With ``rate``, there is
    a ``throttle`` for the bytes of replies.
    """

    def __init__(
        self,
        concurrency: int,
        per_second: float = 0.0,
        *,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
        listener: Listener = ignore,
        whom: str = "the source",
        halted: Halted | None = None,
        rate: Rate | None = None,
    ) -> None:
        self.clock = clock
        self.throttle = Throttle(rate, clock=clock) if rate is not None else None
        self._halted = halted
        self._halt = ""  # the one that was told
        self.halts = 0
        """How often requests were held up."""
        self._whom = whom
        self._most = self._limit = concurrency
        self._running = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._interval = 1.0 / per_second if per_second > 0 else 0.0
        self._next_start = 0.0
        self._gate: asyncio.Task[None] | None = None
        self._under_way: dict[Slot, None] = {}
        self._watch: asyncio.TimerHandle | None = None
        self._slow = 0  # how many were told
        self._good = 0
        self._stepped = -math.inf
        self._latencies: dict[str, Latency] = {}
        self._listener = listener
        self._sleep = sleep

    @property
    def limit(self) -> int:
        """How many requests may be in flight now."""
        return self._limit

    @property
    def held(self) -> float:
        """Seconds for which no request starts."""
        return max(0.0, self._next_start - self.clock())

    def slot(self, what: str = "a request", *, urgent: bool = False) -> Slot:
        """Return a context in which to make one request; ``what`` says which.

        An ``urgent`` one waits for its turn to start, but neither for others to end nor for the
        gate: it probes whether the gate may be opened.
        """
        return Slot(self, what, urgent=urgent)

    def hold(self, seconds: float) -> None:
        """Start no request during the next ``seconds``; announce a long pause."""
        until = self.clock() + seconds
        if seconds >= TOLD and until - self._next_start >= TOLD:
            text = f"{self._whom} asks for a pause: no request for {seconds:.0f} s"
            self._listener(Notice(text, "warning"))
            self._listener(Paused(seconds, asked=True))
        self._next_start = max(self._next_start, until)

    def close_until(self, done: asyncio.Task[None]) -> None:
        """Start only urgent requests until ``done``; if it fails, others get its error."""
        self._gate = done

    async def enter(self, *, urgent: bool) -> None:
        """Wait for a slot, then for the turn to start."""
        if urgent or self._running < self._limit:  # then nobody is waiting
            self._running += 1
        else:
            await self._queue_up()
        if self._gate is None and not (self._interval or self._next_start or self._halted):
            return  # mostly
        try:
            await self._wait_for_turn(urgent=urgent)
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """Release a slot."""
        self._running -= 1
        self._admit()

    def watch(self, slot: Slot) -> None:
        """Tell of the request of a slot once it takes long."""
        self._under_way[slot] = None
        if self._watch is None:  # one timer for all, as most requests are quick
            self._watch = asyncio.get_running_loop().call_later(SLOW, self._look)

    def unwatch(self, slot: Slot) -> None:
        """Tell no more of the request of a slot."""
        del self._under_way[slot]
        if self._slow and slot.seconds >= SLOW:
            self._tell_slow()

    def _look(self) -> None:
        """Look for slow requests, again soon, until none is under way."""
        self._watch = None
        self._tell_slow()
        if oldest := next(iter(self._under_way), None):
            wait = max(GLANCE, SLOW - oldest.seconds)
            self._watch = asyncio.get_running_loop().call_later(wait, self._look)

    def _tell_slow(self) -> None:
        slow = tuple(
            Request(slot.what, slot.name, slot.seconds, slot.received, slot.size)
            for slot in takewhile(lambda slot: slot.seconds >= SLOW, self._under_way)
        )
        if slow or self._slow:
            self._slow = len(slow)
            self._listener(Slow(slow))

    def answered(self, started: float, kind: str | None) -> None:
        """Count a good answer; with ``kind``, record how long such a request took."""
        if started < self._stepped:
            return  # it was made under an earlier load
        if kind is not None:
            latency = self._latencies.get(kind)
            if latency is None:
                latency = self._latencies[kind] = Latency()
            if not latency.bears(self.clock() - started):
                if latency.slow and self._limit > 1:
                    latency.forgive()
                    self._step(self._limit - 1, "slow")
                return
        self._good += 1
        if self._good >= GOOD_IN_A_ROW and self._limit < self._most:
            self._step(self._limit + 1, "recovered")

    def overloaded(self, started: float) -> None:
        """Count a timeout, or a reply that the server is overloaded."""
        self._good = 0
        now = self.clock()
        # Requests that ran beside one that failed fail for the same reason: they count once.
        if started >= self._stepped and now - self._stepped >= STEP_EVERY and self._limit > 1:
            self._step(self._limit // 2, "overloaded")

    def _step(self, limit: int, reason: str) -> None:
        if limit < self._limit:
            self._stepped = self.clock()
        self._good, self._limit = 0, limit
        self._listener(PaceChanged(limit, self._most, reason))
        self._admit()

    async def _queue_up(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with suppress(ValueError):  # it may have been skipped meanwhile
                    self._queue.remove(turn)
            else:  # let in and cancelled in the same moment
                self.leave()
            raise

    def _admit(self) -> None:
        while self._queue and self._running < self._limit:
            turn = self._queue.popleft()
            if not turn.done():
                self._running += 1
                turn.set_result(None)

    async def _wait_for_turn(self, *, urgent: bool) -> None:
        # A hold or a closed gate may come during the wait, so check again.
        while True:
            if (wait := self._halt_left()) > 0:
                await self._sleep(min(wait, GLANCE))
            elif self._gate is not None and not urgent:
                await self._pass(self._gate)
            elif (wait := self._next_start - self.clock()) > 0:
                await self._sleep(wait)
            else:
                break
        if self._interval:
            self._next_start = self.clock() + self._interval

    async def wait_out_halt(self) -> None:
        """Wait until requests may start, as far as a halt decides it."""
        while (wait := self._halt_left()) > 0:
            await self._sleep(min(wait, GLANCE))

    def _halt_left(self) -> float:
        """Return for how long no request may start, as far as it is known; tell about it once."""
        halt = self._halted() if self._halted is not None else None
        if halt is None:
            if self._halt:
                self._halt = ""
                self._listener(Paused(0.0))
                self._listener(Notice("going on"))
            return 0.0
        if halt.text != self._halt:
            self.halts += not self._halt
            self._halt = halt.text
            self._listener(Notice(halt.text))
            self._listener(Paused(halt.wait, asked=True, reason=halt.reason))
        return GLANCE if halt.wait is None else halt.wait

    async def _pass(self, gate: asyncio.Task[None]) -> None:
        await asyncio.wait([gate])  # unlike the task itself, this can be cancelled safely
        gate.result()
        if self._gate is gate:
            self._gate = None


class Slot:
    """One request's place, for the time of the request.

    ``received`` bytes of the reply have come, of ``size`` where that is known; both can be set.
    """

    __slots__ = ("_pacer", "_started", "_urgent", "name", "received", "size", "what")

    def __init__(self, pacer: Pacer, what: str, *, urgent: bool) -> None:
        self._pacer = pacer
        self._urgent = urgent
        self._started = 0.0
        self.what = what
        self.name = "" if urgent else _name.get()  # a probe is for nobody's file
        self.received: int | None = 0
        self.size = 0

    @property
    def seconds(self) -> float:
        """How long the request has been under way."""
        return self._pacer.clock() - self._started

    async def __aenter__(self) -> Self:
        """Wait until the request may start."""
        await self._pacer.enter(urgent=self._urgent)
        self._started = self._pacer.clock()
        self._pacer.watch(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Admit the next request."""
        self._pacer.unwatch(self)
        self._pacer.leave()

    def answered(self, kind: str | None = None) -> None:
        """Report the head of a good reply; ``kind`` names requests that take equally long."""
        self._pacer.answered(self._started, kind)

    def overloaded(self) -> None:
        """Report a timeout or a reply such as 429 or 503."""
        self._pacer.overloaded(self._started)


class Latency:
    """The time a source takes for one kind of request: lately, and at its best.

    Lately is a moving mean of about eight answers, so that a single slow one, such as a call that
    had to run the helpdesk's due tasks first, does not count as slowness. The best is the lowest
    mean seen; it drifts towards the present one, so that a server that stays slow is not throttled
    for ever.
    """

    SHARE: Final = 1 / 8
    CREEP: Final = 1 / 2000
    FIRST: Final = 8
    """Answers before a source can count as slow."""

    def __init__(self) -> None:
        self._mean = 0.0
        self._best = math.inf
        self._seen = 0

    @property
    def bound(self) -> float:
        """Seconds beyond which an answer is slow."""
        return max(BEARABLE, SLOWER * self._best)

    @property
    def slow(self) -> bool:
        """Whether the source is slow."""
        return self._mean > self.bound

    def bears(self, seconds: float) -> bool:
        """Add one answer; return whether it was fast enough."""
        self._seen += 1
        bound = self.bound
        share = max(1 / self._seen, self.SHARE)
        self._mean += (min(seconds, 2 * bound) - self._mean) * share
        if self._seen >= self.FIRST:
            creep = (self._mean - self._best) * self.CREEP if self._best < self._mean else 0.0
            self._best = min(self._best + creep, self._mean)
        return seconds <= bound

    def forgive(self) -> None:
        """Start over: the load has changed."""
        self._mean = self.bound / 2


MOST_OUTAGES: Final = 5
"""Outages after each of which one call is made again: it may be what brings the server down."""
MISSES_IN_A_ROW: Final = 20
"""Failed requests in a row, without a proper answer, after which the server is probed."""
LONGEST_TRUST: Final = 16 * MISSES_IN_A_ROW
"""Cap of the failures between two probes of a server that answers the probes."""
CROWDED: Final = 4
"""Answers between two refused requests below which there were too many at once."""
FIRST_PROBE: Final = 5.0
"""Seconds before the second probe of a server that is gone; tripled each time."""
LONGEST_PROBE: Final = 120.0
"""Cap of the wait between two probes, in seconds."""


def waits(patience: float) -> Iterator[float]:
    """Yield the seconds between probes of a server that is gone; they add up to ``patience``."""
    wait, left = FIRST_PROBE, patience
    while left > 0:
        yield min(wait, left)
        left -= wait
        wait = min(3 * wait, LONGEST_PROBE)


class Breaker:
    """Counts failures in a row over all calls; waits for the end of an outage for all of them.

    An outage is whatever the ``probe`` gets as well: silence, an overload, or a ban in any form.
    The probe makes one request that no gate holds back, and raises SourceError unless it gets a
    proper answer. A server that never answered is not waited for: its address or a key is wrong.
    ``answers`` and ``outages`` count the proper answers and the outages that are over.
    """

    def __init__(
        self,
        probe: Callable[[], Awaitable[object]],
        pacer: Pacer,
        *,
        patience: float,
        listener: Listener = ignore,
        sleep: Sleep = asyncio.sleep,
        whom: str = "the source",
    ) -> None:
        self._probe = probe
        self._whom = whom
        self._pacer = pacer
        self._patience = patience
        self._listener = listener
        self._sleep = sleep
        self._misses = 0
        self._trust = MISSES_IN_A_ROW
        self._trusted: dict[str, int] = {}
        self._refused = "", 0  # what was, and the answers until then
        self.answers = 0
        self._tries = 0
        self._newest = 0  # of the answered tries
        self.outages = 0
        self._looking: asyncio.Task[None] | None = None

    def begin(self) -> int:
        """Count a try of a call; return its number."""
        self._tries += 1
        return self._tries

    def answered(self, number: int = 0) -> None:
        """Count a proper answer to a try, by default to the last one begun."""
        self.answers += 1
        self._newest = max(self._newest, number or self._tries)
        self._misses = 0
        self._trusted.clear()
        self._trust = MISSES_IN_A_ROW

    def doubts(self, error: SourceError) -> bool:
        """Return whether an error may be an outage of a source that was there before."""
        return error.shared and self.answers > 0

    def crowded(self, what: str) -> bool:
        """Count a refused request; return whether another one was refused just before.

        Single requests are refused for what they ask; one in a few, for how many there are.
        """
        other, answers = self._refused
        self._refused = what, self.answers
        return other not in {"", what} and self.answers - answers < CROWDED

    async def failed(self, error: SourceError) -> None:
        """Count a failed request; return when the server is there, as far as we know.

        Raises SourceDown when it stays away, and what ends the wait, such as Interrupted.
        """
        if not error.shared:
            self.answered()
            return
        self._misses += 1
        if self._trusted.get(error.problem):
            self._trusted[error.problem] -= 1
        elif self.answers and self._misses >= MISSES_IN_A_ROW:
            await self._look(trust=error.problem)

    async def suspect(self, error: SourceError, number: int, *, trust: bool = False) -> None:
        """Probe the server unless it is known to be there, and wait for it.

        If a later try than ``number`` was answered, it is: an answer sent before it went away
        proves nothing. A refusal is final, so it is never believed without a probe. With
        ``trust``, a server that is there is probed more rarely after the same problem, but for an
        overload, which is nobody's own. Raises as :meth:`failed` does.
        """
        if not self.doubts(error):
            return
        if not worth_another(error):
            await self._look()
        elif self._newest < number and (error.overload or not self._trusted.get(error.problem)):
            await self._look(trust=error.problem if trust and not error.overload else "")

    async def explains(self, error: SourceError, *, number: int, outages: int) -> bool:
        """Return whether an outage is why a call has failed.

        ``outages`` were over when it began, ``number`` is that of its last try. Raises as
        :meth:`failed` does.
        """
        if error.shared and self.outages == outages:
            await self.suspect(error, number, trust=True)
        return error.shared and self.outages > outages

    async def aclose(self) -> None:
        """Stop probing."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    async def _look(self, *, trust: str = "") -> None:
        """Probe the server; simultaneous callers wait for the same probe.

        A server that is there is probed more rarely from now on after the problem ``trust``.
        """
        outages = self.outages
        if self._looking is not None:  # it began before the failure, and proves only an outage
            await self._heed(self._looking)
        if self.outages > outages:
            return
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_once(trust=trust))
            self._looking.add_done_callback(_heeded)
            self._pacer.close_until(self._looking)
        await self._heed(self._looking)

    async def _heed(self, looking: asyncio.Task[None]) -> None:
        await asyncio.wait([looking])
        looking.result()

    async def _look_once(self, *, trust: str) -> None:
        await self._look_until_there(trust=trust)
        self._looking = None  # after a failure it stays: the wait must not start again

    async def _look_until_there(self, *, trust: str) -> None:
        if (error := await self._missing()) is None:
            if trust:
                self._trust = min(2 * self._trust, LONGEST_TRUST)
                self._trusted[trust] = self._trust
            return
        self._pacer.overloaded(self._pacer.clock())
        waited, planned = 0.0, list(waits(self._patience))
        for number, share in enumerate(planned, 1):
            # Many clients that lost the same server must not come back together.
            jitter = 0.8 + 0.2 * random.random()  # noqa: S311 - no secret
            wait = share * jitter if number < len(planned) else self._patience - waited
            waited += await self._wait(wait, error, first=not waited)
            if (error := await self._missing()) is None:
                self._listener(Paused(0.0))
                self._listener(Notice(f"{self._whom} answers again; going on"))
                self.outages += 1
                self._misses = 0
                return
            if waited >= self._patience:
                break
        patience = self._patience
        told = f"{patience / 60:.0f} min" if patience >= 120 else f"{patience:.0f} s"
        raise SourceDown(
            f"{self._whom} did not come back within {told}: {str(error).rstrip('.')}. "
            "Progress is saved; once it answers, run the same command again; it resumes"
        )

    async def _wait(self, wait: float, error: SourceError, *, first: bool) -> float:
        wait = max(wait, self._pacer.held, asked_for(error))
        reason = error.problem.replace("_", " ")
        text = f"{self._whom} does not answer ({reason}); asking again in {wait:.0f} s"
        if not worth_another(error):
            why = f" ({error})" if first else ""
            text = f"{self._whom} turns us away{why}; asking again in {wait:.0f} s"
        self._listener(Notice(text, "warning"))
        self._listener(Paused(wait))
        await self._sleep(wait)
        return wait

    async def _missing(self) -> SourceError | None:
        """Probe once; return the error if the server is not there, or not there for us."""
        try:
            await self._probe()
        except SourceError as error:
            return error
        return None


def _heeded(task: asyncio.Task[None]) -> None:
    """Retrieve a task's error, in case its waiter was cancelled."""
    if not task.cancelled():
        task.exception()
