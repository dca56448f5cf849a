"""What a report in HTML consists of, before it is HTML: sections of charts, tables and rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from migrator.report.charts import Chart, Tone
from migrator.report.verdict import Mood

Kind = Literal["text", "number", "name", "word"]


@dataclass(frozen=True, slots=True)
class Cell:
    """A value of a table; ``href`` leads to the rows behind it, ``tone`` gives it a swatch.

    The kinds ``name`` and, narrower, ``word`` are texts of unknown origin, set apart from their
    surroundings. ``note`` explains it; in it, commands stand between backticks.
    """

    text: str
    kind: Kind = "text"
    href: str | None = None
    tone: Tone | None = None
    note: str = ""


Cells = tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under titled columns; the first cell of a row is its header.

    ``notes`` stand below it: what was left out. ``command`` lists all rows. A ``wide`` table may
    be wider than a phone and is moved within its own box.
    """

    caption: str
    head: tuple[tuple[str, Kind], ...]
    rows: tuple[Cells, ...]
    foot: Cells = ()
    notes: tuple[str, ...] = ()
    command_intro: str = "All of them:"
    command: str = ""
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A heading with its chart and the table of the same numbers."""

    id: str
    title: str
    intro: str = ""
    chart: Chart | None = None
    table: Table | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """Exhibits that belong together."""

    id: str
    title: str
    exhibits: tuple[Exhibit, ...]
    intro: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number worth knowing at first sight."""

    label: str
    value: str
    detail: str = ""
    href: str | None = None


@dataclass(frozen=True, slots=True)
class Behind:
    """The first of ``total`` rows of a figure; ``back`` is the id of the exhibit that shows it.

    Those of one ``group`` follow each other.
    """

    id: str
    group: str
    title: str
    total: int
    back: str
    table: Table


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report: the verdict first, then what it rests on, the rows last.

    ``warnings`` qualify the verdict. ``elsewhere`` is where the rows behind figures are to be had
    by those who read this on paper. ``sign`` is what a signature on paper would stand for; empty
    for none. In the sentence, intros and notes, what stands between backticks is a command.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    mood: Mood
    word: str
    sentence: str
    warnings: tuple[str, ...]
    opening: Exhibit
    figures: tuple[Figure, ...]
    sections: tuple[Section, ...]
    behind: tuple[Behind, ...] = ()
    behind_intro: str = (
        "The first attachments of each figure, and the command that lists all of them."
    )
    elsewhere: str = "`migrator report --format csv`"
    sign: str = ""


def cut(total: int, limit: int, what: str) -> tuple[str, ...]:
    """Tell, where there are more than are shown, how many."""
    return (f"The first {limit:,} of {total:,} {what}.",) if total > limit else ()
