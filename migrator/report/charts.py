"""The geometry of the charts: pure functions from numbers to shapes, drawn by a template.

Lengths along a chart are percentages and heights are pixels, so that a chart is as wide as its
page while its texts keep their size, on a phone as on paper, without a script. Every chart tells
in ``description`` what its picture shows, for those who cannot see it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from migrator.text import shares

Tone = Literal[
    "stored", "missing", "gone", "deleted", "failed", "pending", "count", "bytes", "saved"
]
"""What a shape stands for; the style sheet gives each tone a colour and a pattern."""

LEAST = 1.6
"""The least width, in percent, of what is not nothing: two failures in a million must be seen."""

_PANEL = 84
_HEAD = 24
_FOOT = 22
_THINNEST = 0.6
_WIDEST = 9.0
_CHARACTERS = 46
_TOLD = 6


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that is counted, as ``name`` in a sentence, and how an amount of it is written."""

    name: str
    tone: Tone
    write: Callable[[int], str]


def plainly(amount: int) -> str:
    """Write a number with its thousands apart."""
    return f"{amount:,}"


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a balance: where it begins and how wide it is, in percent."""

    label: str
    tone: Tone
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Balance:
    """One bar that is the whole, cut into its parts; ``widened``: small ones are exaggerated."""

    kind: ClassVar = "balance"
    title: str
    description: str
    parts: tuple[Part, ...]
    widened: bool


@dataclass(frozen=True, slots=True)
class Bar:
    """A labelled row of bars, as wide as their shares of the whole, in percent."""

    label: str
    values: str
    shares: tuple[float, ...]
    tones: tuple[Tone, ...]


@dataclass(frozen=True, slots=True)
class Bars:
    """Rows of bars, one for each of ``measures``."""

    kind: ClassVar = "bars"
    title: str
    description: str
    measures: tuple[Measure, ...]
    bars: tuple[Bar, ...]

    @property
    def step(self) -> int:
        """The height of a row in pixels."""
        return 34 + 11 * len(self.measures)

    @property
    def height(self) -> int:
        """The height of the picture in pixels."""
        return self.step * len(self.bars)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a panel: left edge and width in percent, top and height in pixels."""

    x: float
    width: float
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Panel:
    """Columns above a base line at ``base`` pixels; ``top`` is where the highest may end."""

    title: str
    tone: Tone
    top: int
    base: int
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """A label below the columns; ``anchor`` is how it stands to ``x``, a percentage."""

    text: str
    x: float
    anchor: Literal["start", "middle", "end"]


@dataclass(frozen=True, slots=True)
class Columns:
    """Panels above each other over the same steps of time."""

    kind: ClassVar = "columns"
    title: str
    description: str
    panels: tuple[Panel, ...]
    ticks: tuple[Tick, ...]

    @property
    def height(self) -> int:
        """The height of the picture in pixels."""
        return self.panels[-1].base + _FOOT


Chart = Balance | Bars | Columns


def balance(title: str, parts: Sequence[tuple[str, Tone, int]], unit: str) -> Balance:
    """Cut the whole into ``parts``, a dozen at most, of (label, tone, amount); 0 has no place.

    Small parts are drawn wider than they are, so that none is overlooked.
    """
    present = [part for part in parts if part[2] > 0]
    whole = sum(amount for _, _, amount in present)
    exact = [amount * 100 / whole for _, _, amount in present]
    widths = _visible(exact)
    placed, x = [], 0.0
    for (label, tone, _), width in zip(present, widths, strict=True):
        placed.append(Part(label, tone, round(x, 3), round(width, 3)))
        x += width
    written = shares([amount for _, _, amount in present])
    told = ", ".join(
        f"{label} {amount:,} ({share})"
        for (label, _, amount), share in zip(present, written, strict=True)
    )
    description = f"{unit}: {told or 'none'}."
    return Balance(title, description, tuple(placed), min(exact, default=LEAST) < LEAST)


def _visible(widths: list[float]) -> list[float]:
    """Raise every width to LEAST, at the cost of the widest."""
    raised = [max(width, LEAST) for width in widths]
    if raised:
        raised[raised.index(max(raised))] -= sum(raised) - 100
    return raised


def bars(
    title: str,
    rows: Sequence[tuple[str, tuple[int, ...]]],
    measures: tuple[Measure, ...],
    wholes: tuple[int, ...],
    tones: Sequence[Tone] = (),
) -> Bars:
    """Draw ``rows`` of (label, an amount of each measure) as shares of ``wholes``.

    The widest bar fills the picture; all others, of every measure, are to the same scale.
    ``tones`` gives each row a tone of its own, where there is but one measure.
    """
    shares = [
        tuple(n * 100 / whole if whole else 0.0 for n, whole in zip(amounts, wholes, strict=True))
        for _, amounts in rows
    ]
    most = max((share for row in shares for share in row), default=0) or 1
    common = tuple(measure.tone for measure in measures)
    drawn = tuple(
        Bar(
            label,
            " · ".join(one.write(n) for one, n in zip(measures, amounts, strict=True)),
            tuple(_width(share, most) for share in shares[index]),
            (tones[index],) if tones else common,
        )
        for index, (label, amounts) in enumerate(rows)
    )
    return Bars(title, _told(rows, measures, wholes), measures, drawn)


def _told(
    rows: Sequence[tuple[str, tuple[int, ...]]],
    measures: tuple[Measure, ...],
    wholes: tuple[int, ...],
) -> str:
    """Say what the first bars show."""
    if not rows:
        return "Nothing to show."
    columns_ = [
        shares([*some, max(0, whole - sum(some))])
        for some, whole in zip(
            zip(*(amounts for _, amounts in rows), strict=True), wholes, strict=True
        )
    ]
    told = [
        f"{label}: "
        + ", ".join(
            f"{some[index]} of {one.name}" for some, one in zip(columns_, measures, strict=True)
        )
        for index, (label, _) in enumerate(rows[:_TOLD])
    ]
    more = len(rows) - _TOLD
    return "; ".join(told) + (f"; and {more} more in the table." if more > 0 else ".")


def _width(share: float, most: float) -> float:
    return round(max(share * 100 / most, _THINNEST), 3) if share else 0.0


def columns(
    title: str,
    labels: Sequence[str],
    rows: Sequence[tuple[int, ...]],
    measures: tuple[Measure, ...],
    each: str,
) -> Columns:
    """Draw a panel for each of ``measures``; ``rows``, not none, has amounts for each label.

    ``each`` says in words what a column stands for, such as ``a year``.
    """
    drawn, told, y = [], [], 0
    for measure, amounts in zip(measures, zip(*rows, strict=True), strict=True):
        most = max(amounts)
        top, base = y + _HEAD, y + _HEAD + _PANEL
        name = f"{measure.name.capitalize()} {each}: at most {measure.write(most)}"
        drawn.append(Panel(name, measure.tone, top, base, _columns(amounts, most, base)))
        where = f" ({labels[amounts.index(most)]})" if most else ""
        told.append(f"{name}{where}, {measure.write(sum(amounts))} in all.")
        y = base + 10
    span = f"From {labels[0]} to {labels[-1]}. "
    return Columns(title, span + " ".join(told), tuple(drawn), _ticks(labels))


def _columns(amounts: Sequence[int], most: int, base: int) -> tuple[Column, ...]:
    step = 100 / len(amounts)
    width = min(step * (0.75 if len(amounts) <= 40 else 1.0), _WIDEST)
    drawn = []
    for index, amount in enumerate(amounts):
        if amount > 0:
            height = max(amount * _PANEL / most, 1.5)
            drawn.append(
                Column(
                    round(index * step + (step - width) / 2, 3),
                    round(width, 3),
                    round(base - height, 2),
                    round(height, 2),
                )
            )
    return tuple(drawn)


def _ticks(labels: Sequence[str]) -> tuple[Tick, ...]:
    """Label as many columns as fit side by side on a phone; the outermost stay inside."""
    step = 100 / max(len(labels), 1)
    longest = max(map(len, labels), default=0)
    every = -(-len(labels) // max(_CHARACTERS // (longest + 2), 1)) or 1
    ticks = []
    for index in range(0, len(labels), every):
        x = (index + 0.5) * step
        anchor: Literal["start", "middle", "end"] = "middle"
        if step < 10 and x < 8:
            x, anchor = index * step, "start"
        elif step < 10 and x > 92:
            x, anchor = (index + 1) * step, "end"
        ticks.append(Tick(labels[index], round(x, 3), anchor))
    return tuple(ticks)


def percent(part: int, whole: int) -> str:
    """Write one share; it adds up to 100 % with what is left."""
    return shares([part, max(0, whole - part)])[0]
