"""The ledger on a terminal: a bar of what became of everything, and its numbers."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import click

from migrator.archive.records import Count, State
from migrator.report import verdict
from migrator.report.plain import human_bytes, shares

# Each state has a mark of its own, so that the bar can be read without its colours.
_LOOKS = {
    State.STORED: ("█", "#", "green"),
    State.DELETED: ("▓", "=", "cyan"),
    State.MISSING: ("▒", "m", "magenta"),
    State.GONE: ("░", "g", "yellow"),
    State.FAILED: ("x", "x", "red"),
    State.PENDING: ("·", ".", "blue"),
}
_WIDEST = 72


@dataclass(frozen=True, slots=True)
class Terminal:
    """What the terminal can show; ``width`` is in columns."""

    width: int
    colour: bool
    blocks: bool


def terminal() -> Terminal | None:
    """Look at stdout; None when it is no terminal.

    Colours are left out where ``NO_COLOR`` is set (https://no-color.org) and on a dumb terminal,
    blocks where the encoding has none.
    """
    if not sys.stdout.isatty():
        return None
    colour = not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
    try:
        "█▓▒░·".encode(sys.stdout.encoding or "ascii")
        blocks = True
    except (UnicodeEncodeError, LookupError):
        blocks = False
    return Terminal(shutil.get_terminal_size().columns, colour, blocks)


def dashboard(counts: Mapping[State, Count], on: Terminal) -> Iterator[str]:
    """Yield the lines: the bar, then the sum by state."""
    total = verdict.total(counts)
    cells = _cells(
        {state: counts[state].n for state in _LOOKS}, max(10, min(_WIDEST, on.width - 2))
    )
    if total.n:
        yield "".join(_mark(state, on, width) for state, width in cells.items())
    yield _line(" ", "listed", total, "")
    written = shares([counts[state].n for state in _LOOKS], digits=2)
    for state, share in zip(_LOOKS, written, strict=True):
        count = counts[state]
        mark = _mark(state, on) if count.n else " "
        yield _line(mark, state.value, count, share if count.n else "")


def _cells(numbers: Mapping[State, int], width: int) -> dict[State, int]:
    """Share ``width`` cells out in proportion; what there is at all is seen."""
    present = {state: n for state, n in numbers.items() if n}
    total = sum(present.values())
    cells = {state: max(1, n * width // total) for state, n in present.items()}
    if cells:  # what rounding left over, or took too much of, is the largest one's
        largest = max(present, key=lambda state: present[state])
        cells[largest] += width - sum(cells.values())
    return cells


def _mark(state: State, on: Terminal, times: int = 1) -> str:
    block, letter, colour = _LOOKS[state]
    text = (block if on.blocks else letter) * times
    return click.style(text, fg=colour) if on.colour else text


def _line(mark: str, name: str, count: Count, share: str) -> str:
    return f"{mark} {name:<8} {count.n:>12,}  {human_bytes(count.bytes):>10}  {share:>9}".rstrip()
