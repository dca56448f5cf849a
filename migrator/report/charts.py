"""The geometry of the charts: pure functions from numbers to shapes, drawn by a template.

Lengths along a chart are percentages and heights are pixels, so that a chart is as wide as its
page while its texts keep their size, on a phone as on paper, without a script. Every chart
says in ``description`` what its picture shows, for those who cannot see it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from migrator.text import shares

Tone = Literal[
    "stored", "missing", "gone", "deleted", "failed", "pending", "count", "bytes", "saved"
]
"""The meaning of a shape; the style sheet gives each tone a colour and a pattern."""
Anchor = Literal["start", "middle", "end"]

LEAST = 1.6
"""The least width of a non-zero amount, in percent: two failures in a million must be seen."""

_PANEL = 84
_HEAD = 24
_FOOT = 22
_THINNEST = 0.6
_WIDEST = 9.0
_CHARACTERS = 46
_TOLD = 6


class Measure(NamedTuple):
    """Something that is counted: its ``name`` in a sentence, and how an amount is written."""

    name: str
    tone: Tone
    write: Callable[[int], str]


class Part(NamedTuple):
    """A piece of a balance: where it begins and how wide it is, in percent."""

    tone: Tone
    x: float
    width: float


class Bar(NamedTuple):
    """A labelled row of bars, as wide as their shares of the whole, in percent."""

    label: str
    values: str
    shares: tuple[float, ...]
    tones: tuple[Tone, ...]


class Column(NamedTuple):
    """A column of a panel: left edge and width in percent, top and height in pixels."""

    x: float
    width: float
    y: float
    height: float


class Panel(NamedTuple):
    """Columns above a base line at ``base`` pixels; ``top`` is where the highest may end."""

    title: str
    tone: Tone
    top: int
    base: int
    columns: tuple[Column, ...]


class Tick(NamedTuple):
    """A label below the columns; ``anchor`` is its alignment to ``x``, a percentage."""

    text: str
    x: float
    anchor: Anchor


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture of ``height`` pixels, with the shapes of its kind.

    A balance is one bar that is the whole, cut into ``parts``; ``widened`` means that small ones
    are exaggerated. Bars have rows of ``step`` pixels, with one bar for each of ``measures``.
    Columns have ``panels`` above each other over the same steps of time.
    """

    kind: Literal["balance", "bars", "columns"]
    title: str
    description: str
    height: int
    parts: tuple[Part, ...] = ()
    widened: bool = False
    measures: tuple[Measure, ...] = ()
    step: int = 0
    bars: tuple[Bar, ...] = ()
    panels: tuple[Panel, ...] = ()
    ticks: tuple[Tick, ...] = ()


def plainly(amount: int) -> str:
    """Return a number with thousands separators."""
    return f"{amount:,}"


def percent(part: int, whole: int) -> str:
    """Return one share as text; it adds up to 100 % with the rest."""
    return shares([part, max(0, whole - part)])[0]


def balance(title: str, parts: Sequence[tuple[str, Tone, int]], unit: str) -> Chart:
    """Cut the whole into ``parts``, a dozen at most, of (label, tone, amount); 0 has no place.

    Small parts are drawn wider than they are, so that none is overlooked.
    """
    present = [part for part in parts if part[2] > 0]
    amounts = [amount for _, _, amount in present]
    exact = [amount * 100 / sum(amounts) for amount in amounts]
    widths = [max(width, LEAST) for width in exact]
    if widths:  # at the cost of the widest
        widths[widths.index(max(widths))] -= sum(widths) - 100
    placed, x = [], 0.0
    for (_, tone, _), width in zip(present, widths, strict=True):
        placed.append(Part(tone, round(x, 3), round(width, 3)))
        x += width
    words = ", ".join(
        f"{label} {amount:,} ({share})"
        for (label, _, amount), share in zip(present, shares(amounts), strict=True)
    )
    description, widened = f"{unit}: {words or 'none'}.", min(exact, default=LEAST) < LEAST
    return Chart("balance", title, description, 44, parts=tuple(placed), widened=widened)


def bars(
    title: str,
    rows: Sequence[tuple[str, tuple[int, ...]]],
    measures: tuple[Measure, ...],
    wholes: tuple[int, ...],
    tones: Sequence[Tone] = (),
) -> Chart:
    """Draw ``rows`` of (label, an amount of each measure) as shares of ``wholes``.

    The widest bar fills the picture; all others, of every measure, are to the same scale.
    ``tones`` gives each row a tone of its own, where there is but one measure.
    """
    exact = [
        [n * 100 / whole if whole else 0.0 for n, whole in zip(amounts, wholes, strict=True)]
        for _, amounts in rows
    ]
    most = max((share for row in exact for share in row), default=0) or 1
    common = tuple(measure.tone for measure in measures)
    drawn = tuple(
        Bar(
            label,
            " · ".join(one.write(n) for one, n in zip(measures, amounts, strict=True)),
            tuple(share and round(max(share * 100 / most, _THINNEST), 3) for share in row),
            (tones[index],) if tones else common,
        )
        for index, ((label, amounts), row) in enumerate(zip(rows, exact, strict=True))
    )
    step, description = 34 + 11 * len(measures), _first_bars(rows, measures, wholes)
    return Chart(
        "bars", title, description, step * len(drawn), measures=measures, step=step, bars=drawn
    )


def _first_bars(
    rows: Sequence[tuple[str, tuple[int, ...]]],
    measures: tuple[Measure, ...],
    wholes: tuple[int, ...],
) -> str:
    """Return a description of the first bars."""
    if not rows:
        return "Nothing to show."
    by_measure = zip(*(amounts for _, amounts in rows), strict=True)
    written = [
        shares([*some, max(0, whole - sum(some))])
        for some, whole in zip(by_measure, wholes, strict=True)
    ]
    words = [
        f"{label}: "
        + ", ".join(f"{some[n]} of {one.name}" for some, one in zip(written, measures, strict=True))
        for n, (label, _) in enumerate(rows[:_TOLD])
    ]
    more = len(rows) - _TOLD
    return "; ".join(words) + (f"; and {more} more in the table." if more > 0 else ".")


def columns(
    title: str,
    labels: Sequence[str],
    rows: Sequence[tuple[int, ...]],
    measures: tuple[Measure, ...],
    each: str,
) -> Chart:
    """Draw a panel for each of ``measures``; ``rows``, not none, has amounts for each label.

    ``each`` says in words what a column stands for, such as ``a year``.
    """
    drawn, words, y = [], [f"From {labels[0]} to {labels[-1]}."], 0
    for measure, amounts in zip(measures, zip(*rows, strict=True), strict=True):
        most = max(amounts)
        top, base = y + _HEAD, y + _HEAD + _PANEL
        name = f"{measure.name.capitalize()} {each}: at most {measure.write(most)}"
        drawn.append(Panel(name, measure.tone, top, base, tuple(_columns(amounts, most, base))))
        where = f" ({labels[amounts.index(most)]})" if most else ""
        words.append(f"{name}{where}, {measure.write(sum(amounts))} in all.")
        y = base + 10
    height, ticks = drawn[-1].base + _FOOT, tuple(_ticks(labels))
    return Chart("columns", title, " ".join(words), height, panels=tuple(drawn), ticks=ticks)


def _columns(amounts: Sequence[int], most: int, base: int) -> list[Column]:
    step = 100 / len(amounts)
    width = min(step * (0.75 if len(amounts) <= 40 else 1.0), _WIDEST)
    drawn = []
    for index, amount in enumerate(amounts):
        if amount > 0:
            x, height = index * step + (step - width) / 2, max(amount * _PANEL / most, 1.5)
            edges = round(x, 3), round(width, 3), round(base - height, 2), round(height, 2)
            drawn.append(Column(*edges))
    return drawn


def _ticks(labels: Sequence[str]) -> list[Tick]:
    """Return labels for as many columns as fit on a phone; the outermost stay inside."""
    step = 100 / max(len(labels), 1)
    longest = max(map(len, labels), default=0)
    every = -(-len(labels) // max(_CHARACTERS // (longest + 2), 1)) or 1
    ticks = []
    for index in range(0, len(labels), every):
        x, anchor = (index + 0.5) * step, "middle"
        if step < 10 and x < 8:
            x, anchor = index * step, "start"
        elif step < 10 and x > 92:
            x, anchor = (index + 1) * step, "end"
        ticks.append(Tick(labels[index], round(x, 3), anchor))  # type: ignore[arg-type]
    return ticks
