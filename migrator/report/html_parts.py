"""What the pages of the report and of the dry run have in common: a break-down with its chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from migrator.archive.records import Count, Group
from migrator.report import charts
from migrator.report.page import Cell, Exhibit, Kind, Table, cut
from migrator.report.plain import brief, human_bytes, iso_time, shares

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
