"""The dry run as a page: duration, amount, and the verdicts of Tickiti."""

from __future__ import annotations

from collections.abc import Iterator

from migrator.archive.records import Count
from migrator.plan.model import Plan
from migrator.plan.text import ahead, beside, decisions, partial, scheduled
from migrator.report import charts, html
from migrator.report.html import Cell, Cells, Exhibit, Figure, SampledRows, Table, amounts, number
from migrator.report.verdict import Mood
from migrator.text import brief, counted, human_bytes, human_duration, shares

QUEUES_SHOWN = 50
_BEHIND = {
    "allow": ("Answer", "allowed"),
    "review": ("Answer", "review"),
    "block": ("Answer", "blocked"),
    "too_large": ("What stands out", "too large for one download"),
    "oversize": ("What stands out", "over the limit for an attachment"),
    "odd_name": ("What stands out", "odd name"),
    "no_extension": ("What stands out", "no extension"),
    "empty": ("What stands out", "empty"),
}
"""The title of the rows of each verdict."""


def render_plan(plan: Plan) -> Iterator[str]:
    """Yield the dry run as an HTML document, in pieces, first the date and the amounts."""
    warnings = tuple(_warnings(plan))
    page = html.Page(
        title="Dry run of the migration",
        facts=(
            ("Source", brief(plan.source)),
            ("As of", f"{html.moment(plan.made_at)} UTC"),
            ("Written", "nothing but this"),
        ),
        mood=_mood(plan, warnings),
        word=_word(plan),
        sentence=_sentence(plan),
        warnings=warnings,
        opening=_answers(plan),
        figures=tuple(_figures(plan)),
        sections=html.sections(
            ("todo", "What to decide, what to do next", _steps(plan)),
            ("budget", "Time, room and requests", (_pace(plan), _disk(plan), _requests(plan))),
            ("tickiti", "What Tickiti will say", _oddities(plan)),
            ("contents", "What there is", _breakdowns(plan)),
        ),
        samples=tuple(_samples(plan)),
        samples_intro="The first of each figure; `migrator plan --save-plan FILE` keeps all.",
        elsewhere="what `migrator plan --save-plan FILE` writes",
    )
    return html.render(page)


def _samples(plan: Plan) -> Iterator[SampledRows]:
    for name, (group, title) in _BEHIND.items():
        rows, total = plan.examples.get(name, ()), getattr(plan.verdicts, name).n
        if rows:
            table = Table(
                f"{group}: {title}",
                html.ROW_HEAD,
                tuple(map(html.attachment, rows)),
                notes=html.cut(total, len(rows), "attachments"),
                wide=True,
            )
            back = "answers" if group == "Answer" else "oddities"
            yield SampledRows(f"rows-{name}", group, title, total, back, table)


def _mood(plan: Plan, warnings: tuple[str, ...]) -> Mood:
    return "warn" if any(warnings) else "good" if plan.listed.n else "calm"


def _word(plan: Plan) -> str:
    if not plan.listed.n:
        return "No attachments seen"
    if not plan.todo.n:
        return "Nothing left to fetch"
    if plan.pace.estimated_seconds is None:
        return f"{counted(plan.todo.n, 'attachment')} to fetch"
    return f"About {human_duration(plan.pace.estimated_seconds)}"


def _sentence(plan: Plan) -> str:
    pace = plan.pace
    fetch = (
        f"{counted(plan.todo.n, 'attachment')} ({human_bytes(plan.todo.bytes)}) with "
        f"{pace.concurrency} requests at once"
    )
    if pace.estimated_seconds is None:
        return f"To fetch: {fetch}. No estimate: no attachment could be fetched as a sample."
    if pace.low_seconds is None or pace.high_seconds is None:
        told = f"To fetch {fetch}."
    else:
        low, high = human_duration(pace.low_seconds), human_duration(pace.high_seconds)
        told = f"{low} to {high}, to fetch {fetch}."
    return " ".join((told, *scheduled(plan)))


def _warnings(plan: Plan) -> Iterator[str]:
    """Yield what makes the figures incomplete, or a run impossible."""
    yield from (line.strip() for line in partial(plan))
    disk = plan.disk
    if disk.short and disk.free is not None:
        yield f"Not enough room: {human_bytes(disk.free)} are free where the archive will be."


def _linked(plan: Plan, name: str) -> tuple[Cell, Cell]:
    """Return the cells of a verdict, with a link to its rows, if any."""
    href = f"rows-{name}" if plan.examples.get(name) else None
    return amounts(_answered(plan, name), href)


def _answered(plan: Plan, name: str) -> Count:
    return plan.unserved if name == "unserved" else getattr(plan.verdicts, name)


def _answers(plan: Plan) -> Exhibit:
    """Show the verdicts of Tickiti's rules on the files, as one bar."""
    rows: list[tuple[str, str, charts.Tone, str]] = [
        ("allow", "allowed", "stored", "downloads at once"),
        ("review", "review", "missing", "someone must confirm (intent `review_ok`)"),
        ("block", "blocked", "failed", "a rule forbids it, see `migrator rule list`"),
    ]
    if plan.unserved.n:
        beside = "belongs to no ticket: the pages and the handover have it, the API does not"
        rows.append(("unserved", "not served", "deleted", beside))
    title, listed = "What Tickiti will say to a download", plan.listed.n
    numbers = [_answered(plan, key).n for key, *_ in rows]
    parts = [(name, tone, n) for (_, name, tone, _), n in zip(rows, numbers, strict=True)]
    chart = charts.balance(title, parts, counted(listed, "attachment"))
    written = shares(numbers)
    whole = Cell("listed", note="all attachments in scope")
    table = Table(
        "Attachments by Tickiti's rules for downloads",
        ("Answer", "Attachments#", "Bytes#", "Share#"),
        tuple(
            (Cell(name, tone=tone, note=meaning), *_linked(plan, key), number(share))
            for (key, name, tone, meaning), share in zip(rows, written, strict=True)
        ),
        foot=(whole, *amounts(plan.listed), number(shares([listed])[0])),
    )
    return Exhibit("answers", title, chart=chart, table=table)


def _steps(plan: Plan) -> Iterator[Exhibit]:
    """Show what to decide and what to do next, each with how."""
    for name, title, caption, steps in (
        ("decide", "What to decide", "The most urgent first", decisions(plan)),
        ("next", "What to do next", "In this order", ahead(plan)),
    ):
        rows = tuple((Cell(f"{n}. {what}", note=how),) for n, (what, how) in enumerate(steps, 1))
        if rows:
            yield Exhibit(name, title, table=Table(caption, ("What, and how",), rows))


def _figures(plan: Plan) -> Iterator[Figure]:
    counted = plan.tickets_total is not None and plan.tickets_total >= plan.tickets
    of = f"of {plan.tickets_total:,}" if counted else ""
    yield Figure("Tickets looked at", f"{plan.tickets:,}", of)
    yield Figure("Attachments listed", f"{plan.listed.n:,}", human_bytes(plan.listed.bytes))
    yield Figure("To fetch", f"{plan.todo.n:,}", human_bytes(plan.todo.bytes))
    yield Figure("Already stored", f"{plan.stored.n:,}", human_bytes(plan.stored.bytes))
    plain = f"{human_bytes(plan.disk.plain)} if equal files were kept twice"
    yield Figure("Room needed, about", human_bytes(plan.disk.deduped), plain, "disk")
    yield Figure("Requests to be made", f"{plan.requests.total:,}", href="requests")


def _oddities(plan: Plan) -> Iterator[Exhibit]:
    verdicts = plan.verdicts
    limit, most = human_bytes(verdicts.max_download), f"{verdicts.max_attachment / 1e6:g} MB"
    lines = (
        ("too_large", f"over {limit}", "too large for one download through the API"),
        ("oversize", f"over {most}", "over Tickiti's default limit for an attachment"),
        ("odd_name", "odd name", "odd, or no file name on some systems"),
        ("no_extension", "no extension", "rules have nothing to go by"),
        ("empty", "empty", "no bytes"),
    )
    counts: list[Count] = [getattr(verdicts, key) for key, *_ in lines]
    chart = charts.bars(
        "What stands out",
        [(name, (n.n, n.bytes)) for (_, name, _), n in zip(lines, counts, strict=True)],
        html.MEASURES,
        (plan.listed.n, plan.listed.bytes),
    )
    table = Table(
        "Attachments that stand out; one may count in several lines",
        ("What", "Attachments#", "Bytes#"),
        tuple((Cell(name, note=why), *_linked(plan, key)) for key, name, why in lines),
    )
    yield Exhibit("oddities", "What stands out", chart=chart, table=table)
    if gaps := tuple(_gaps(plan)):
        table = Table("Between Kayako and Tickiti", ("What", "Number#", "Which"), gaps)
        yield Exhibit("mapping", "Tickets and departments without a place", table=table)


def _gaps(plan: Plan) -> Iterator[Cells]:
    gaps = plan.gaps
    if gaps.numbers is not None:
        first = ", ".join(map(str, gaps.first)) + (", …" if gaps.numbers > len(gaps.first) else "")
        what = Cell("tickets with files and without a number")
        yield what, number(gaps.numbers), Cell(first, "name")
    for group in (gaps.queues or ())[:QUEUES_SHOWN]:
        what = Cell("attachments of a department without a queue")
        yield what, number(group.n), Cell(html.group_name(group), "name")


def _breakdowns(plan: Plan) -> Iterator[Exhibit]:
    if not plan.listed.n:
        return
    show, declared = html.breakdown, "As the source declares it."
    yield show("department", "By department", plan.departments, links={})
    yield show("type", "By type", plan.types, links={}, intro=declared)
    if plan.extensions:
        yield show("extension", "By extension", plan.extensions, links={})
    yield html.by_year("By year", plan.years, links={})
    yield show("size", "By size", plan.sizes, links={}, largest=False)
    if any(group.key != "post" for group in plan.kinds):
        yield show("kind", "By what holds the file", plan.kinds, links={})


def _pace(plan: Plan) -> Exhibit:
    pace = plan.pace
    rate = pace.list_requests / pace.list_seconds if pace.list_seconds else 0

    def duration(seconds: float | None) -> str:
        return "not known" if seconds is None else human_duration(seconds)

    facts: dict[str, int | str] = {
        "requests at once": pace.concurrency,
        "lists asked for": pace.list_requests,
        "lists a second, each connection": f"{rate:.1f}",
        "attachments fetched as a sample": pace.sampled,
        "bytes of the sample": human_bytes(pace.sampled_bytes),
        "transfer of the sample": f"{pace.sample_seconds:.1f} s",
        "estimated duration": duration(pace.estimated_seconds),
        "hardly less than": duration(pace.low_seconds),
        "hardly more than": duration(pace.high_seconds),
    }
    rows = tuple((Cell(name), number(value)) for name, value in facts.items())
    return Exhibit("pace", "Time", table=Table("What was measured", ("What", "Value#"), rows))


def _disk(plan: Plan) -> Exhibit:
    disk = plan.disk
    saved, where = max(disk.plain - disk.deduped, 0), "in the bucket" if disk.bucket else "on disk"
    how = (
        "Equal files are guessed by their names and sizes; `--sample N` looks at real ones."
        if disk.method == "names"
        else f"Equal files are estimated from the contents of {disk.compared:,} pairs."
    )
    chart = charts.balance(
        "Bytes kept and bytes saved",
        [("kept", "stored", disk.deduped), ("saved", "saved", saved)],
        "Bytes of all attachments",
    )
    rows = [
        (Cell(f"Kept {where}", tone="stored"), disk.deduped),
        (Cell("Saved by keeping equal files once", tone="saved"), saved),
        (Cell("Without that"), disk.plain),
    ]
    if disk.replies.n:
        size = disk.replies.bytes if disk.bucket else disk.replies.block_bytes
        blocks = "" if disk.bucket else ", in blocks of 4 KiB"
        rows.append((Cell(f"Replies kept as they come{blocks}"), size))
    if disk.free is not None:
        rows.append((Cell("Free on this disk"), disk.free))
    cells = tuple((name, number(human_bytes(size))) for name, size in rows)
    table = Table("Room for the archive", ("What", "Size#"), cells)
    return Exhibit("disk", "Bucket" if disk.bucket else "Disk", how, chart, table)


def _requests(plan: Plan) -> Exhibit:
    requests = plan.requests
    lines = {
        "pages of the ticket list": requests.pages,
        "lists of attachments": requests.lists,
        "attachments": requests.fetches,
        "threads": requests.threads,
        **({"knowledge base and troubleshooter": requests.articles} if requests.articles else {}),
        **({"custom fields": requests.fields} if requests.fields else {}),
    }
    chart = charts.bars(
        "Requests of a run by kind",
        [(name, (n,)) for name, n in lines.items()],
        (charts.Measure("requests", "count", charts.plainly),),
        (requests.total,),
    )
    table = Table(
        "Requests that a run will make",
        ("For", "Requests#"),
        tuple((Cell(name), number(n)) for name, n in lines.items()),
        foot=(Cell("All"), number(requests.total)),
        notes=(
            f"The dry run itself made {requests.made:,}.",
            *beside(plan),
        ),
    )
    return Exhibit("requests", "Requests", chart=chart, table=table)
