"""Progress of a run: bars on a terminal, a line a minute elsewhere, or JSON lines.

All of it goes to stderr. Single failures are counted, not printed: the summary at the end of a
run lists them.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from migrator import events
from migrator.cli.common import (
    command,
    configured_hours,
    outcome,
    print_lines_with,
    remember_line,
    remember_run,
    verbosity,
)
from migrator.pull.progress import READS, Progress
from migrator.report.verdict import done, pause, waiting
from migrator.text import brief, counted, human_bytes, human_duration, iso_time, shown

if TYPE_CHECKING:
    from tqdm import tqdm

LINE_EVERY = 60.0
"""Seconds between two lines where there is no terminal."""
NAME_SHOWN = 80
"""Characters of the name of a file that takes long."""


def progress(log_format: str = "text", stream: TextIO | None = None) -> ProgressListener:
    """Return the progress printer for ``stream`` (None: stderr); use it in a ``with`` block."""
    stream = stream or sys.stderr
    if log_format == "json":
        listener: ProgressListener = JsonLines(stream)
    else:
        listener = Bars(stream) if _draws(stream) else Lines(stream)
    listener.verbosity = verbosity()
    listener.progress.hours = configured_hours()
    if (name := command()) in READS:  # any other says what it is
        listener.progress.kind = name
    return listener


def _draws(stream: TextIO) -> bool:
    """Return whether a line can be drawn again on a terminal, and how long lines may be."""
    size = _size(stream)
    known = size is None or size.columns > 0
    return stream.isatty() and os.environ.get("TERM") != "dumb" and known


def _size(stream: TextIO | _Steady) -> os.terminal_size | None:
    """Return the size of a terminal; None for what is no real one."""
    with suppress(OSError):
        return os.get_terminal_size(stream.fileno())
    return None


class _Steady:
    """A stream whose reader may go away, which must not end a run."""

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


class ProgressListener:
    """A listener that owns a part of the screen until it is closed; ``clock`` returns seconds.

    ``verbosity`` says what is printed: -1 only warnings, 1 requests as well.
    """

    verbosity = 0

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = _Steady(stream)
        self._clock = clock
        self.progress = Progress(clock)

    def __call__(self, event: events.Event, /) -> None:
        """Handle one event."""
        self.progress.take(event)
        if isinstance(event, events.Notice):
            remember_line(event.text)
        if isinstance(event, events.RunStarted):
            remember_run(self.progress.run_id)
        wanted = 1 if isinstance(event, events.Requested) else 0
        if isinstance(event, events.Notice) and event.level == "warning":
            wanted = -1
        if wanted <= self.verbosity:
            self._hear(event)

    def _hear(self, event: events.Event) -> None:
        """Print what is to be printed of an event that counts already."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        """Return the listener itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Release the screen."""
        self._stream.flush()


def _sentence(event: events.Event, told: Progress) -> str | None:
    """Return the text of an event that is printed at once; None for others."""
    if isinstance(event, events.Notice):
        return ("Warning: " if event.level == "warning" else "") + shown(event.text)
    if isinstance(event, events.Requested):
        return shown(outcome(event))
    return f"{told.opening}." if isinstance(event, events.RunStarted) else None


def _figures(told: Progress) -> Iterator[str]:
    """Yield in words what is done so far; a dry run settles nothing."""
    if told.kind != "plan" and (told.settled or told.known or told.todo):
        yield counted(told.settled, told.unit, told.known)
        size = f" of {human_bytes(told.expected.bytes)}" if told.expected else ""
        yield human_bytes(told.received) + size
    if told.tickets:
        yield f"{counted(told.tickets, 'ticket', told.all_tickets)} listed"
    if told.kind == "plan":
        yield f"{counted(told.found, 'attachment')}, {human_bytes(told.todo_bytes)} to fetch"
    yield from (f"{count:,} {name}" for name, count in told.troubles().items())
    if told.pace:
        yield told.pace


def _pause(told: Progress) -> list[str]:
    """Return in words that nothing is requested, and for how long; nothing without a pause."""
    left = told.paused()
    return [] if left is None else [pause(left, told.held)]


def _slowest(told: Progress) -> str:
    """Return in words what takes the longest, or nothing; its name last, as it may be cut."""
    if not (slow := told.lasting()):
        return ""
    first = slow[0]
    of = f" (1 of {len(slow)})" if len(slow) > 1 else ""
    name = f', "{brief(first.name, NAME_SHOWN)}"' if first.name else ""
    text = waiting(shown(first.what), first.seconds, first.received, first.size)
    return f"slow{of}: {text}{name}"


def _estimate(told: Progress) -> list[str]:
    """Return in words the share done and the time left; nothing once it has ended."""
    return done(told.share(), told.seconds_left(), ended=told.over)


class Lines(ProgressListener):
    """One line at once and then every minute, for logs and cron mails."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream, clock)
        self._began = clock()
        self._due = self._began
        self._figures: list[str] | None = None

    def _hear(self, event: events.Event) -> None:
        """Print when it is time."""
        if text := _sentence(event, self.progress):
            self._print(text)
            if isinstance(event, events.RunStarted):  # was printed at once
                self._due = self._clock() + LINE_EVERY
        elif isinstance(event, events.WorkExpected):
            return  # expected work is printed with what is done
        elif isinstance(event, events.RunFinished) or self._clock() >= self._due:
            self._print(self._line())
            self._due = self._clock() + LINE_EVERY

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Print the last state where no run did, as after reading files."""
        told = self.progress
        reads = self.verbosity >= 0 and told.run_id is None and told.settled
        if reads and list(_figures(told)) != self._figures:
            self._print(self._line())
        super().__exit__(kind, exc, tb)

    def _line(self) -> str:
        """Return how far it is; figures only if they differ from those of the last line."""
        told, figures = self.progress, list(_figures(self.progress))
        known = figures == self._figures and not told.over
        self._figures = figures
        after = f"after {human_duration(self._clock() - self._began)}"
        parts = [*(["nothing new"] if known else figures), *_pause(told), after, *_estimate(told)]
        return ", ".join([*parts, *filter(None, [_slowest(told)])])

    def _print(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class JsonLines(ProgressListener):
    """One JSON object per event: ``ts``, ``run``, ``event`` and the event's own fields.

    Once a minute one of ``progress``. EVENTS.md says what readers may rely on.
    """

    def __init__(
        self,
        stream: TextIO,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(stream, clock)
        self._now = now
        self._due = clock() + LINE_EVERY

    def _hear(self, event: events.Event) -> None:
        """Print one event."""
        if isinstance(event, events.Tick | events.Slow):  # `progress` has what they tell
            if self._clock() >= self._due:
                self._due = self._clock() + LINE_EVERY
                self._print("progress", self.progress.facts())
            return
        fields = dataclasses.asdict(event)
        fields.pop("run_id", None)
        self._print(re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower(), fields)

    def _print(self, event: str, fields: dict[str, Any]) -> None:
        line: dict[str, Any] = {
            "ts": iso_time(int(self._now())),
            "run": self.progress.run_id,
            "event": event,
        }
        print(json.dumps(line | fields), file=self._stream, flush=True)


DRAWN_EVERY = 0.1
"""Seconds between two looks of a bar."""
WHOLE = 1000
"""The count of a full bar, which shows a share, not a number of anything."""


class Bars(ProgressListener):
    """One bar, as long as the share done, with figures behind it; below it what takes long."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream, clock)
        from tqdm import tqdm

        self._tqdm = tqdm
        self._began = self._due = clock()
        self._bar: tqdm[Any] | None = None
        self._below: tqdm[Any] | None = None
        self._size: os.terminal_size | None = None

    def _hear(self, event: events.Event) -> None:
        """Draw the bar if it is due."""
        if text := _sentence(event, self.progress):
            self.say(text)
            return
        if self._clock() >= self._due:
            self._show()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._fit(start_over=True)
        self._tqdm.write(text, file=self._stream)

    def __enter__(self) -> Self:
        """Print what others print on stderr above the bar, too."""
        print_lines_with(self.say)
        return self

    def _fit(self, *, start_over: bool = False) -> None:
        """Fit the bars to the terminal.

        All is erased to ``start_over``, and where it is narrower: what tqdm overwrites would wrap.
        """
        before, self._size = self._size, _size(self._stream)
        if self._size is None:
            return
        narrower = before is not None and self._size.columns < before.columns
        if self._bar is not None and (narrower or start_over):
            self._stream.write("\r\x1b[J")
        for bar in (self._bar, self._below):
            if bar is not None:
                bar.ncols, bar.nrows = _room(self._size)
                if narrower:
                    bar.sp = bar.status_printer(bar.fp)

    def _new(self, **how: Any) -> tqdm[Any]:
        """Return a new line for tqdm to draw."""
        self._fit()
        columns, rows = (None, None) if self._size is None else _room(self._size)
        return self._tqdm(
            file=self._stream,
            dynamic_ncols=self._size is None,  # COLUMNS may say how wide it is
            ncols=columns,
            nrows=rows,
            miniters=0,
            **how,
        )

    def _plain(self) -> str:
        """Return the format of a bar whose length is not known."""
        return f"{{desc}}: {self._since()}"

    def _since(self) -> str:
        """Return the end of a format: the time since it began, not since the bar is shown."""
        return f"[{self._tqdm.format_interval(self._clock() - self._began)}{{postfix}}]"

    def _show(self) -> None:
        """Draw the bar, once there is anything to show on it."""
        told, bar = self.progress, self._bar
        if not (told.tickets or told.todo or told.slow or told.paused() is not None):
            return
        self._due = self._clock() + DRAWN_EVERY
        if bar is None:
            desc = f"{told.unit}s" if told.reads else told.kind
            bar = self._bar = self._new(desc=desc, bar_format=self._plain())
        self._fit()
        share = told.share()
        bar.bar_format = self._plain()
        if share is not None:  # tqdm itself would round it up to all
            bar.total = WHOLE
            bar.bar_format = f"{{desc}}: {int(share * 100):3}%|{{bar}}| {self._since()}"
        # A pause is first, as a narrow terminal cuts the end.
        bar.set_postfix_str(
            ", ".join([*_pause(told), *_figures(told), *_left(told)]), refresh=False
        )
        bar.update(max(0, int((share or 0.0) * WHOLE) - bar.n))  # never back
        self._show_slow(_slowest(told))

    def _show_slow(self, text: str) -> None:
        if not text:
            if self._below is not None:
                self._below.close()
                self._below = None
            return
        if self._below is None:
            self._below = self._new(desc=text, bar_format="{desc}", leave=False, position=1)
        self._below.set_description_str(text, refresh=False)
        self._below.update()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Draw the bar for the last time and leave the cursor below it."""
        print_lines_with(None)
        if self.verbosity >= 0:
            self._show()
        self._fit(start_over=True)
        self._show_slow("")
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()
        super().__exit__(kind, exc, tb)


def _room(size: os.terminal_size) -> tuple[int, int]:
    """Return columns and rows for bars, with room for the ``^C`` that a terminal writes itself."""
    return max(1, size.columns - 3), size.lines - 1


def _left(told: Progress) -> list[str]:
    """Return what :func:`_estimate` returns without the share, which the bar shows."""
    return [text for text in _estimate(told) if not text.endswith("done")]
