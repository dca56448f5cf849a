"""``migrator report``: the closing ledger, for people and for scripts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from migrator.cli.common import App, from_archive, note, open_beside, pass_app, write
from migrator.text import find_id

if TYPE_CHECKING:
    from migrator.archive import Archive, RowFilter
    from migrator.config import DeliverConfig
    from migrator.report.verdict import Verdict

STATES = ["stored", "missing", "gone", "deleted", "failed", "pending"]
SIZES = ["0", "1K", "10K", "100K", "1M", "5M", "25M", "50M", "100M", "1G", "more"]


@click.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "csv", "html"]),
    default="text",
    show_default=True,
    help="csv has a line for every attachment; html is one file to send, print and sign.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write to this file instead of stdout; it appears whole or not at all.",
)
@click.option("--state", type=click.Choice(STATES), multiple=True, help="csv: only this state.")
@click.option(
    "--department",
    multiple=True,
    metavar="ID|TITLE",
    shell_complete=from_archive("departments"),
    help="csv: only this one; 0 is the trash, -1 has files of no ticket.",
)
@click.option(
    "--kind",
    "holder",
    type=click.Choice(["post", "customfield", "article", "step", "linked"]),
    multiple=True,
    help="csv: only of this kind: what holds the file.",
)
@click.option("--type", "kind", multiple=True, help="csv: only this MIME type, or `none`.")
@click.option("--year", multiple=True, help="csv: only of this year (UTC), or `none`.")
@click.option(
    "--size", type=click.Choice(SIZES), multiple=True, help="csv: only of this size class."
)
@click.option("--problem", multiple=True, help="csv: only with this problem code, or `none`.")
@click.option(
    "--duplicates", is_flag=True, help="csv: only those with the contents of an earlier one."
)
@click.option(
    "--accepted/--not-accepted",
    default=None,
    help="csv: only losses that somebody accepted, or only the others.",
)
@click.option(
    "--spreadsheet", is_flag=True, help="csv: put ' before names that would count as formulas."
)
@click.option(
    "--compare",
    type=click.Path(path_type=Path, exists=True),
    metavar="PATH",
    help="Print what changed since this report (JSON) or handover.",
)
@click.option(
    "--with",
    "later",
    type=click.Path(path_type=Path, exists=True),
    metavar="PATH",
    help="With --compare: the later report or handover, instead of the archive.",
)
@pass_app
def report(
    app: App,
    /,
    *,
    form: str,
    output: Path | None,
    compare: Path | None,
    later: Path | None,
    spreadsheet: bool,
    **filters: tuple[str | int, ...] | bool | None,
) -> int:
    """Print the ledger: what was listed, what is stored, what went wrong.

    Works while a run is at work, too. A filter may be given several times; different filters must
    all match. Exits with 0 when the whole helpdesk was seen and nothing is open, else with 3,
    6 or 8, whatever the format; with --compare always with 0.

    \b
    Examples:
      migrator report
      migrator report --format html --output report.html
      migrator report --format csv --output attachments.csv
      migrator report --format csv --state missing --state gone
      migrator report --compare report-of-may.json
    """
    departments = tuple(map(str, filters["department"] or ()))  # type: ignore[arg-type]
    given = any(value not in (None, False, ()) for value in filters.values())
    filtered = given or filters["accepted"] is False
    if (filtered or spreadsheet) and form != "csv":
        raise click.UsageError("Filters and --spreadsheet are for a CSV: add --format csv.")
    if later is not None and compare is None:
        raise click.UsageError("--with is the later of two: name the earlier one with --compare.")
    if compare is not None:
        write(_compared(app, form, compare, later), output)
        return 0
    config, archive = open_beside(app)
    with archive:
        if form == "csv":
            if departments:
                known = [(one.department_id, one.title) for one in archive.access.queues()]
                known += [(0, "Trash"), (-1, "No ticket")]
                ids = (find_id("department", name, known) for name in departments)
                filters["department"] = tuple(ids)
            only = _only(**filters) if filtered else None
            verdict, pieces = _csv(archive, only, config.deliver, spreadsheet=spreadsheet)
        else:
            pages = config.deliver.pages
            verdict, pieces = _told(archive, form, posts=config.keeps_posts, pages=pages)
        write(pieces, output)
    if verdict.exit_code and output is not None:
        note(verdict.sentence)  # or nothing on the screen says why it ends so
    return verdict.exit_code


def _csv(
    archive: Archive, only: RowFilter | None, tickiti: DeliverConfig, *, spreadsheet: bool
) -> tuple[Verdict, Iterator[str]]:
    from migrator.archive import EVERYTHING
    from migrator.report.json_report import to_csv
    from migrator.report.verdict import judge, look

    verdict = judge(archive.queries.together(lambda: look(archive)))
    # One line for an attachment has room for one Tickiti: the configured one, if it got anything.
    targets = archive.queries.targets()
    target = tickiti.url if tickiti.url in targets else next(reversed(targets), "")
    return verdict, to_csv(
        archive.queries,
        only or EVERYTHING,
        spreadsheet=spreadsheet,
        target=target,
        pages=tickiti.pages,
    )


def _told(archive: Archive, form: str, *, posts: bool, pages: str) -> tuple[Verdict, Iterator[str]]:
    from migrator.report.json_report import to_json
    from migrator.report.model import build
    from migrator.report.text import render

    made = build(archive, samples=form == "html", posts=posts, pages=pages)
    if form == "html":
        from migrator.report.html import render_report

        return made.verdict, render_report(made)
    return made.verdict, iter([(to_json if form == "json" else render)(made)])


def _only(**filters: tuple[str | int, ...] | bool | None) -> RowFilter:
    """Translate the options: one not given is no restriction, and "none" is the key ""."""
    from migrator.archive import RowFilter
    from migrator.report.html import NONE

    fields = {
        "state": "states",
        "department": "departments",
        "kind": "types",
        "holder": "kinds",
        "year": "years",
        "size": "sizes",
        "problem": "problems",
    }
    wanted = {
        fields[name]: frozenset("" if value == NONE else value for value in given)
        for name, given in filters.items()
        if isinstance(given, tuple) and given
    }
    duplicates, accepted = bool(filters["duplicates"]), filters["accepted"]
    return RowFilter(duplicates=duplicates, accepted=accepted, **wanted)  # type: ignore[arg-type]


def _compared(app: App, form: str, path: Path, later: Path | None) -> Iterator[str]:
    from migrator.report import compare

    if form not in {"text", "json"}:
        raise click.UsageError("A comparison needs --format text or json.")
    tell = compare.to_json if form == "json" else compare.to_text
    before = compare.of_path(path)
    if later is not None:
        yield tell(compare.compare(before, compare.of_path(later)))
        return
    config, archive = open_beside(app)
    with archive:
        now = compare.of_archive(archive, posts=config.keeps_posts)
        yield tell(compare.compare(before, now))
