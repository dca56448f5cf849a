"""What a report in HTML consists of, before it is HTML: sections of charts, tables and rows.

What the pages of the report and of the dry run have in common: a break-down with its chart.

Reports as HTML: one file that needs no script, no network and no other file.

It opens from a mail, prints, and follows the reader's choice of light or dark. Nothing that
comes from the helpdesk is markup in it: every text is escaped by the template, shown without
invisible characters, and cut; anchors are numbered and never made of names. The policy in its
head forbids whatever is not its own style sheet, should all of that fail.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Literal

import jinja2
from markupsafe import Markup, escape

from migrator.archive.records import Count, Group
from migrator.report import charts
from migrator.report.charts import Chart, Tone
from migrator.report.verdict import Mood
from migrator.text import brief, human_bytes, iso_time, shares

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


ROWS_SHOWN = 50
"""How many groups a table lists."""
BARS_SHOWN = 10
"""How many of them a chart draws; one more bar stands for all others."""
YEARS_SHOWN = 40

_LABEL = 26
"""How many characters of a name fit beside a bar on a phone."""
MEASURES = (
    charts.Measure("attachments", "count", charts.plainly),
    charts.Measure("bytes", "bytes", human_bytes),
)

Links = Mapping[tuple[str, str], str]
"""The anchors of the rows behind a figure, by dimension and key."""


def group_name(group: Group) -> str:
    """Name a group for people; a group without a name has none."""
    return brief(group.title or group.key).strip() or "(none)"


def label(text: str) -> str:
    """Shorten a name to what fits beside a bar: of types, the end tells more than the middle."""
    if len(text) <= _LABEL:
        return text
    half = _LABEL // 2
    return f"{text[:half]}…{text[1 - half :]}"


def moment(seconds: int | None) -> str:
    """Write Unix seconds as date and time of day, in UTC as everything; empty for None and 0."""
    return iso_time(seconds).replace("T", " ").removesuffix("Z")


def breakdown(
    id_: str,
    title: str,
    groups: Sequence[Group],
    *,
    links: Links,
    intro: str = "",
    largest: bool = True,
) -> Exhibit:
    """Show groups as bars and as a table; ``largest``: sorted so, and cut to the largest.

    The id is the dimension of the groups in ``links`` as well. Charts draw few groups and name
    the sum of the others, tables list more and do the same.
    """
    whole = total(groups)
    drawn = _fewer(groups, BARS_SHOWN) if largest else _within(groups)
    rows = [(label(group_name(one)), (one.n, one.bytes)) for one in drawn]
    chart = charts.bars(title, rows, MEASURES, (whole.n, whole.bytes))
    return Exhibit(id_, title, intro, chart, _table(id_, title, groups, whole, links))


def by_year(title: str, groups: Sequence[Group], *, links: Links) -> Exhibit:
    """Show years as columns, with the years between them in which nothing came."""
    known = [group for group in groups if group.key][-YEARS_SHOWN:]
    drawn = _every_year(known)
    amounts = [(group.n, group.bytes) for group in drawn]
    labels = [group.key for group in drawn]
    chart = charts.columns(title, labels, amounts, MEASURES, "a year") if drawn else None
    whole = total(groups)
    undated = sum(group.n for group in groups if not group.key)
    intro = f"{undated:,} have no date that makes sense." if undated else ""
    table = _table("year", title, groups, whole, links)
    return Exhibit("year", title, intro, chart, table)


def total(groups: Sequence[Group]) -> Count:
    """Add groups up."""
    return Count(sum(group.n for group in groups), sum(group.bytes for group in groups))


def _every_year(groups: list[Group]) -> list[Group]:
    """Fill the gaps between years, unless dates are so wrong that there are too many."""
    found = {int(group.key): group for group in groups if group.key.isdecimal()}
    if not found or max(found) - min(found) >= YEARS_SHOWN:
        return groups
    return [
        found.get(year, Group(str(year), str(year), 0, 0))
        for year in range(min(found), max(found) + 1)
    ]


def _within(groups: Sequence[Group]) -> list[Group]:
    """Leave out the empty groups at both ends."""
    used = [index for index, group in enumerate(groups) if group.n]
    return list(groups[used[0] : used[-1] + 1]) if used else []


def _fewer(groups: Sequence[Group], limit: int) -> list[Group]:
    """Keep the first groups and one for the sum of the others."""
    if len(groups) <= limit + 1:
        return list(groups)
    rest = groups[limit:]
    return [*groups[:limit], Group("", f"{len(rest):,} others", *_pair(total(rest)))]


def _pair(count: Count) -> tuple[int, int]:
    return count.n, count.bytes


def _table(
    dimension: str, title: str, groups: Sequence[Group], whole: Count, links: Links
) -> Table:
    head: tuple[tuple[str, Kind], ...] = (
        (title.removeprefix("By ").capitalize(), "name"),
        ("Attachments", "number"),
        ("Bytes", "number"),
        ("Share", "number"),
    )
    shown, rest = list(groups[:ROWS_SHOWN]), groups[ROWS_SHOWN:]
    hrefs = [links.get((dimension, one.key)) for one in shown]
    if rest:
        shown.append(Group("", f"{len(rest):,} others", *_pair(total(rest))))
        hrefs.append(None)
    written = shares([one.bytes for one in shown])
    rows = [
        _line(group_name(one), one.n, one.bytes, share, href)
        for one, share, href in zip(shown, written, hrefs, strict=True)
    ]
    return Table(
        f"Attachments and bytes {title.lower()}; the share is of the bytes",
        head,
        tuple(rows),
        foot=_line("All", *_pair(whole), shares([whole.bytes])[0], None),
        notes=cut(len(groups), ROWS_SHOWN, "groups"),
    )


def _line(name: str, n: int, size: int, share: str, href: str | None) -> tuple[Cell, ...]:
    return (
        Cell(name, "name"),
        Cell(f"{n:,}", "number", href),
        Cell(human_bytes(size), "number", href),
        Cell(share, "number"),
    )


_PIECE = 200
"""How many pieces of a template are joined into one of the output."""


def render(page: Page) -> Iterator[str]:
    """Write a page as an HTML document, in pieces."""
    stream = _template().stream(page=page)
    stream.enable_buffering(_PIECE)
    return iter(stream)


@functools.cache
def _template() -> jinja2.Template:
    style = (resources.files("migrator.report") / "templates/report.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("migrator.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["commands"] = commands
    environment.globals |= {"style": Markup(style), "style_hash": digest}  # noqa: S704 - ours
    return environment.get_template("report.html")


def commands(text: str) -> Markup:
    """Escape a text of ours, in which commands stand between backticks."""
    parts = re.split("`([^`]*)`", text)
    marked = (
        Markup("<code>{}</code>").format(part) if index % 2 else escape(part)
        for index, part in enumerate(parts)
    )
    return Markup("").join(marked)
