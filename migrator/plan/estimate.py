"""Measuring calls while they are made, in constant memory, and what a run will take by that."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

MOST_WINDOWS = 16
"""Windows of calls that are kept; when they are full, two become one."""

FEW = 0.2
"""The least spread, as a fraction: no server is the same for a whole day."""


@dataclass(slots=True)
class Window:
    """Some calls in a row: their number, seconds and decoded bytes."""

    calls: int = 0
    seconds: float = 0.0
    bytes: int = 0

    def include(self, other: Window) -> None:
        """Count what another window counts, too."""
        self.calls += other.calls
        self.seconds += other.seconds
        self.bytes += other.bytes


@dataclass(slots=True)
class Meter(Window):
    """How long calls of one kind took in all, and in windows of equally many calls.

    The windows show how far the pace of the server goes up and down in the course of a walk.
    """

    windows: list[Window] = field(default_factory=list)
    size: int = 1

    def add(self, seconds: float, size: int = 0) -> None:
        """Count one call."""
        call = Window(1, seconds, size)
        self.include(call)
        if not self.windows or self.windows[-1].calls >= self.size:
            if len(self.windows) == MOST_WINDOWS:
                self._halve()
            self.windows.append(Window())
        self.windows[-1].include(call)

    def _halve(self) -> None:
        self.size *= 2
        for left, right in zip(self.windows[::2], self.windows[1::2], strict=True):
            left.include(right)
        del self.windows[1::2]


@dataclass(frozen=True, slots=True)
class Ahead:
    """The work of a run: its requests of all kinds, the fetches among them and their bytes."""

    requests: int
    fetches: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """How long it takes, in seconds, and how far off that may well be."""

    seconds: float
    low: float
    high: float


def estimate(
    lists: Meter, fetches: Meter, ahead: Ahead, *, concurrency: int, per_second: float = 0.0
) -> Estimate | None:
    """Estimate how long a run takes; None where the measurements do not tell.

    Every request costs what a list costs (without lists: what a fetch cost), every byte what the
    fetches took beyond that. ``concurrency`` requests go on at the same time, and no more than
    ``per_second`` begin in a second (0: no limit).
    The spread is that of the pace from window to window, twice its standard deviation, but never
    less than ``FEW``.
    """
    known = lists if lists.calls else fetches
    if (ahead.fetches and not fetches.calls) or (ahead.requests and not known.calls):
        return None
    per_request = known.seconds / known.calls if known.calls else 0.0
    moving = max(0.0, fetches.seconds - fetches.calls * per_request)
    per_byte = moving / fetches.bytes if fetches.bytes else 0.0
    seconds = (ahead.requests * per_request + ahead.bytes * per_byte) / concurrency
    if not seconds:
        return Estimate(0.0, 0.0, 0.0)
    unsure = math.hypot(
        ahead.requests * _deviation(known), ahead.bytes * _error(fetches, per_request, per_byte)
    )
    off = 1 + max(FEW, 2 * unsure / concurrency / seconds)
    least = ahead.requests / per_second if per_second else 0.0
    return Estimate(max(seconds, least), max(seconds / off, least), max(seconds * off, least))


def _deviation(meter: Meter) -> float:
    """Return the standard deviation of the seconds for a call, from window to window."""
    windows = meter.windows
    if len(windows) < 2:
        return 0.0
    mean = meter.seconds / meter.calls
    squares = sum(one.calls * (one.seconds / one.calls - mean) ** 2 for one in windows)
    return math.sqrt(squares / meter.calls * len(windows) / (len(windows) - 1))


def _error(fetches: Meter, per_request: float, per_byte: float) -> float:
    """Return the standard error of the seconds for a byte."""
    windows = fetches.windows
    if len(windows) < 2 or not fetches.bytes:
        return 0.0
    squares = sum(
        (one.seconds - one.calls * per_request - one.bytes * per_byte) ** 2 for one in windows
    )
    return math.sqrt(squares * len(windows) / (len(windows) - 1)) / fetches.bytes
