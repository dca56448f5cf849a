"""Times of the week: when requests may be made, and how many bytes a second may come then.

Times are those that a clock on the wall shows. So a window is an hour shorter or longer in the
night in which that clock is changed: a minute that it skips is in no window, one that it shows
twice is in its window twice.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAY: Final = 1440
_WEEK: Final = 7 * _DAY
_JUMP: Final = 360
"""Minutes that are skipped at once: no clock is changed twice in less."""
_MOST: Final = 1000
"""Characters of a setting at most."""
_LONGEST: Final = 10 * 366 * 86_400
"""Seconds beyond which no end is foreseen."""

WINDOWS_HINT: Final = 'must be times such as "Mon-Fri 19:00-07:00, Sat-Sun"'
RATES_HINT: Final = (
    'must be a size such as "2 MiB", or sizes with their times, such as '
    '"Mon-Fri 07:00-19:00 200 KiB, else 5 MiB"'
)

_TIMES: Final = re.compile(r"([0-9]{1,2}):([0-9]{2})\s*-\s*([0-9]{1,2}):([0-9]{2})")
_RATE: Final = re.compile(r"(.*?)\s*\b(unlimited|[0-9]+(?:\.[0-9]+)?\s*[kmgt]?i?b)(?:/s)?")

Spans = tuple[tuple[int, int], ...]
"""Minutes of the week at which spans begin and end; an end may lie in the next week."""
ALWAYS: Final[Spans] = ((0, _WEEK),)


class Halt(NamedTuple):
    """No request may start now.

    ``text`` says why to people, ``reason`` to programs: ``quiet_hours`` or ``paused``. It is over
    after ``wait`` seconds, None: nobody knows when.
    """

    reason: str
    text: str
    wait: float | None


Halted = Callable[[], Halt | None]
"""Returns why no request may start now; None: it may."""
Rate = Callable[[], float]
"""Returns the bytes that may come in a second now; 0: no limit."""


@dataclass(frozen=True)
class Hours:
    """When requests may be made, and how fast bytes may come. Arguments are Unix seconds.

    Without ``windows`` always. The first of ``rates`` whose spans fit counts, 0 is no limit.
    ``zone`` None is the clock of this machine.
    """

    windows: Spans = ()
    rates: tuple[tuple[Spans, int], ...] = ()
    zone: ZoneInfo | None = None

    def open(self, at: float) -> bool:
        """Return whether requests may be made."""
        return not self.windows or _within(self.windows, self._local(at)[0])

    def rate(self, at: float) -> int:
        """Return how many bytes may come in a second; 0: no limit."""
        if not self.rates:
            return 0
        minute = self._local(at)[0]
        return next((rate for spans, rate in self.rates if _within(spans, minute)), 0)

    def opens(self, at: float) -> float:
        """Return when the next request may be made: now, or when a window begins."""
        while not self.open(at):
            at = self.later(at)
        return at

    def closes(self, at: float) -> float | None:
        """Return when the window ends that is open now; None: never."""
        end = at + 8 * 86_400
        while at < end:
            if not self.open(at):
                return at
            at = self.later(at)
        return None

    def later(self, at: float) -> float:
        """Return a later time, before which nothing changes."""
        minute, second, offset = self._local(at)
        at -= second
        edges = [edge for spans in self._spans() for span in spans for edge in span]
        ahead = min([(edge - minute - 1) % _WEEK + 1 for edge in edges], default=_JUMP)
        ahead = min(ahead, _JUMP)
        if self._local(at + 60 * ahead)[2] == offset:
            return at + 60 * ahead
        # The clock is changed meanwhile.
        return next(
            then
            for then in (at + 60 * n for n in range(1, ahead + 1))
            if self._local(then)[2] != offset
        )

    def ends(self, at: float, seconds: float, size: int) -> float | None:
        """Return when work will end that takes so many seconds, and brings ``size`` bytes.

        ``seconds`` are those without windows and rates. None: nobody can foresee it.
        """
        left, last = 1.0, at + _LONGEST
        while at < last:
            then = self.later(at)
            if self.open(at):
                rate = self.rate(at)
                whole = max(seconds, size / rate if rate else 0.0)
                if left * whole <= then - at:
                    return at + left * whole
                left -= (then - at) / whole
            at = then
        return None

    def halt(self, at: float) -> Halt | None:
        """Return why no request may start; None: it may."""
        opens = self.opens(at)
        if opens <= at:
            return None
        text = f"waiting until {self.told(opens)}, quiet hours{self.place}"
        return Halt("quiet_hours", text, opens - at)

    def told(self, at: float, *, dated: bool = False) -> str:
        """Return a time as day and minute, such as ``Mon 19:00``; ``dated`` with its date."""
        minute = self._local(at)[0]
        day, minute = divmod(minute, _DAY)
        date = f"{datetime.fromtimestamp(at, self.zone):%Y-%m-%d} " if dated else ""
        return f"{_DAYS[day][:3].capitalize()} {date}{minute // 60:02}:{minute % 60:02}"

    @property
    def settings(self) -> str:
        """The settings that may make work longer; nothing where there are none."""
        named = {"kayako.windows": self.windows, "kayako.bytes_per_second": self.rates}
        return " and ".join(name for name, value in named.items() if value)

    @property
    def place(self) -> str:
        """Whose time it is, in brackets; nothing for that of this machine."""
        return f" (time of {self.zone.key})" if self.zone is not None else ""

    def _spans(self) -> Iterator[Spans]:
        yield self.windows
        yield from (spans for spans, _ in self.rates)

    def _local(self, at: float) -> tuple[int, float, float]:
        """Return the minute of the week, the seconds into it, and how far the clock is ahead."""
        if self.zone is None:
            here = time.localtime(at)
            minute = here.tm_wday * _DAY + here.tm_hour * 60 + here.tm_min
            return minute, here.tm_sec + at % 1, here.tm_gmtoff or 0
        there = datetime.fromtimestamp(at // 1, self.zone)
        minute = there.weekday() * _DAY + there.hour * 60 + there.minute
        offset = there.utcoffset()
        return minute, there.second + at % 1, offset.total_seconds() if offset else 0.0


ANY_TIME: Final = Hours()


def _within(spans: Spans, minute: int) -> bool:
    return any(begin <= minute < end or begin <= minute + _WEEK < end for begin, end in spans)


def windows(text: str) -> Spans:
    """Read times of the week. Raises ValueError with a text for the user, which quotes none."""
    found: list[tuple[int, int]] = []
    whole: set[int] = set()
    named: bool | None = None
    for number, entry in enumerate(_entries(text), 1):
        days, times = _parts(entry, f"{WINDOWS_HINT}; part {number}")
        if named is not None and named != bool(days):
            raise ValueError(f"{WINDOWS_HINT}; write days in each of its parts, or in none")
        named = bool(days)
        if times and whole - {5, 6}:
            raise ValueError(
                f"{WINDOWS_HINT}; part {number} has times, one before it only days: write a list "
                'of days as "Mon Wed 19:00-23:00", whole days as "Mon 00:00-24:00, Wed 19:00-23:00"'
            )
        whole.update(() if times else days)
        found += _spans_of(days, times)
    return tuple(found)


def rates(text: str, size: Callable[[object], int]) -> tuple[tuple[Spans, int], ...]:
    """Read bytes per second, with times or without. Raises ValueError, as :func:`windows`.

    ``size`` reads one size.
    """
    found: list[tuple[Spans, int]] = []
    entries = _entries(text)
    for number, entry in enumerate(entries, 1):
        match = _RATE.fullmatch(entry)
        if match is None:
            raise ValueError(RATES_HINT)
        when = match[1].strip()
        rate = 0 if match[2] == "unlimited" else size(match[2])
        if when in {"", "else"}:
            if number < len(entries):
                raise ValueError(f"{RATES_HINT}; part {number} is for all times, so it ends it")
            spans = ALWAYS
        else:
            spans = tuple(_spans_of(*_parts(when, f"{RATES_HINT}; part {number}")))
        found.append((spans, rate))
    return tuple(found)


def _entries(text: str) -> list[str]:
    """Return the parts between commas; days that a comma joins without a space stay together."""
    if len(text) > _MOST:
        raise ValueError(f"must not be longer than {_MOST} characters")
    plain = re.sub(r"[\u2010-\u2015\u2212]", "-", text.lower())
    plain = re.sub(r"(?<=[a-z]),(?=[a-z])(?!else)", " ", plain)
    return [" ".join(entry.split()) for entry in plain.split(",")]


def _parts(entry: str, what: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Return the days and the times of an entry; either may be absent, but not both."""
    if not entry:
        raise ValueError(f"{what} is empty")
    times = [_time(match, what) for match in _TIMES.finditer(entry)]
    first_time = _TIMES.search(entry)
    text = entry[: first_time.start()] if first_time else entry
    if _TIMES.sub("", entry[len(text) :]).strip():
        raise ValueError(f"{what} has something behind its times")
    days: list[int] = []
    for name in re.sub(r"\s*-\s*", "-", text).split():
        first, between, last = name.partition("-")
        begin, end = _day(first, what), _day(last if between else first, what)
        days += [day % 7 for day in range(begin, end + (7 if end < begin else 0) + 1)]
    return days, times


def _day(name: str, what: str) -> int:
    for number, full in enumerate(_DAYS):
        if len(name) >= 3 and full.startswith(name):
            return number
    raise ValueError(f"{what} has something that is neither a day nor a time")


def _time(match: re.Match[str], what: str) -> tuple[int, int]:
    """Return the minutes of the day at which a range begins and ends, the next day perhaps."""
    hours, minutes, to_hours, to_minutes = map(int, match.groups())
    begin, end = 60 * hours + minutes, 60 * to_hours + to_minutes
    if minutes > 59 or to_minutes > 59 or begin >= _DAY or end > _DAY:
        raise ValueError(f"{what} has a time that no clock shows; 24:00 is an end only")
    if begin == end:
        raise ValueError(f'{what} has no length; a whole day is "00:00-24:00"')
    return begin, end + _DAY if end < begin else end


def _spans_of(days: list[int], times: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for day in days or range(7):
        for begin, end in times or [(0, _DAY)]:
            yield day * _DAY + begin, day * _DAY + end
