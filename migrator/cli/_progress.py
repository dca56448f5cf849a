"""What a run says while it works: bars on a terminal, a line a minute elsewhere, or JSON lines.

All of it goes to stderr. Single failures are counted, not printed: the summary at the end of a
run lists them, when nobody has to catch them scrolling by.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from migrator import events
from migrator.cli._common import remember_run
from migrator.cli._tally import Expected, Tally
from migrator.report.plain import human_bytes, human_duration, iso_time, shown

LINE_EVERY = 60.0
"""Seconds between two lines where there is no terminal."""


class ProgressListener(events.Listener, Protocol):
    """A listener that owns a part of the screen until it is left."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Give the screen back."""


def progress(
    log_format: str = "text", stream: TextIO | None = None, *, plan: Expected | None = None
) -> ProgressListener:
    """Choose how progress is told on ``stream`` (None: stderr); use it in a ``with`` block.

    ``plan`` is what there will be to do, where that is known from the beginning.
    """
    stream = stream or sys.stderr
    if log_format == "json":
        return JsonLines(stream)
    told: Bars | Lines = Bars(stream) if stream.isatty() else Lines(stream)
    told.expect(plan)
    return told


class _Steady:
    """A stream whose reader may go away: a run must not end because nobody watches it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Base:
    def __init__(self, stream: TextIO) -> None:
        self._stream = _Steady(stream)
        self._tally = Tally()

    def expect(self, plan: Expected | None) -> None:
        """Take note of what there will be to do."""
        self._tally.plan = plan

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._stream.flush()


def _sentence(event: events.Event, tally: Tally) -> str | None:
    """Tell the text of an event that is meant to be read at once."""
    if isinstance(event, events.Notice):
        return ("Warning: " if event.level == "warning" else "") + shown(event.text)
    return f"{tally.opening}." if isinstance(event, events.RunStarted) else None


def _settled(tally: Tally) -> Iterator[str]:
    yield f"{tally.settled:,} of {tally.known:,} {tally.unit}s"
    of = f" of {human_bytes(tally.known_bytes)}" if tally.plan else ""
    yield human_bytes(tally.received) + of


def _found(tally: Tally) -> list[str]:
    """Tell what a dry run has seen so far: it settles nothing."""
    return [f"{tally.found:,} attachments, {human_bytes(tally.todo_bytes)} to fetch"]


class Lines(_Base):
    """One line at once and then every minute, for logs and cron mails."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._began = clock()
        self._due = self._began
        self._untold = False

    def __call__(self, event: events.Event, /) -> None:
        """Take one event; print when it is time."""
        self._tally.take(event)
        if text := _sentence(event, self._tally):
            self._print(text)
            if isinstance(event, events.RunStarted):  # that was the line at once
                self._due = self._clock() + LINE_EVERY
        elif isinstance(event, events.RunFinished) or self._clock() >= self._due:
            self._print(self._line())
            self._untold = False
            self._due = self._clock() + LINE_EVERY
        else:
            self._untold = True

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Tell how it ended where no run said so: of files that were read, for one."""
        if self._untold and self._tally.run_id is None and self._tally.settled:
            self._print(self._line())
        super().__exit__(kind, exc, tb)

    def _line(self) -> str:
        tally = self._tally
        seconds = self._clock() - self._began
        parts = [] if tally.kind == "plan" else [*_settled(tally)]
        if tally.tickets:
            total = f" of {tally.all_tickets:,}" if tally.all_tickets else ""
            parts.append(f"{tally.listed:,}{total} tickets listed")
        parts += _found(tally) if tally.kind == "plan" else []
        parts += [f"{count:,} {name}" for name, count in tally.troubles().items()]
        parts += [tally.pace] if tally.pace else []
        parts.append(f"after {human_duration(seconds)}")
        share = tally.share()
        if seconds and share and share < 1:
            parts.append(f"about {human_duration(seconds / share - seconds)} left")
        return ", ".join(parts)

    def _print(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class JsonLines(_Base):
    """One JSON object per event: ``ts``, ``run``, ``event`` and the event's own fields.

    EVENTS.md tells its readers what they may rely on.
    """

    def __init__(self, stream: TextIO, now: Callable[[], float] = time.time) -> None:
        super().__init__(stream)
        self._now = now

    def __call__(self, event: events.Event, /) -> None:
        """Print one event."""
        self._tally.take(event)
        if isinstance(event, events.Tick):
            return  # a sign of life is for people
        if isinstance(event, events.RunStarted):
            remember_run(self._tally.run_id)
        line: dict[str, Any] = {
            "ts": iso_time(int(self._now())),
            "run": self._tally.run_id,
            "event": re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower(),
        }
        fields = dataclasses.asdict(event)
        fields.pop("run_id", None)
        print(json.dumps(line | fields), file=self._stream, flush=True)


class Bars(_Base):
    """One bar for the tickets that are listed, one for the attachments that are fetched."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        from tqdm import tqdm

        self._tqdm = tqdm
        self._bars: dict[str, tqdm[Any]] = {}

    def __call__(self, event: events.Event, /) -> None:
        """Take one event; tqdm itself decides when a bar is drawn again."""
        tally = self._tally
        tally.take(event)
        if text := _sentence(event, tally):
            self._tqdm.write(text, file=self._stream)
        elif isinstance(event, events.TicketListed | events.TicketsCounted):
            self._show("ticket", tally.listed, tally.all_tickets)
        if tally.known and tally.kind != "plan":
            self._show(tally.unit, tally.settled, max(tally.known, tally.settled))

    def _show(self, unit: str, count: int, total: int | None) -> None:
        bar = self._bars.get(unit)
        if bar is None:
            bar = self._bars[unit] = self._tqdm(
                desc=f"{unit}s".ljust(11),
                unit=unit,
                file=self._stream,
                dynamic_ncols=True,
                position=len(self._bars),
            )
        bar.total = total
        bar.set_postfix_str(", ".join(self._words(unit)), refresh=False)
        bar.update(count - bar.n)

    def _words(self, unit: str) -> Iterator[str]:
        tally = self._tally
        if unit == "ticket" and tally.kind != "plan":
            return
        if unit == "ticket":
            yield from _found(tally)
        else:
            _, size = _settled(tally)
            yield size
        yield from (f"{name} {number:,}" for name, number in tally.troubles().items())
        if tally.pace:
            yield tally.pace

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Draw the bars for the last time and leave the cursor below them."""
        for bar in self._bars.values():
            bar.refresh()
        for bar in self._bars.values():  # closing one moves the cursor to where the next one is
            bar.close()
        super().__exit__(kind, exc, tb)
