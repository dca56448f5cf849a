"""Reports as HTML: one file that needs no script, no network and no other file.

It opens from a mail, prints, and follows the reader's choice of light or dark. Nothing from
the helpdesk is markup in it: every text is escaped by the template, shown without invisible
characters, and cut; anchors are numbers and never made of names. Should all of that fail, the
policy in its head forbids everything but its own style sheet.

Pages are charts, tables and rows as data, which the template turns into HTML. The second half of
this module builds the closing report: the verdict, the balance, the break-downs, the rows behind.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from typing import Literal, NamedTuple

import jinja2
from markupsafe import Markup, escape

from migrator.archive.records import (
    Count,
    Group,
    PacePoint,
    Row,
    State,
    TicketDelivered,
    TicketHeader,
)
from migrator.report import charts
from migrator.report.charts import Chart, Tone
from migrator.report.model import Key, Problem, Report
from migrator.report.text import (
    KEPT,
    MEANING,
    NO_TICKET,
    ORDER,
    REASONS_SHOWN,
    SERIOUS,
    explain,
    replies,
    texts,
    ticket_figures,
    ticket_page,
    undeliverable,
)
from migrator.report.verdict import ATTENTION, Mood, limits, proof_lines, scope_line, waits
from migrator.text import brief, counted, human_bytes, human_duration, iso_time, shares, shown

Kind = Literal["text", "number", "name", "word"]


class Cell(NamedTuple):
    """A value of a table; ``href`` leads to the rows behind it, ``tone`` gives it a swatch.

    The kinds ``name`` and, narrower, ``word`` are untrusted texts, set apart from their
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

    A title that ends in ``#`` stands above numbers. ``notes`` stand below: what was left out.
    ``command`` lists all rows. A ``wide`` table may be wider than a phone and is moved within its
    own box.
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[Cells, ...]
    foot: Cells = ()
    notes: tuple[str, ...] = ()
    command: str = ""
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A heading with its chart and the table of the same numbers.

    Printed on a sheet of its own if it stands ``apart``.
    """

    id: str
    title: str
    intro: str = ""
    chart: Chart | None = None
    table: Table | None = None
    apart: bool = False


class Section(NamedTuple):
    """Exhibits that belong together."""

    id: str
    title: str
    exhibits: tuple[Exhibit, ...]


class Figure(NamedTuple):
    """A number worth knowing at first sight."""

    label: str
    value: str
    detail: str = ""
    href: str | None = None


class SampledRows(NamedTuple):
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

    ``warnings`` qualify the verdict, ``proof`` says what was looked at and checked, and when.
    ``elsewhere`` says where readers on paper get the rows behind figures. ``sign`` is what a
    signature on paper would confirm; empty for none. In the sentence, proof, intros and notes, text
    between backticks is a command.
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
    samples: tuple[SampledRows, ...] = ()
    samples_intro: str = (
        "The first attachments of each figure, and the command that lists all of them."
    )
    elsewhere: str = "`migrator report --format csv`"
    sign: str = ""
    proof: tuple[str, ...] = ()


_PIECE = 200
"""Pieces of a template that are joined into one of the output."""


def render(page: Page) -> Iterator[str]:
    """Yield a page as an HTML document, in pieces."""
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
    """Return our own text as HTML; text between backticks is a command."""
    parts = re.split("`([^`]*)`", text)
    marked = (
        Markup("<code>{}</code>").format(_unbroken(part)) if index % 2 else escape(part)
        for index, part in enumerate(parts)
    )
    return Markup("").join(marked)


def _unbroken(command: str) -> Markup:
    """Return a command whose options no browser breaks behind their hyphens."""
    words = (
        Markup("<span>{}</span>").format(word) if word.startswith("--") else escape(word)
        for word in command.split(" ")
    )
    return Markup(" ").join(words)


# Parts of pages

ROWS_SHOWN = 50
"""How many groups a table lists."""
BARS_SHOWN = 10
"""How many of them a chart draws; one more bar sums up all others."""
YEARS_SHOWN = 40
MEASURES = (
    charts.Measure("attachments", "count", charts.plainly),
    charts.Measure("bytes", "bytes", human_bytes),
)
ROW_HEAD = ("Attachment#", "Ticket", "File name", "Size#", "Type")
"""The head of a table whose rows begin with :func:`attachment`."""
_LABEL = 26
"""Characters of a name that fit beside a bar on a phone."""
_WORD = 80

Links = Mapping[tuple[str, str], str]
"""The anchors of the rows behind a figure, by dimension and key."""


def number(value: int | str, href: str | None = None, note: str = "") -> Cell:
    """Return a cell of a number, or of a formatted one."""
    return Cell(
        charts.plainly(value) if isinstance(value, int) else value, "number", href, note=note
    )


def amounts(count: Count, href: str | None = None) -> tuple[Cell, Cell]:
    """Return the cells of a number of attachments and of their bytes."""
    return number(count.n, href), number(human_bytes(count.bytes), href)


def attachment(row: Row) -> Cells:
    """Return the cells that name an attachment."""
    size = row.declared_size if row.size is None else row.size
    return (
        number(str(row.id)),
        Cell(brief(row.ticket_number or row.holder, _WORD), "word"),
        Cell(brief(row.filename), "name"),
        number(human_bytes(size)),
        Cell(brief(row.mime_type or row.declared_type, _WORD), "word"),
    )


def sections(*chapters: tuple[str, str, Iterable[Exhibit]]) -> tuple[Section, ...]:
    """Return the sections of (id, title, exhibits) that have exhibits."""
    made = (Section(id_, title, tuple(exhibits)) for id_, title, exhibits in chapters)
    return tuple(section for section in made if section.exhibits)


def cut(total: int, limit: int, what: str) -> tuple[str, ...]:
    """Return a note with the number of all, if fewer are shown."""
    return (f"The first {limit:,} of {total:,} {what}.",) if total > limit else ()


def group_name(group: Group) -> str:
    """Return the name of a group for people; a group without a key gets "(none)"."""
    return brief(group.title or group.key).strip() or "(none)"


def label(text: str) -> str:
    """Return a name that fits beside a bar: the end of a type matters more than its middle."""
    half = _LABEL // 2
    return text if len(text) <= _LABEL else f"{text[:half]}…{text[1 - half :]}"


def moment(seconds: int | None) -> str:
    """Return Unix seconds as date and time in UTC; empty for None and 0."""
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
    """Return groups as bars and as a table; ``largest`` sorts and keeps the largest.

    The id is the dimension of the groups in ``links`` as well. Charts draw few groups and sum up
    the others, tables list more and do the same.
    """
    whole = _total(groups)
    drawn = _fewer(groups, BARS_SHOWN, BARS_SHOWN + 1) if largest else _within(groups)
    rows = [(label(group_name(one)), (one.n, one.bytes)) for one in drawn]
    chart = charts.bars(title, rows, MEASURES, (whole.n, whole.bytes))
    return Exhibit(id_, title, intro, chart, _groups(id_, title, groups, links))


def by_year(title: str, groups: Sequence[Group], *, links: Links) -> Exhibit:
    """Return years as columns, with empty years between them."""
    drawn = _every_year([group for group in groups if group.key][-YEARS_SHOWN:])
    bars = [(group.n, group.bytes) for group in drawn]
    labels = [group.key for group in drawn]
    chart = charts.columns(title, labels, bars, MEASURES, "a year") if drawn else None
    undated = sum(group.n for group in groups if not group.key)
    intro = f"{undated:,} have no date that makes sense." if undated else ""
    return Exhibit("year", title, intro, chart, _groups("year", title, groups, links))


def _groups(dimension: str, title: str, groups: Sequence[Group], links: Links) -> Table:
    rows = _fewer(groups, ROWS_SHOWN, ROWS_SHOWN)
    hrefs = [links.get((dimension, one.key)) for one in groups[:ROWS_SHOWN]] + [None]
    written, whole = shares([one.bytes for one in rows]), _total(groups)
    return Table(
        f"Attachments and bytes {title.lower()}; the share is of the bytes",
        (title.removeprefix("By ").capitalize(), "Attachments#", "Bytes#", "Share#"),
        tuple(
            (Cell(group_name(one), "name"), *amounts(Count(one.n, one.bytes), href), number(share))
            for one, href, share in zip(rows, hrefs, written, strict=False)
        ),
        foot=(Cell("All", "name"), *amounts(whole), number(shares([whole.bytes])[0])),
        notes=cut(len(groups), ROWS_SHOWN, "groups"),
    )


def _total(groups: Sequence[Group]) -> Count:
    return Count(sum(group.n for group in groups), sum(group.bytes for group in groups))


def _every_year(groups: list[Group]) -> list[Group]:
    """Fill the gaps between years, unless wrong dates make them too large."""
    found = {int(group.key): group for group in groups if group.key.isdecimal()}
    if not found or max(found) - min(found) >= YEARS_SHOWN:
        return groups
    years = range(min(found), max(found) + 1)
    return [found.get(year, Group(str(year), str(year), 0, 0)) for year in years]


def _within(groups: Sequence[Group]) -> list[Group]:
    """Leave out the empty groups at both ends."""
    used = [index for index, group in enumerate(groups) if group.n]
    return list(groups[used[0] : used[-1] + 1]) if used else []


def _fewer(groups: Sequence[Group], limit: int, most: int) -> list[Group]:
    """Return the groups; of more than ``most``, the first ``limit`` and the sum of the others."""
    if len(groups) <= most:
        return list(groups)
    rest = groups[limit:]
    others = _total(rest)
    return [*groups[:limit], Group("", f"{len(rest):,} others", others.n, others.bytes)]


# The page of the closing report

NONE = "none"
"""The command line's word for the key "" of a type, a year or a problem."""
ATTENTION_SHOWN = 200
UNLISTED_SHOWN = 50
PROBLEMS_SHOWN = 30
PACE_ROWS = 12
WHY = 200
"""Characters of a reason that are shown where it matters most."""

_NOUNS = {
    "state": "State",
    "problem": "Problem",
    "department": "Department",
    "type": "Type",
    "year": "Year",
    "size": "Size",
    "kind": "Held by",
    "duplicate": "Duplicates",
}
_EXHIBITS = {"state": "balance", "problem": "problems", "duplicate": "duplicates"}
"""The exhibit of a dimension, where it has another name."""


def render_report(report: Report) -> Iterator[str]:
    """Yield the report as an HTML document, in pieces, the most important first."""
    links, verdict = _links(report), report.verdict
    page = Page(
        title="Ledger of the migration",
        facts=tuple(_facts(report)),
        mood=verdict.mood,
        word=verdict.word,
        sentence=verdict.rest,
        warnings=(),
        proof=(f"Scope: {scope_line(report.seen)}.", *proof_lines(report.seen)),
        opening=_balance(report, links),
        figures=tuple(_figures(report, links)),
        sections=sections(
            ("attention", "What needs attention", _troubles(report, links)),
            ("delivered", "What Tickiti has", _delivered(report)),
            ("contents", "What there is", _breakdowns(report, links)),
            ("harmless", "Notes on what is kept", _notes(report, links)),
            ("work", "Pace and equal contents", _work(report, links)),
        ),
        samples=tuple(_samples(report, links)),
        sign=(
            f"{verdict.word}. {counted(report.listed.n, 'attachment')} listed by the source: "
            f"{_held(report):,} in the archive, {report.attention_total:,} failed, missing or "
            f"gone, of which {report.accepted_total:,} accepted as lost, "
            f"{report.states[State.PENDING].n:,} pending. As of {moment(report.generated_at)} UTC."
        ),
    )
    return render(page)


def _links(report: Report) -> Links:
    """Return anchors for the figures with rows: numbers, since names are untrusted."""
    present = (key for key, sample in report.samples.items() if sample.rows)
    return {key: f"rows-{n}" for n, key in enumerate(present, 1)}


def _held(report: Report) -> int:
    return report.states[State.STORED].n + report.states[State.DELETED].n


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    yield "Archive", brief(report.archive)
    if report.helpdesk or report.last_run:
        yield "Source", brief(report.helpdesk or (report.last_run and report.last_run.source) or "")
    if report.last_run and (words := limits(report.last_run.scope)):
        yield "Last run looked at", "; ".join(words)
    for line in waits(report.seen):
        yield "Requests", line
    yield "As of", f"{moment(report.generated_at)} UTC"


def _balance(report: Report, links: Links) -> Exhibit:
    listed, counts = report.listed, [report.states[state] for state in ORDER]
    chart = charts.balance(
        "The ledger as a balance",
        [(state.value, state.value, report.states[state].n) for state in ORDER],
        f"{counted(listed.n, 'attachment')} listed",
    )
    rows = tuple(
        (
            Cell(state.value, tone=state.value, note=MEANING[state]),
            *amounts(count, links.get(("state", state.value))),
            number(share),
        )
        for state, count, share in zip(
            ORDER, counts, shares([count.n for count in counts]), strict=True
        )
    )
    note = "all that the source ever listed"
    table = Table(
        "Listed = stored + missing + gone + deleted + failed + pending",
        ("State", "Attachments#", "Bytes#", "Share#"),
        rows,
        foot=(Cell("listed", note=note), *amounts(listed), number(shares([listed.n])[0])),
    )
    return Exhibit("balance", "The balance", chart=chart, table=table)


def _figures(report: Report, links: Links) -> Iterator[Figure]:
    listed, held = report.listed, _held(report)
    yield Figure("Attachments listed", f"{listed.n:,}", human_bytes(listed.bytes), "balance")
    share = f"{charts.percent(held, listed.n)} of all that was listed"
    yield Figure("In the archive", f"{held:,}", share, links.get(("state", State.STORED.value)))
    trouble = report.attention_total
    href = "troubles" if report.attention else "accepted" if report.accepted else None
    named = "named below" if trouble else ""
    if settled := report.accepted_total:
        named = f"{settled:,} of them accepted as lost"
    yield Figure("Failed, missing, gone", f"{trouble:,}", named, href)
    threads = f"{report.threads_missing:,} without posts" if report.threads_missing else ""
    yield Figure("Tickets in the archive", f"{report.tickets.known:,}", threads, "tickets")
    size = f"{human_bytes(report.files.bytes)}; equal ones are kept once"
    yield Figure("Different contents", f"{report.files.n:,}", size, "duplicates")
    if run := report.last_run:
        took = "at work" if report.seen.at_work else "killed before its end"
        end = f"begun {moment(run.started_at)}"
        if run.finished_at is not None:
            took = human_duration(run.finished_at - run.started_at)
            end += f", exit code {run.exit_code}"
        yield Figure(f"Last run ({brief(run.kind)})", took, end, "pace" if report.pace else None)


def _troubles(report: Report, links: Links) -> Iterator[Exhibit]:
    shown = [one for one in report.problems if one.state not in KEPT]
    if shown:
        yield _problems(report, "problems", shown, links)
    yield from _unlisted(report)
    command = "migrator report --format csv"
    yield from _by_owner(report)
    if (rows := report.attention[:ATTENTION_SHOWN]) and not report.losses:
        table = _losses(
            "What could not be kept, and why",
            rows,
            report.attention_total - report.accepted_total,
            f"{command} --state failed --state missing --state gone --not-accepted",
        )
        yield Exhibit("troubles", "Failed, missing and gone", table=table)
    if report.accepted:
        caption = "Losses that somebody accepted: when, who and why"
        table = _losses(caption, report.accepted, report.accepted_total, f"{command} --accepted")
        yield Exhibit("accepted", "Accepted as lost", table=table)


def _losses(caption: str, rows: Sequence[Row], total: int, command: str) -> Table:
    return Table(
        caption,
        (*ROW_HEAD, "State", "Why"),
        tuple(_row(row, why=WHY) for row in rows),
        notes=cut(total, len(rows), "attachments"),
        command=command,
        wide=True,
    )


def _by_owner(report: Report) -> Iterator[Exhibit]:
    """Show what each department lost as a list that its owner can be sent."""
    source = brief(report.helpdesk or report.archive)
    states = " ".join(f"--state {state}" for state in ATTENTION)
    for number_, losses in enumerate(report.losses, 1):
        if not losses.rows:
            break
        name, total = group_name(losses.department), losses.department.n
        table = Table(
            f"What could not be copied from {source}, as of {moment(report.generated_at)} UTC",
            ("Ticket", "Requester", "File", "Size#", "Reason"),
            tuple(_loss(*pair) for pair in losses.rows),
            notes=cut(total, len(losses.rows), "attachments"),
            command=f"{csv_command('department', losses.department.key)} {states} --not-accepted",
            wide=True,
        )
        intro = "Does anybody still have these files, in a mailbox for example? The requesters may."
        yield Exhibit(f"owner-{number_}", f"{name}: {total:,}", intro, table=table, apart=True)
    if others := [one.department for one in report.losses if not one.rows]:
        table = Table(
            "Further departments",
            ("Department", "Attachments#"),
            tuple((Cell(group_name(one), "name"), number(one.n)) for one in others[:ROWS_SHOWN]),
            foot=(Cell("All of these", "name"), number(sum(one.n for one in others))),
            notes=cut(len(others), ROWS_SHOWN, "departments"),
        )
        yield Exhibit("owners", "Further departments", table=table)


def _loss(row: Row, ticket: TicketHeader | None) -> Cells:
    words, _ = explain(row.state, row.problem)
    where = row.ticket_number or row.holder
    subject = brief(ticket.subject) if ticket else ""
    requester = (ticket.requester_name, ticket.requester_email) if ticket else ()
    return (
        Cell(f"{brief(where, _WORD)} {subject}".strip(), "name"),
        Cell(brief(", ".join(filter(None, requester))) or "unknown", "name"),
        Cell(brief(row.filename), "name"),
        number(human_bytes(row.declared_size)),
        Cell(f"{words}: {brief(row.detail, WHY)}" if row.detail else words, "name"),
    )


def _problems(report: Report, id_: str, problems: Sequence[Problem], links: Links) -> Exhibit:
    title = "By reason" if id_ == "problems" else "By kind of note"
    problems = sorted(problems, key=lambda one: (SERIOUS.index(one.state), -one.n))
    shown, whole = problems[:PROBLEMS_SHOWN], sum(one.n for one in problems)
    drawn = shown[:BARS_SHOWN]
    chart = charts.bars(
        title,
        [(label(explain(one.state, one.problem)[0]), (one.n,)) for one in drawn],
        (charts.Measure("attachments", "failed", charts.plainly),),
        (whole,),
        [one.state.value for one in drawn],
    )
    rows = []
    for one in shown:
        words, remedy = explain(one.state, one.problem)
        if report.seen.at_work and "migrator run" in remedy:
            remedy = ""  # its end will tell
        anchor = links.get(("problem", one.key))
        state = Cell(one.state.value, tone=one.state.value)
        rows.append((Cell(words, "name", note=remedy), state, number(one.n, anchor)))
    if len(problems) > len(shown):
        rest = sum(one.n for one in problems[PROBLEMS_SHOWN:])
        more = f"{len(problems) - PROBLEMS_SHOWN:,} others"
        rows.append((Cell(more, "name"), Cell(""), number(rest)))
    table = Table(
        "Attachments by reason and state, and what to do"
        if id_ == "problems"
        else "These attachments are in the archive: what was noted about them",
        ("What", "State", "Attachments#"),
        tuple(rows),
        foot=(Cell("All"), Cell(""), number(whole)),
    )
    return Exhibit(id_, title, chart=chart, table=table)


def _problem_name(problem: Problem) -> str:
    words, _ = explain(problem.state, problem.problem)
    code = f" ({brief(problem.problem)})" if problem.problem and words != problem.problem else ""
    return f"{words}, {problem.state.value}{code}"


def _unlisted(report: Report) -> Iterator[Exhibit]:
    """Show the tickets whose attachments could not be listed: they have no rows in the ledger."""
    found = ((report.last_run.summary if report.last_run else None) or {}).get("unlisted")
    if not isinstance(found, Mapping) or not found:
        return
    shown = list(found.items())[:UNLISTED_SHOWN]
    table = Table(
        "Tickets whose attachments could not be listed by the last run",
        ("Ticket id", "Why"),
        tuple((Cell(brief(str(id_)), "name"), Cell(brief(str(why)), "name")) for id_, why in shown),
        notes=cut(len(found), UNLISTED_SHOWN, "tickets"),
    )
    yield Exhibit("unlisted", "Tickets that could not be listed", table=table)


def _notes(report: Report, links: Links) -> Iterator[Exhibit]:
    """Yield what was odd about attachments that are kept all the same."""
    if shown := [one for one in report.problems if one.state in KEPT]:
        yield _problems(report, "notes", shown, links)


def _tickets(report: Report) -> Iterator[Exhibit]:
    if report.tickets.known:
        table = Table(
            "Numbers of tickets differ, as they count different things at different times",
            ("Tickets", "Number#"),
            tuple(
                (Cell(title, note=meaning), number(n))
                for title, n, meaning in ticket_figures(report)
            ),
            notes=(
                *((f"{texts(report.texts)}.",) if any(report.texts.values()) else ()),
                f"{replies(report.replies)}.",
            ),
        )
        yield Exhibit("tickets", "Tickets", table=table)


def _delivered(report: Report) -> Iterator[Exhibit]:
    """Yield the tickets at each Tickiti, those first that do not have all of their files there."""
    notes = undeliverable(report.undeliverable, report.pages)
    for place, (target, (every, tickets)) in enumerate(report.delivered.items(), 1):
        found = report.seen.deliveries[target]
        total = sum(count.n for count in found.values())
        rows = tuple(_delivered_ticket(one, report.pages) for one in tickets[:ATTENTION_SHOWN])
        table = Table(
            "Tickets, first those that do not have all of their files in Tickiti",
            ("Ticket", "In Tickiti", "Delivered#", "Not there#", "Why, and where else"),
            rows,
            notes=(*cut(every, len(rows), "tickets"), *notes),
            command="migrator deliver --list",
            wide=True,
        )
        there = found.get("delivered", Count())
        intro = f"{counted(there.n, 'file', total)} of tickets, {human_bytes(there.bytes)}."
        yield Exhibit(f"delivered-{place}", f"Tickiti at {brief(target)}", intro, table=table)


def _delivered_ticket(one: TicketDelivered, pages: str) -> Cells:
    there = one.files["delivered"]
    left = [f"{n:,} {state.replace('_', ' ')}" for state, n in one.files.items() if n]
    where = ticket_page(pages, one.ticket_id)
    why = "; ".join([*one.reasons[:REASONS_SHOWN], *([where] if where else [])])
    missing = sum(one.files.values()) - there
    return (
        Cell(str(one.ticket_id), "word"),
        Cell(brief(one.number or "no ticket", _WORD), "word"),
        number(there),
        number(missing, note=", ".join(left[bool(there) :])),
        Cell(brief(why, WHY) if missing else "", "name"),
    )


def _breakdowns(report: Report, links: Links) -> Iterator[Exhibit]:
    yield from _tickets(report)
    if not report.listed.n:
        return
    found = "As found in the bytes where we hold them, else as declared."
    yield breakdown("department", "By department", report.departments, links=links)
    yield breakdown("type", "By type", report.types, links=links, intro=found)
    yield by_year("By year", report.years, links=links)
    yield breakdown("size", "By size", report.sizes, links=links, largest=False)
    if report.many_kinds:
        outside = any(group.key in ("article", "step") for group in report.kinds)
        intro = NO_TICKET if outside else ""
        yield breakdown("kind", "By what holds the file", report.kinds, links=links, intro=intro)


def _work(report: Report, links: Links) -> Iterator[Exhibit]:
    if report.files.n:
        yield _duplicates(report, links)
    if report.pace:
        yield _pace(report)


def _duplicates(report: Report, links: Links) -> Exhibit:
    files, saved = report.files, report.duplicates
    chart = charts.balance(
        "Bytes kept and bytes saved",
        [("kept", "stored", files.bytes), ("saved", "saved", saved.bytes)],
        "Bytes of all attachments that we hold",
    )
    both = Count(files.n + saved.n, files.bytes + saved.bytes)
    kept_share, saved_share = shares([files.bytes, saved.bytes])
    count, size = amounts(saved)
    linked = count._replace(href=links.get(("duplicate", "")))
    table = Table(
        "Equal files are kept once, however many attachments share them; sizes are those of the "
        "contents, which take some more on a disk",
        ("What", "Attachments#", "Bytes#", "Share#"),
        (
            (Cell("Kept", tone="stored"), *amounts(files), number(kept_share)),
            (Cell("Saved", tone="saved"), linked, size, number(saved_share)),
        ),
        foot=(Cell("All that we hold"), *amounts(both), number(shares([both.bytes])[0])),
    )
    return Exhibit("duplicates", "Duplicates", chart=chart, table=table)


def _pace(report: Report) -> Exhibit:
    """Show what the last run stored over time, in a table of at most twelve rows."""
    points, step = report.pace, _step(report)
    chart = charts.columns(
        "What the last run stored over time",
        [_clock(point.at, step * len(points)) for point in points],
        [(point.attachments, point.bytes) for point in points],
        MEASURES,
        f"in {human_duration(step)}",
    )
    each = -(-len(points) // PACE_ROWS)
    spans = [points[start : start + each] for start in range(0, len(points), each)]
    table = Table(
        f"Stored by the last run, in spans of {human_duration(each * step)}",
        ("From", "Attachments#", "Bytes#"),
        tuple(_span(moment(some[0].at), some, step) for some in spans),
        foot=_span("All", points, step),
    )
    return Exhibit("pace", "Pace of the last run", chart=chart, table=table)


def _span(title: str, points: Sequence[PacePoint], step: int) -> Cells:
    n, size = sum(one.attachments for one in points), sum(one.bytes for one in points)
    seconds = len(points) * step
    return (
        Cell(title),
        number(n, note=f"{n / seconds:,.1f}/s"),
        number(human_bytes(size), note=f"{human_bytes(size / seconds)}/s"),
    )


def _step(report: Report) -> int:
    """Return the seconds of a step of the pace; of a single one, those of its run."""
    if steps := [later.at - one.at for one, later in pairwise(report.pace)]:
        return max(1, min(steps))
    run = report.last_run
    return max(1, (run.finished_at or run.started_at) - run.started_at) if run else 1


def _clock(seconds: int, span: int) -> str:
    """Return a time as precisely as a run of ``span`` seconds needs it."""
    told = moment(seconds)
    return told[11:] if span < 600 else told[11:16] if span < 86_400 else told[5:16]


def _samples(report: Report, links: Links) -> Iterator[SampledRows]:
    titles = _titles(report)
    for key, anchor in links.items():
        dimension, _ = key
        sample, group, title = report.samples[key], _NOUNS[dimension], titles[key]
        table = Table(
            f"{group}: {title}",
            (*ROW_HEAD, "State", "Why"),
            tuple(map(_row, sample.rows)),
            notes=cut(sample.total, len(sample.rows), "attachments"),
            command=csv_command(*key),
            wide=True,
        )
        back = _EXHIBITS.get(dimension, dimension)
        if dimension == "problem" and key[1].partition("/")[0] in KEPT:
            back = "notes"
        yield SampledRows(anchor, group, title, sample.total, back, table)


def _titles(report: Report) -> dict[Key, str]:
    found: dict[Key, str] = {("state", state.value): state.value for state in State}
    found |= {("problem", one.key): _problem_name(one) for one in report.problems}
    for dimension, groups in report.breakdowns.items():
        found |= {(dimension, group.key): group_name(group) for group in groups}
    return found | {("duplicate", ""): "Equal to another attachment"}


def _row(row: Row, *, why: int = 0) -> Cells:
    """Show an attachment; a reason of more than ``why`` characters is cut, 0 is for examples."""
    reason = brief(row.accepted or row.detail or row.problem or "", why or _WORD)
    state = Cell(row.state.value, tone=row.state.value if why else None)
    return (*attachment(row), state, Cell(reason, "name"))


def csv_command(dimension: str, key: str) -> str:
    """Return the shell command that lists all rows behind the figure ``key`` of a ``dimension``.

    Both as in :attr:`Report.samples`. Characters that a terminal would not show become escapes of
    ``$'…'``, which bash, ksh and zsh read.
    """
    options = f"--{dimension} {_quoted(key or NONE)}"
    if dimension == "duplicate":
        options = "--duplicates"
    elif dimension == "problem":
        state, _, problem = key.partition("/")
        options = f"--state {state} --problem {_quoted(problem or NONE)}"
    return f"migrator report --format csv {options}"


def _quoted(value: str) -> str:
    if shown(value) == value:
        return shlex.quote(value)
    return "$'" + "".join(map(_escaped, value)) + "'"


def _escaped(char: str) -> str:
    if char in "\\'":
        return "\\" + char
    if shown(char) == char:
        return char
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "replace"))
