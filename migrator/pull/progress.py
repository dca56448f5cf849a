"""Progress of a run: one model behind bars, lines, JSON, `status` and the status page.

The work of a run is known only as far as tickets were listed. So the share done is an estimate:
the share of tickets listed, times the share of their attachments that is done. It never falls
within a run, and reaches 1 only at its end.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from migrator import events
from migrator.hours import ANY_TIME, Hours

ALMOST = 0.999
"""The largest share before the end: work after the last attachment is not counted."""
BASE64 = 4 / 3
"""Bytes of a reply for a byte of a file."""
SLOW_KEPT = 5
"""How many slow requests are recorded: those under way for the longest time."""
LEAST_SECONDS = 3.0
LEAST_SHARE = 0.005
"""Below these no time left can be estimated."""

READS = ("verify", "handover", "audit", "deliver")
"""The kinds that read files or attachments again, all of which are known."""

TROUBLES = (
    "failed",
    "refused",
    "too_large",
    "missing",
    "gone",
    "damaged",
    "lost",
    "differ",
    "vanished",
    "unasked",
)
"""The states that are counted as troubles."""


@dataclass
class Progress:
    """The sum of the events so far; ``clock`` returns seconds, ``now`` the time.

    Requests may be made at ``hours``, which the time left takes into account.

    ``tickets_total`` is the number of tickets in scope, None if unknown. ``found`` are
    attachments listed, ``todo`` those to be fetched, ``settled`` those that are done; their bytes
    are as declared, ``received`` counts bytes from the network. ``expected`` is what is known from
    the beginning. ``pause`` is the last one, which began ``paused_at``; ``idle`` are the seconds of
    those before it that were our own. ``slow`` are the requests that took long at ``slow_at``.
    ``pace`` says how many requests are made at once while those
    are fewer than allowed, ``at_once`` the number since it changed. ``requests`` counts outcomes.
    """

    clock: Callable[[], float] = time.monotonic
    hours: Hours = ANY_TIME
    now: Callable[[], float] = time.time
    run_id: int | None = None
    kind: str = "run"
    expected: events.WorkExpected | None = None
    tickets: int = 0
    tickets_total: int | None = None
    found: int = 0
    todo: int = 0
    todo_bytes: int = 0
    settled: int = 0
    settled_bytes: int = 0
    received: int = 0
    retries: int = 0
    pauses: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    opening: str = ""
    pace: str = ""
    at_once: int | None = None
    pause: events.Paused | None = None
    paused_at: float = 0.0
    idle: float = 0.0
    slow: tuple[events.Request, ...] = ()
    slow_at: float = 0.0
    ended: bool = False
    cut: bool = False
    _best: float = 0.0
    _first: tuple[float, float] | None = None
    _foreseen: tuple[float, float | None] = (-math.inf, None)

    def take(self, event: events.Event) -> None:
        """Add one event."""
        if isinstance(event, events.Slow):
            self.slow, self.slow_at = event.requests, self.clock()
        self._count(event)
        if self._first is None and (raw := self._estimate()) is not None:
            self._first = (self.clock(), raw)

    def _count(self, event: events.Event) -> None:
        """Count an event of one attachment or ticket."""
        match event:
            case events.AttachmentSettled():
                self.settled += 1
                self.settled_bytes += event.declared
                self.received += event.received
                self.states[event.state] += 1
            case events.TicketListed():
                self.tickets += not event.again
                self.found += event.attachments
                self._queue(event.todo, event.todo_bytes)
            case events.LeftoversQueued():
                self._queue(event.todo, event.todo_bytes)
            case events.AttachmentAudited() | events.BlobChecked() | events.FileHandedOver():
                self._check(event)
            case events.FileDelivered():
                self.kind = "deliver"
                self.settled += 1
                self.todo = max(event.total, self.settled)
                self.received += event.size if event.state == "delivered" else 0
                self.states[event.state] += 1
            case events.Requested():
                self.requests[event.outcome] += 1
            case events.Retrying():
                self.retries += 1
            case _:
                self._frame(event)

    def _frame(self, event: events.Event) -> None:
        """Handle an event of the run as a whole."""
        match event:
            case events.RunStarted():
                self.kind = event.kind
                self.run_id = None if event.kind == "plan" else event.run_id  # it makes none
                self.opening = f"{'Resuming' if event.resumes else 'Starting'} {event.kind}"
                if event.listed:
                    self.opening += f": {event.done:,} of {event.listed:,} attachments are settled"
            case events.WorkExpected():
                self.expected = event
            case events.TicketsCounted():
                self.tickets_total = event.total
            case events.PaceChanged():
                slower = event.limit < event.most
                self.at_once = event.limit
                self.pace = f"{event.limit} of {event.most} at once" if slower else ""
            case events.Paused():
                self.pauses += not event.reason and event.wait != 0
                if self.held:
                    self.idle += self.clock() - self.paused_at
                # What the source asked for does not hide that it is away; our own pause does.
                if not event.asked or event.reason or self.paused() is None:
                    self.pause, self.paused_at = event, self.clock()
            case events.RunFinished():
                self.pause, self.slow = None, ()
                self.ended, self.cut = True, event.cut
            case _:
                pass

    def _queue(self, todo: int, size: int) -> None:
        self.todo += todo
        self.todo_bytes += size

    def _check(
        self, event: events.AttachmentAudited | events.BlobChecked | events.FileHandedOver
    ) -> None:
        """Add one file or attachment that was read again."""
        self.settled += 1
        self.todo = max(event.total, self.settled)
        if isinstance(event, events.AttachmentAudited):
            self.kind = "audit"
            self.received += event.received
            self.states[event.verdict if event.ours == "ok" else event.ours] += 1
        else:
            self.kind = "handover" if isinstance(event, events.FileHandedOver) else "verify"
            self.received += event.size
            self.states[event.verdict] += 1

    @property
    def all_tickets(self) -> int | None:
        """Return how many tickets there are, by the source or else by what is expected.

        None if unknown, also when more than that were listed: then it was wrong.
        """
        return None if self._miscounted else self._counted

    @property
    def _counted(self) -> int | None:
        if self.tickets_total is None and self.expected:
            return self.expected.tickets or None
        return self.tickets_total

    @property
    def _miscounted(self) -> bool:
        return not self.reads and self._counted is not None and self.tickets > self._counted

    @property
    def reads(self) -> bool:
        """Whether files or attachments are read again, all of which are known."""
        return self.kind in READS

    @property
    def over(self) -> bool:
        """Whether nothing is left to report."""
        return self.ended or (self.reads and self.settled >= self.todo)

    @property
    def unit(self) -> str:
        """Return the noun for what is counted."""
        return "file" if self.kind in ("verify", "handover", "deliver") else "attachment"

    @property
    def known(self) -> int | None:
        """Return how many attachments are to be settled; None while unknown."""
        if self.reads:
            return self.todo
        return max(self.todo, self.expected.attachments) if self.expected else None

    def share(self) -> float | None:
        """Return the estimated share of the work that is done, 0 to 1; None when unknown.

        It never falls from one call to the next, but a count that turns out wrong takes it away.
        """
        if self.ended and not self.cut:
            return 1.0
        if (raw := self._estimate()) is not None:
            self._best = max(self._best, raw if self.reads else min(raw, ALMOST))
        return self._best if self._first is not None and not self._miscounted else None

    def seconds_left(self) -> float | None:
        """Return the estimated seconds left at the pace so far, closed windows included.

        None when unknown, and while the source or somebody pauses it.
        """
        raw, quiet = self._estimate(), self.held == "quiet_hours"
        if self.over or raw is None or self._first is None:
            return None
        if self.paused() is not None and not quiet:
            return None
        seconds = (self.paused_at if quiet else self.clock()) - self._first[0] - self.idle
        gained = raw - self._first[1]
        if seconds < LEAST_SECONDS or gained < LEAST_SHARE:
            return None
        left = seconds * max(0.0, 1 - raw) / gained
        if not self.hours.settings or self.kind in ("verify", "handover", "deliver"):
            return left
        return self._by_the_clock(left, round(BASE64 * self.received * left / seconds))

    def _by_the_clock(self, seconds: float, size: int) -> float | None:
        """Return how long work takes within the hours, looked up once a second at most."""
        now = self.now()
        if not 0 <= now - self._foreseen[0] < 1:
            self._foreseen = now, self.hours.ends(now, seconds, size)
        ends = self._foreseen[1]
        return None if ends is None else max(0.0, ends - now)

    def _estimate(self) -> float | None:
        if self.reads:
            return self._mean(self.settled, self.todo, self.received, self._expected_bytes())
        total = self.all_tickets
        if not total or not self.tickets:
            return None
        walked = self.tickets / total
        if self.kind == "plan":  # it settles nothing
            return walked
        done = self.tickets + self.settled
        if self.expected:
            todo = max(self.tickets, self.expected.tickets) + (self.known or 0)
            size = max(self.todo_bytes, self.expected.bytes)
            return self._mean(done, todo, self.settled_bytes, size)
        return walked * self._mean(
            done, self.tickets + self.todo, self.settled_bytes, self.todo_bytes
        )

    def _expected_bytes(self) -> int:
        return self.expected.bytes if self.expected else 0

    @staticmethod
    def _mean(done: int, todo: int, done_bytes: int, todo_bytes: int) -> float:
        """Return the mean of the shares of requests and of bytes: both take time."""
        shares = [min(1.0, done / max(todo, 1))]
        if todo_bytes:
            shares.append(min(1.0, done_bytes / todo_bytes))
        return sum(shares) / len(shares)

    def paused(self) -> int | None:
        """Return the seconds until the source is probed again; None when there is no pause.

        0 when only somebody who resumes ends it.
        """
        if self.pause is None or self.pause.wait == 0:
            return None
        left = self.paused_at + (self.pause.wait or 0.0) - self.clock()
        if self.pause.reason:
            return max(0, round(left))
        return None if self.pause.asked and left <= 0 else max(0, round(left))

    @property
    def held(self) -> str:
        """Why we make no request ourselves, as of Paused; nothing for a pause of the source."""
        return self.pause.reason if self.pause is not None else ""

    def lasting(self) -> list[events.Request]:
        """Return the requests that take long, as of now, the oldest first."""
        since = self.clock() - self.slow_at if self.slow else 0.0
        return [replace(one, seconds=one.seconds + since) for one in self.slow]

    def troubles(self) -> dict[str, int]:
        """Return what went wrong so far, by state, and how often a request was tried again."""
        found = {name: self.states[name] for name in TROUBLES if self.states[name]}
        return found | ({"retries": self.retries} if self.retries else {})

    def facts(self) -> dict[str, object]:
        """Return all of it as a JSON object: what EVENTS.md says of ``progress``."""
        share, left = self.share(), self.seconds_left()
        return {
            "kind": self.kind,
            "tickets": self.tickets,
            "tickets_total": self.all_tickets,
            "attachments": self.settled,
            "attachments_known": self.known,
            "bytes": self.received,
            "share": None if share is None else int(share * 10_000) / 10_000,
            "seconds_left": None if left is None else round(left),
            "troubles": self.troubles(),
            "paused": self.paused(),
            "pause_reason": self.held,
            "pauses": self.pauses,
            "slow": [
                {
                    "what": one.what,
                    "seconds": round(one.seconds),
                    "received": one.received,
                    "size": one.size or None,
                }
                for one in self.lasting()[:SLOW_KEPT]
            ],
            "at_once": self.at_once,
            "requests": dict(self.requests),
            "ended": self.ended,
        }
