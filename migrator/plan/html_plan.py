"""The dry run as a page: how long, how much, and what Tickiti will say."""

from __future__ import annotations

from collections.abc import Iterator

from migrator.archive.records import Count, Row
from migrator.plan.model import Plan
from migrator.plan.text_plan import partial
from migrator.report import charts
from migrator.report.html import (
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
    group_name,
    moment,
    render,
)
from migrator.report.verdict import Mood
from migrator.text import brief, human_bytes, human_duration, shares

_NO_ROWS: Links = {}
_TITLES = {
    "allow": ("Answer", "allowed"),
    "review": ("Answer", "review"),
    "block": ("Answer", "blocked"),
    "too_large": ("What stands out", "too large for one download"),
    "oversize": ("What stands out", "over the limit for an attachment"),
    "odd_name": ("What stands out", "odd name"),
    "no_extension": ("What stands out", "no extension"),
    "empty": ("What stands out", "empty"),
}
_EXHIBITS = {"Answer": "answers", "What stands out": "oddities"}
QUEUES_SHOWN = 50
_WORD = 80


def page(plan: Plan) -> Page:
    """Arrange the dry run: the date and the budget first, then what they rest on."""
    chapters = (
        ("budget", "Time, disk and requests", _budget(plan)),
        ("tickiti", "What Tickiti will say", _verdicts(plan)),
        ("contents", "What there is", _breakdowns(plan)),
    )
    sections = [Section(id_, title, tuple(made)) for id_, title, made in chapters]
    return Page(
        title="Dry run of the migration",
        facts=(
            ("Source", brief(plan.source)),
            ("As of", f"{moment(plan.made_at)} UTC"),
            ("Written", "nothing but this"),
        ),
        mood=_mood(plan),
        word=_word(plan),
        sentence=_sentence(plan),
        warnings=tuple(_warnings(plan)),
        opening=_opening(plan),
        figures=tuple(_figures(plan)),
        sections=tuple(section for section in sections if section.exhibits),
        behind=tuple(_behind(plan)),
        behind_intro="The first of each figure; `migrator plan --save-plan FILE` keeps all.",
        elsewhere="what `migrator plan --save-plan FILE` writes",
    )


def _behind(plan: Plan) -> Iterator[Behind]:
    for name, (group, title) in _TITLES.items():
        rows, total = plan.examples.get(name, ()), getattr(plan.verdicts, name).n
        if not rows:
            continue
        head: tuple[tuple[str, Kind], ...] = (
            ("Attachment", "number"),
            ("Ticket", "word"),
            ("File name", "name"),
            ("Size", "number"),
            ("Type", "word"),
        )
        notes = cut(total, len(rows), "attachments")
        table = Table(f"{group}: {title}", head, tuple(map(_row, rows)), notes=notes, wide=True)
        yield Behind(f"rows-{name}", group, title, total, _EXHIBITS[group], table)


def _row(row: Row) -> Cells:
    size = row.declared_size if row.size is None else row.size
    return (
        Cell(str(row.id), "number"),
        Cell(brief(row.ticket_number, _WORD), "word"),
        Cell(brief(row.filename), "name"),
        Cell(human_bytes(size), "number"),
        Cell(brief(row.mime_type or row.declared_type, _WORD), "word"),
    )


def _mood(plan: Plan) -> Mood:
    if any(_warnings(plan)):
        return "warn"
    return "good" if plan.listed.n else "calm"


def _word(plan: Plan) -> str:
    if not plan.listed.n:
        return "No attachments seen"
    if not plan.todo.n:
        return "Nothing left to fetch"
    if plan.pace.estimated_seconds is None:
        return f"{plan.todo.n:,} attachments to fetch"
    return f"About {human_duration(plan.pace.estimated_seconds)}"


def _sentence(plan: Plan) -> str:
    pace = plan.pace
    fetch = (
        f"{plan.todo.n:,} attachments ({human_bytes(plan.todo.bytes)}) with "
        f"{pace.concurrency} requests at once"
    )
    if pace.estimated_seconds is None:
        return f"To fetch: {fetch}. No estimate: no attachment could be fetched as a sample."
    if pace.low_seconds is None or pace.high_seconds is None:
        return f"To fetch {fetch}."
    low, high = human_duration(pace.low_seconds), human_duration(pace.high_seconds)
    return f"{low} to {high}, to fetch {fetch}."


def _warnings(plan: Plan) -> Iterator[str]:
    """Tell what makes this less than the whole truth, or a run impossible."""
    yield from (line.strip() for line in partial(plan))
    disk = plan.disk
    if disk.free is not None and disk.free < disk.deduped:
        yield f"Not enough room: {human_bytes(disk.free)} are free where the archive will be."


def _opening(plan: Plan) -> Exhibit:
    """Show what Tickiti's rules make of the files: the one bar that is the whole."""
    verdicts = plan.verdicts
    chart = charts.balance(
        "What Tickiti will say to a download",
        [
            ("allowed", "stored", verdicts.allow.n),
            ("review", "missing", verdicts.review.n),
            ("blocked", "failed", verdicts.block.n),
        ],
        f"{plan.listed.n:,} attachments",
    )
    rows: tuple[tuple[str, str, charts.Tone, Count, str], ...] = (
        ("allow", "allowed", "stored", verdicts.allow, "downloads at once"),
        (
            "review",
            "review",
            "missing",
            verdicts.review,
            "someone must confirm (intent `review_ok`)",
        ),
        (
            "block",
            "blocked",
            "failed",
            verdicts.block,
            "a rule forbids it, see `migrator rule list`",
        ),
    )
    listed = plan.listed.n
    left = max(0, listed - sum(count.n for _, _, _, count, _ in rows))
    written = shares([*(count.n for _, _, _, count, _ in rows), left])
    table = Table(
        "Attachments by Tickiti's rules for downloads",
        (
            ("Answer", "text"),
            ("Attachments", "number"),
            ("Bytes", "number"),
            ("Share", "number"),
        ),
        tuple(
            (
                Cell(name, tone=tone, note=meaning),
                *_amounts(count, _link(plan, key)),
                Cell(share, "number"),
            )
            for (key, name, tone, count, meaning), share in zip(rows, written, strict=False)
        ),
        foot=(
            Cell("listed", note="all attachments in scope"),
            *_amounts(plan.listed),
            Cell(shares([listed])[0], "number"),
        ),
    )
    return Exhibit("answers", "What Tickiti will say to a download", chart=chart, table=table)


def _amounts(count: Count, href: str | None = None) -> tuple[Cell, Cell]:
    size = human_bytes(count.bytes)
    return Cell(f"{count.n:,}", "number", href), Cell(size, "number", href)


def _link(plan: Plan, name: str) -> str | None:
    return f"rows-{name}" if plan.examples.get(name) else None


def _figures(plan: Plan) -> Iterator[Figure]:
    of = f"of {plan.tickets_total:,}" if plan.tickets_total is not None else ""
    yield Figure("Tickets looked at", f"{plan.tickets:,}", of)
    yield Figure("Attachments listed", f"{plan.listed.n:,}", human_bytes(plan.listed.bytes))
    yield Figure("To fetch", f"{plan.todo.n:,}", human_bytes(plan.todo.bytes))
    yield Figure("Already stored", f"{plan.stored.n:,}", human_bytes(plan.stored.bytes))
    plain = f"{human_bytes(plan.disk.plain)} if equal files were kept twice"
    yield Figure("Disk needed, about", human_bytes(plan.disk.deduped), plain, "disk")
    yield Figure("Requests to be made", f"{plan.requests.total:,}", href="requests")


def _verdicts(plan: Plan) -> Iterator[Exhibit]:
    verdicts = plan.verdicts
    limit, most = human_bytes(verdicts.max_download), f"{verdicts.max_attachment / 1e6:g} MB"
    lines = (
        (
            "too_large",
            f"over {limit}",
            verdicts.too_large,
            "too large for one download through the API",
        ),
        (
            "oversize",
            f"over {most}",
            verdicts.oversize,
            "over Tickiti's default limit for an attachment",
        ),
        ("odd_name", "odd name", verdicts.odd_name, "odd, or no file name on some systems"),
        ("no_extension", "no extension", verdicts.no_extension, "rules have nothing to go by"),
        ("empty", "empty", verdicts.empty, "no bytes"),
    )
    chart = charts.bars(
        "What stands out",
        [(name, (count.n, count.bytes)) for _, name, count, _ in lines],
        MEASURES,
        (plan.listed.n, plan.listed.bytes),
    )
    table = Table(
        "Attachments that stand out; one may count in several lines",
        (("What", "text"), ("Attachments", "number"), ("Bytes", "number")),
        tuple(
            (Cell(name, note=why), *_amounts(count, _link(plan, key)))
            for key, name, count, why in lines
        ),
    )
    yield Exhibit("oddities", "What stands out", chart=chart, table=table)
    if gaps := tuple(_gap_rows(plan)):
        table = Table(
            "Between Kayako and Tickiti",
            (("What", "text"), ("Number", "number"), ("Which", "name")),
            gaps,
        )
        yield Exhibit("mapping", "Tickets and departments without a place", table=table)


def _gap_rows(plan: Plan) -> Iterator[Cells]:
    gaps = plan.gaps
    if gaps.numbers is not None:
        first = ", ".join(map(str, gaps.first))
        yield (
            Cell("tickets with files and without a number"),
            Cell(f"{gaps.numbers:,}", "number"),
            Cell(first + (", …" if gaps.numbers > len(gaps.first) else ""), "name"),
        )
    for group in (gaps.queues or ())[:QUEUES_SHOWN]:
        yield (
            Cell("attachments of a department without a queue"),
            Cell(f"{group.n:,}", "number"),
            Cell(group_name(group), "name"),
        )


def _breakdowns(plan: Plan) -> Iterator[Exhibit]:
    if not plan.listed.n:
        return
    links = _NO_ROWS
    yield breakdown("department", "By department", plan.departments, links=links)
    yield breakdown("type", "By type", plan.types, links=links, intro="As the source declares it.")
    if plan.extensions:
        yield breakdown("extension", "By extension", plan.extensions, links=links)
    yield by_year("By year", plan.years, links=links)
    yield breakdown("size", "By size", plan.sizes, links=links, largest=False)


def _budget(plan: Plan) -> Iterator[Exhibit]:
    yield _pace(plan)
    yield _disk(plan)
    yield _requests(plan)


def _pace(plan: Plan) -> Exhibit:
    pace = plan.pace
    rate = pace.list_requests / pace.list_seconds if pace.list_seconds else 0
    rows: list[Cells] = [
        (Cell("requests at once"), Cell(f"{pace.concurrency:,}", "number")),
        (Cell("lists asked for"), Cell(f"{pace.list_requests:,}", "number")),
        (Cell("lists a second, each connection"), Cell(f"{rate:.1f}", "number")),
        (Cell("attachments fetched as a sample"), Cell(f"{pace.sampled:,}", "number")),
        (Cell("bytes of the sample"), Cell(human_bytes(pace.sampled_bytes), "number")),
        (Cell("transfer of the sample"), Cell(f"{pace.sample_seconds:.1f} s", "number")),
    ]
    for name, seconds in (
        ("estimated duration", pace.estimated_seconds),
        ("hardly less than", pace.low_seconds),
        ("hardly more than", pace.high_seconds),
    ):
        told = "not known" if seconds is None else human_duration(seconds)
        rows.append((Cell(name), Cell(told, "number")))
    table = Table("What was measured", (("What", "text"), ("Value", "number")), tuple(rows))
    return Exhibit("pace", "Time", table=table)


def _disk(plan: Plan) -> Exhibit:
    disk = plan.disk
    saved = max(disk.plain - disk.deduped, 0)
    how = (
        "Equal files are guessed by their names and sizes; `--sample N` looks at real ones."
        if disk.method == "names"
        else f"Equal files are estimated from the contents of {disk.compared:,} pairs."
    )
    chart = charts.balance(
        "Bytes on disk and bytes saved",
        [("kept on disk", "stored", disk.deduped), ("saved", "saved", saved)],
        "Bytes of all attachments",
    )
    rows = [
        (Cell("Kept on disk", tone="stored"), Cell(human_bytes(disk.deduped), "number")),
        (
            Cell("Saved by keeping equal files once", tone="saved"),
            Cell(human_bytes(saved), "number"),
        ),
        (Cell("Without that"), Cell(human_bytes(disk.plain), "number")),
    ]
    if disk.free is not None:
        rows.append((Cell("Free on this disk"), Cell(human_bytes(disk.free), "number")))
    table = Table("Room for the archive", (("What", "text"), ("Size", "number")), tuple(rows))
    return Exhibit("disk", "Disk", how, chart, table)


def _requests(plan: Plan) -> Exhibit:
    requests = plan.requests
    lines = (
        ("pages of the ticket list", requests.pages),
        ("lists of attachments", requests.lists),
        ("attachments", requests.fetches),
        ("threads", requests.threads),
    )
    chart = charts.bars(
        "Requests of a run by kind",
        [(name, (n,)) for name, n in lines],
        (charts.Measure("requests", "count", charts.plainly),),
        (requests.total,),
    )
    table = Table(
        "Requests that a run will make",
        (("For", "text"), ("Requests", "number")),
        tuple((Cell(name), Cell(f"{n:,}", "number")) for name, n in lines),
        foot=(Cell("All"), Cell(f"{requests.total:,}", "number")),
        notes=(f"The dry run itself made {requests.made:,}.",),
    )
    return Exhibit("requests", "Requests", chart=chart, table=table)


def render_plan(plan: Plan) -> Iterator[str]:
    """Write the dry run as an HTML document, in pieces."""
    return render(page(plan))
