"""The command that lists the rows behind a figure.

The closing report as a page: the verdict, the balance, the break-downs, the rows behind.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from migrator.archive.records import PacePoint, Row, State
from migrator.report import charts
from migrator.report.html import (
    BARS_SHOWN,
    MEASURES,
    Behind,
    Cell,
    Cells,
    Exhibit,
    Figure,
    Kind,
    Links,
    Page,
    Section,
    Table,
    breakdown,
    by_year,
    cut,
    label,
    moment,
    render,
)
from migrator.report.model import Key, Problem, Report
from migrator.report.text import MEANING, ORDER, ticket_figures
from migrator.report.verdict import CHECKS, describe_check, limits
from migrator.text import brief, human_bytes, human_duration, shares, shown

NONE = "none"
"""How the command line says the key "" of a type, a year or a problem."""


def csv_command(dimension: str, key: str) -> str:
    """Give the shell command that lists all rows behind the figure ``key`` of a ``dimension``.

    Both as in :attr:`Report.behind`. Characters that a terminal would not show are written as
    the escapes of ``$'…'``, which bash, ksh and zsh read.
    """
    return " ".join(["migrator report --format csv", *_options(dimension, key)])


def _options(dimension: str, key: str) -> list[str]:
    if dimension == "duplicate":
        return ["--duplicates"]
    if dimension == "problem":
        state, _, problem = key.partition("/")
        return [f"--state {state}", f"--problem {_quoted(problem or NONE)}"]
    return [f"--{dimension} {_quoted(key or NONE)}"]


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


ATTENTION_SHOWN = 200
UNLISTED_SHOWN = 50
PROBLEMS_SHOWN = 30
PACE_ROWS = 12
WHY = 200
"""How many characters of a reason are shown where it matters most."""
_WORD = 80

_NOUNS = {
    "state": "State",
    "problem": "Problem",
    "department": "Department",
    "type": "Type",
    "year": "Year",
    "size": "Size",
    "duplicate": "Duplicates",
}
_EXHIBITS = {"state": "balance", "problem": "problems", "duplicate": "duplicates"}
"""Which exhibit shows a dimension, where it has another name."""
_ROW_HEAD: tuple[tuple[str, Kind], ...] = (
    ("Attachment", "number"),
    ("Ticket", "word"),
    ("File name", "name"),
    ("Size", "number"),
    ("Type", "word"),
    ("State", "text"),
    ("Why", "name"),
)


def page(report: Report) -> Page:
    """Arrange the report so that what a manager asks first comes first."""
    links, verdict = _links(report), report.verdict
    chapters = (
        ("attention", "What needs attention", _troubles(report, links)),
        ("checked", "What was seen and checked", _checked(report)),
        ("contents", "What there is", _breakdowns(report, links)),
        ("work", "Pace and equal contents", _work(report, links)),
    )
    sections = [Section(id_, title, tuple(made)) for id_, title, made in chapters]
    held = _held(report)
    return Page(
        title="Ledger of the migration",
        facts=tuple(_facts(report)),
        mood=verdict.mood,
        word=verdict.word,
        sentence=verdict.rest,
        warnings=(),
        opening=_balance(report, links),
        figures=tuple(_figures(report, links)),
        sections=tuple(section for section in sections if section.exhibits),
        behind=tuple(_behind(report, links)),
        sign=(
            f"{verdict.word}. {report.listed.n:,} attachments listed by the source: {held:,} in "
            f"the archive, {report.attention_total:,} failed, missing or gone, of which "
            f"{report.accepted_total:,} accepted as lost, "
            f"{report.states[State.PENDING].n:,} pending. As of {moment(report.generated_at)} UTC."
        ),
    )


def _links(report: Report) -> Links:
    """Make anchors for the figures that have rows: numbers, since names are not to be trusted."""
    present = (key for key, sample in report.behind.items() if sample.rows)
    return {key: f"rows-{number}" for number, key in enumerate(present, 1)}


def _held(report: Report) -> int:
    return report.states[State.STORED].n + report.states[State.DELETED].n


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    yield "Archive", brief(report.archive)
    if report.helpdesk or report.last_run:
        yield "Source", brief(report.helpdesk or (report.last_run and report.last_run.source) or "")
    if report.last_run and (words := limits(report.last_run.scope)):
        yield "Last run looked at", "; ".join(words)
    yield "As of", f"{moment(report.generated_at)} UTC"


def _balance(report: Report, links: Links) -> Exhibit:
    listed = report.listed
    chart = charts.balance(
        "The ledger as a balance",
        [(state.value, state.value, report.states[state].n) for state in ORDER],
        f"{listed.n:,} attachments listed",
    )
    counts = [report.states[state] for state in ORDER]
    rows = tuple(
        (
            Cell(state.value, tone=state.value, note=MEANING[state]),
            Cell(f"{count.n:,}", "number", links.get(("state", state.value))),
            Cell(human_bytes(count.bytes), "number", links.get(("state", state.value))),
            Cell(share, "number"),
        )
        for state, count, share in zip(
            ORDER, counts, shares([count.n for count in counts]), strict=True
        )
    )
    table = Table(
        "Listed = stored + missing + gone + deleted + failed + pending",
        (("State", "text"), ("Attachments", "number"), ("Bytes", "number"), ("Share", "number")),
        rows,
        foot=(
            Cell("listed", note="all that the source ever listed"),
            Cell(f"{listed.n:,}", "number"),
            Cell(human_bytes(listed.bytes), "number"),
            Cell(shares([listed.n])[0], "number"),
        ),
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
    if report.problems:
        yield _problems(report, links)
    if unlisted := _unlisted(report):
        yield unlisted
    if report.attention:
        rows = report.attention[:ATTENTION_SHOWN]
        total = report.attention_total - report.accepted_total
        table = Table(
            "What could not be kept, and why",
            _ROW_HEAD,
            tuple(_row(row, why=WHY) for row in rows),
            notes=cut(total, len(rows), "attachments"),
            command="migrator report --format csv --state failed --state missing --state gone "
            "--not-accepted",
            wide=True,
        )
        yield Exhibit("troubles", "Failed, missing and gone", table=table)
    if report.accepted:
        table = Table(
            "Losses that somebody accepted: when, who and why",
            _ROW_HEAD,
            tuple(_row(row, why=WHY) for row in report.accepted),
            notes=cut(report.accepted_total, len(report.accepted), "attachments"),
            command="migrator report --format csv --accepted",
            wide=True,
        )
        yield Exhibit("accepted", "Accepted as lost", table=table)


def _problems(report: Report, links: Links) -> Exhibit:
    shown, whole = report.problems[:PROBLEMS_SHOWN], sum(one.n for one in report.problems)
    drawn = shown[:BARS_SHOWN]
    chart = charts.bars(
        "Problems by kind",
        [(label(_problem_name(one)), (one.n,)) for one in drawn],
        (charts.Measure("attachments with a problem", "failed", charts.plainly),),
        (whole,),
        [one.state.value for one in drawn],
    )
    rows = tuple(
        (
            Cell(brief(one.problem or "(none noted)"), "name"),
            Cell(one.state.value, tone=one.state.value),
            Cell(f"{one.n:,}", "number", links.get(("problem", one.key))),
        )
        for one in shown
    )
    table = Table(
        "Attachments by problem and state; what is stored was checked and kept all the same",
        (("Problem", "name"), ("State", "text"), ("Attachments", "number")),
        rows,
        foot=(Cell("All"), Cell(""), Cell(f"{whole:,}", "number")),
        notes=cut(len(report.problems), PROBLEMS_SHOWN, "kinds"),
    )
    return Exhibit("problems", "Problems by kind", chart=chart, table=table)


def _problem_name(problem: Problem) -> str:
    return f"{brief(problem.problem or '(none noted)')}, {problem.state.value}"


def _unlisted(report: Report) -> Exhibit | None:
    """Show the tickets whose attachments nobody has seen: no row of the ledger tells of them."""
    found = ((report.last_run.summary if report.last_run else None) or {}).get("unlisted")
    if not isinstance(found, Mapping) or not found:
        return None
    shown = list(found.items())[:UNLISTED_SHOWN]
    table = Table(
        "Tickets whose attachments could not be listed by the last run",
        (("Ticket id", "name"), ("Why", "name")),
        tuple((Cell(brief(str(id_)), "name"), Cell(brief(str(why)), "name")) for id_, why in shown),
        notes=cut(len(found), UNLISTED_SHOWN, "tickets"),
    )
    return Exhibit("unlisted", "Tickets that could not be listed", table=table)


def _breakdowns(report: Report, links: Links) -> Iterator[Exhibit]:
    if not report.listed.n:
        return
    yield breakdown("department", "By department", report.departments, links=links)
    yield breakdown(
        "type",
        "By type",
        report.types,
        links=links,
        intro="As found in the bytes where we hold them, else as declared.",
    )
    yield by_year("By year", report.years, links=links)
    yield breakdown("size", "By size", report.sizes, links=links, largest=False)


def _proof(report: Report) -> Exhibit:
    """Tell when somebody last looked whether it is all true."""
    table = Table(
        "Verify reads our files again, audit asks the source for them again",
        (("Check", "text"), ("What it found", "text")),
        tuple((Cell(kind), Cell(describe_check(report.seen.checks.get(kind)))) for kind in CHECKS),
    )
    return Exhibit("proof", "Verify and audit", table=table)


def _tickets(report: Report) -> Exhibit:
    table = Table(
        "Numbers of tickets differ, as they count different things at different times",
        (("Tickets", "text"), ("Number", "number")),
        tuple(
            (Cell(title, note=meaning), Cell(f"{n:,}", "number"))
            for title, n, meaning in ticket_figures(report)
        ),
    )
    return Exhibit("tickets", "Tickets", table=table)


def _checked(report: Report) -> Iterator[Exhibit]:
    yield _proof(report)
    if report.tickets.known:
        yield _tickets(report)


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
    both = files.bytes + saved.bytes
    kept_share, saved_share = shares([files.bytes, saved.bytes])
    href = links.get(("duplicate", ""))
    table = Table(
        "Equal files are kept once, however many attachments share them; sizes are those of the "
        "contents, which take some more on a disk",
        (("What", "text"), ("Attachments", "number"), ("Bytes", "number"), ("Share", "number")),
        (
            (
                Cell("Kept", tone="stored"),
                Cell(f"{files.n:,}", "number"),
                Cell(human_bytes(files.bytes), "number"),
                Cell(kept_share, "number"),
            ),
            (
                Cell("Saved", tone="saved"),
                Cell(f"{saved.n:,}", "number", href),
                Cell(human_bytes(saved.bytes), "number"),
                Cell(saved_share, "number"),
            ),
        ),
        foot=(
            Cell("All that we hold"),
            Cell(f"{files.n + saved.n:,}", "number"),
            Cell(human_bytes(both), "number"),
            Cell(shares([both])[0], "number"),
        ),
    )
    return Exhibit("duplicates", "Duplicates", chart=chart, table=table)


def _pace(report: Report) -> Exhibit:
    """Show what the last run stored, and sum it up in at most twelve rows."""
    points = report.pace
    step = _step(report)
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
        (
            ("From", "text"),
            ("Attachments", "number"),
            ("Bytes", "number"),
        ),
        tuple(_span(moment(some[0].at), some, step) for some in spans),
        foot=_span("All", points, step),
    )
    return Exhibit("pace", "Pace of the last run", chart=chart, table=table)


def _span(title: str, points: Sequence[PacePoint], step: int) -> Cells:
    n, size = sum(one.attachments for one in points), sum(one.bytes for one in points)
    seconds = len(points) * step
    return (
        Cell(title),
        Cell(f"{n:,}", "number", note=f"{n / seconds:,.1f}/s"),
        Cell(human_bytes(size), "number", note=f"{human_bytes(size / seconds)}/s"),
    )


def _step(report: Report) -> int:
    """Return the seconds of a step of the pace; of a single one, those of its run."""
    steps = [later.at - one.at for one, later in pairwise(report.pace)]
    if steps:
        return max(1, min(steps))
    run = report.last_run
    return max(1, (run.finished_at or run.started_at) - run.started_at) if run else 1


def _clock(seconds: int, span: int) -> str:
    """Write a time as precisely as a run of ``span`` seconds needs it."""
    told = moment(seconds)
    return told[11:] if span < 600 else told[11:16] if span < 86_400 else told[5:16]


def _behind(report: Report, links: Links) -> Iterator[Behind]:
    titles = _titles(report)
    for key, anchor in links.items():
        dimension, _ = key
        sample = report.behind[key]
        group, title = _NOUNS[dimension], titles[key]
        table = Table(
            f"{group}: {title}",
            _ROW_HEAD,
            tuple(map(_row, sample.rows)),
            notes=cut(sample.total, len(sample.rows), "attachments"),
            command=csv_command(*key),
            wide=True,
        )
        back = _EXHIBITS.get(dimension, dimension)
        yield Behind(anchor, group, title, sample.total, back, table)


def _titles(report: Report) -> dict[Key, str]:
    found: dict[Key, str] = {("state", state.value): state.value for state in State}
    found |= {("problem", one.key): _problem_name(one) for one in report.problems}
    for dimension, groups in report.breakdowns.items():
        for group in groups:
            found[dimension, group.key] = brief(group.title or group.key).strip() or "(none)"
    return found | {("duplicate", ""): "Equal to another attachment"}


def _row(row: Row, *, why: int = 0) -> Cells:
    """Show an attachment; a reason of more than ``why`` characters is cut, 0 is for examples."""
    size = row.declared_size if row.size is None else row.size
    return (
        Cell(str(row.id), "number"),
        Cell(brief(row.ticket_number, _WORD), "word"),
        Cell(brief(row.filename), "name"),
        Cell(human_bytes(size), "number"),
        Cell(brief(row.mime_type or row.declared_type, _WORD), "word"),
        Cell(row.state.value, tone=row.state.value if why else None),
        Cell(brief(row.accepted or row.detail or row.problem or "", why or _WORD), "name"),
    )


def render_report(report: Report) -> Iterator[str]:
    """Write the report as an HTML document, in pieces."""
    return render(page(report))
