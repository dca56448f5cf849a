"""Reports and dry runs as data, and their pages as trees, for the tests of the HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import lxml.html

from migrator.archive.queries import Tickets
from migrator.archive.records import Check, Count, Group, PacePoint, Row, RunInfo, State
from migrator.archive.replies import Kept
from migrator.plan.html import render_plan
from migrator.plan.model import Disk, Gaps, Pace, Plan, Requests, Verdicts
from migrator.report.html import render_report
from migrator.report.model import Problem, Report, Sample
from migrator.report.verdict import Seen
from migrator.sources.base import FastLook

NOW = 1_767_323_045
SIZES = ("0", "1K", "1M")


def row(number: int = 1, text: str = "a.txt", state: State = State.STORED) -> Row:
    """Make a row in which everything that is of foreign origin is ``text``."""
    return Row(
        number, 7, 8, text, 1, 1, text, text, 10, 10, "ab", text, state, text, text, 1, NOW, NOW
    )


def groups(*texts: str) -> tuple[Group, ...]:
    """Make groups with these keys and titles, the largest first."""
    many = len(texts)
    return tuple(Group(text, text, many - i, 1000 * (many - i)) for i, text in enumerate(texts))


def report(text: str = "x", **values: Any) -> Report:
    """Make a report with something in every place; ``text`` is all that is of foreign origin.

    ``states``, ``last_run``, ``whole`` and ``lost`` (accepted losses by state) are what was seen.
    """
    states = values.pop("states", {state: Count(n, 100 * n) for n, state in enumerate(State, 1)})
    summary = {"unlisted": {"17": text, "18": text}, "tickets": 11, "helpdesk_tickets": 13}
    run = RunInfo(1, "run", text, {}, NOW, NOW + 1200, 3, summary)
    last = values.pop("last_run", run)
    seen = Seen(
        states,
        accepted=values.pop("lost", {}),
        last=last,
        whole=values.pop("whole", last),
        covered=last,
        checks={"verify": Check(1, "verify", NOW, NOW + 9, True, 0, {"checked": 4, "damaged": 0})},
    )
    problems = (Problem(State.FAILED, text, 3), Problem(State.GONE, None, 1))
    made: dict[str, Any] = {
        "archive": text,
        "generated_at": NOW,
        "seen": seen,
        "helpdesk": text,
        "files": Count(4, 400),
        "duplicates": Count(2, 100),
        "tickets": Tickets(12, 10, 1, 3),
        "with_attachments": 9,
        "threads_missing": 2,
        "kinds": (Group("post", "Attachments of posts", 1, 1),),
        "replies": Kept(Count(80, 9_000), Count(2, 200), 40_000, missing=3, deleted=1),
        "texts": {"post": 40, "note": 3, "timetrack": 2, "people": 1, "article": 5, "step": 4},
        "departments": groups(text, "Sales"),
        "types": groups(text, "image/png"),
        "years": (Group("", "unknown", 1, 5), Group("2012", "2012", 3, 9), *groups("2014")),
        "sizes": tuple(Group(key, f"up to {key}", n, 10 * n) for n, key in enumerate(SIZES)),
        "problems": problems,
        "attention": (row(1, text, State.FAILED), row(2, text, State.GONE)),
        "pace": tuple(PacePoint(NOW + 60 * n, n, 1000 * n) for n in range(20)),
        "accepted": (replace(row(3, text, State.MISSING), accepted=text),),
    }
    made |= values
    sketch = Report(**made)
    return Report(**made, samples=samples(sketch, text)) if "samples" not in values else sketch


def plan(text: str = "x", **values: Any) -> Plan:
    """Make a dry run with something in every place; ``text`` is all that is of foreign origin."""
    made: dict[str, Any] = {
        "source": text,
        "made_at": NOW,
        "ended": text,
        "tickets": 40,
        "tickets_total": 400,
        "listed": Count(60, 6000),
        "todo": Count(50, 5000),
        "stored": Count(10, 1000),
        "verdicts": Verdicts(
            25 << 20,
            allow=Count(30, 3000),
            review=Count(20, 2500),
            block=Count(10, 500),
            too_large=Count(4, 400),
            oversize=Count(3, 300),
            odd_name=Count(2, 200),
            no_extension=Count(1, 100),
            empty=Count(5, 0),
        ),
        "departments": groups(text, "Sales"),
        "types": groups(text, "image/png"),
        "extensions": groups(text, "png", ""),
        "years": groups("2014"),
        "sizes": tuple(Group(key, f"up to {key}", n, 10 * n) for n, key in enumerate(SIZES)),
        "gaps": Gaps(4, (1, 2), groups(text)),
        "unlisted": 3,
        "short": 2,
        "requests": Requests(1, 40, 50, 60, 41),
        "disk": Disk(5000, 4000, "sample", 30, 9000),
        "pace": Pace(8, 40, 4.0, 20, 2000, 1.5, 7200.0, 3600.0, 10_800.0),
        "fast": FastLook(400, 40, 9, 360, 20, 1, 1),
        "examples": {name: (row(1, text), row(2, text)) for name in ("allow", "block", "odd_name")},
    }
    return Plan(**made | values)


def samples(of: Report, text: str = "x") -> dict[tuple[str, str], Sample]:
    """Give every figure of a report that is not zero two rows."""
    found = {("state", state.value): count.n for state, count in of.states.items()}
    found |= {("problem", one.key): one.n for one in of.problems}
    for name, some in of.breakdowns.items():
        found |= {(name, group.key): group.n for group in some[:50]}
    found["duplicate", ""] = of.duplicates.n
    return {key: Sample(n, (row(1, text), row(2, text)) if n else ()) for key, n in found.items()}


def page_of(made: Report | Plan) -> lxml.html.HtmlElement:
    """Render and parse."""
    return lxml.html.document_fromstring(text_of(made).encode())


def text_of(made: Report | Plan) -> str:
    """Render."""
    return "".join(render_report(made) if isinstance(made, Report) else render_plan(made))


def cells(page: lxml.html.HtmlElement, id_: str) -> list[list[str]]:
    """Return the lines of the table of an exhibit, without the notes in their cells."""
    (table,) = page.xpath(f"//*[@id='{id_}']//table")
    return [
        [said(cell) for cell in line.xpath("./th | ./td")]
        for line in table.xpath(".//tbody/tr | .//tfoot/tr")
    ]


def said(element: lxml.html.HtmlElement) -> str:
    """Return what an element says, in one line and without its notes."""
    notes = element.xpath(".//*[@class='detail']//text()")
    text = "".join(piece for piece in element.itertext() if piece not in notes)
    return " ".join(text.split())


def shape(page: lxml.html.HtmlElement) -> Sequence[tuple[str, Mapping[str, str]]]:
    """Return every element with its attributes, without those that say how long a bar is."""
    lengths = {"width", "x", "y", "height", "x1", "x2"}
    return [
        (str(one.tag), {name: value for name, value in one.attrib.items() if name not in lengths})
        for one in page.iter()
    ]
