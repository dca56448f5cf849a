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
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from migrator import events
from migrator.report.plain import human_bytes, human_duration, iso_time, shown

LINE_EVERY = 60.0
"""Seconds between two lines where there is no terminal."""


@dataclass
class Tally:
    """What the events so far add up to; ``todo`` grows while tickets are still being listed.

    ``pace`` tells how many requests are made at once while those are fewer than allowed.
    """

    run_id: int | None = None
    kind: str = "run"
    tickets: int = 0
    tickets_total: int | None = None
    todo: int = 0
    settled: int = 0
    received: int = 0
    retries: int = 0
    states: Counter[str] = field(default_factory=Counter)
    opening: str = ""
    pace: str = ""

    def take(self, event: events.Event) -> None:
        """Add one event."""
        match event:
            case events.RunStarted():
                self.run_id, self.kind = event.run_id, event.kind
                self.opening = f"{'Resuming' if event.resumes else 'Starting'} {event.kind}"
                if event.listed:
                    self.opening += f": {event.done:,} of {event.listed:,} attachments are settled"
            case events.TicketsCounted():
                self.tickets_total = event.total
            case events.TicketListed():
                self.tickets += 1
                self.todo += event.todo
            case events.LeftoversQueued():
                self.todo += event.todo
            case events.AttachmentSettled():
                self.settled += 1
                self.received += event.received
                self.states[event.state] += 1
            case events.AttachmentAudited() | events.BlobChecked() | events.FileHandedOver():
                self._check(event)
            case events.Retrying():
                self.retries += 1
            case events.PaceChanged():
                slower = event.limit < event.most
                self.pace = f"{event.limit} of {event.most} at once" if slower else ""
            case _:
                pass

    def _check(
        self, event: events.AttachmentAudited | events.BlobChecked | events.FileHandedOver
    ) -> None:
        """Add one file or attachment that was read again."""
        self.settled += 1
        self.todo = event.total
        if isinstance(event, events.AttachmentAudited):
            self.kind = "audit"
            self.received += event.received
            self.states[event.verdict if event.ours == "ok" else event.ours] += 1
        else:
            self.kind = "verify"
            self.received += event.size
            self.states[event.verdict] += 1

    @property
    def listed(self) -> int:
        """Count the tickets listed; one that changed meanwhile is listed twice, but told once."""
        return self.tickets if self.tickets_total is None else min(self.tickets, self.tickets_total)

    @property
    def unit(self) -> str:
        """Name what is being counted."""
        return "file" if self.kind == "verify" else "attachment"

    def expected(self) -> float:
        """Estimate how many will be settled in the end, from the tickets listed so far."""
        if not self.tickets or not self.tickets_total:
            return self.todo
        return self.todo * max(1.0, self.tickets_total / self.tickets)

    def troubles(self) -> dict[str, int]:
        """Count what went wrong so far, by state, and how often a request was tried again."""
        names = ("failed", "missing", "gone", "damaged", "lost", "differ", "vanished", "unasked")
        found = {name: self.states[name] for name in names if self.states[name]}
        return found | ({"retries": self.retries} if self.retries else {})


class ProgressListener(events.Listener, Protocol):
    """A listener that owns a part of the screen until it is left."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Give the screen back."""


def progress(log_format: str = "text", stream: TextIO | None = None) -> ProgressListener:
    """Choose how progress is told on ``stream`` (None: stderr); use it in a ``with`` block."""
    stream = stream or sys.stderr
    if log_format == "json":
        return JsonLines(stream)
    return Bars(stream) if stream.isatty() else Lines(stream)


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


class Lines(_Base):
    """One line at once and then every minute, for logs and cron mails."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._began = clock()
        self._due = self._began

    def __call__(self, event: events.Event, /) -> None:
        """Take one event; print when it is time."""
        self._tally.take(event)
        if text := _sentence(event, self._tally):
            self._print(text)
            if isinstance(event, events.RunStarted):  # that was the line at once
                self._due = self._clock() + LINE_EVERY
        elif isinstance(event, events.RunFinished) or self._clock() >= self._due:
            self._print(self._line())
            self._due = self._clock() + LINE_EVERY

    def _line(self) -> str:
        tally = self._tally
        seconds = self._clock() - self._began
        parts = [f"{tally.settled:,} of {tally.todo:,} {tally.unit}s", human_bytes(tally.received)]
        if tally.tickets:
            total = f" of {tally.tickets_total:,}" if tally.tickets_total else ""
            parts.append(f"{tally.listed:,}{total} tickets listed")
        parts += [f"{count:,} {name}" for name, count in tally.troubles().items()]
        parts += [tally.pace] if tally.pace else []
        parts.append(f"after {human_duration(seconds)}")
        if seconds and tally.settled and tally.expected() > tally.settled:
            left = (tally.expected() - tally.settled) * seconds / tally.settled
            parts.append(f"about {human_duration(left)} left")
        return ", ".join(parts)

    def _print(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class JsonLines(_Base):
    """One JSON object per event: ``ts``, ``run``, ``event`` and the event's own fields."""

    def __init__(self, stream: TextIO, now: Callable[[], float] = time.time) -> None:
        super().__init__(stream)
        self._now = now

    def __call__(self, event: events.Event, /) -> None:
        """Print one event."""
        self._tally.take(event)
        if isinstance(event, events.Tick):
            return  # a sign of life is for people
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
            self._show("ticket", tally.listed, tally.tickets_total)
        if tally.todo:
            self._show(tally.unit, tally.settled, max(tally.todo, tally.settled))

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
        if unit != "ticket":
            words = [human_bytes(self._tally.received)]
            words += [f"{name} {number:,}" for name, number in self._tally.troubles().items()]
            words += [self._tally.pace] if self._tally.pace else []
            bar.set_postfix_str(", ".join(words), refresh=False)
        bar.update(count - bar.n)

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Draw the bars for the last time and leave the cursor below them."""
        for bar in self._bars.values():
            bar.refresh()
        for bar in self._bars.values():  # closing one moves the cursor to where the next one is
            bar.close()
        super().__exit__(kind, exc, tb)
