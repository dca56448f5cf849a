"""``migrator audit``: ask the source again for a sample of what is stored."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import click

from migrator.cli.common import (
    App,
    json_option,
    note,
    now,
    open_beside,
    pass_app,
    print_result,
    record_check,
    settings_from,
)
from migrator.errors import Interrupted
from migrator.text import human_bytes, iso_time, shown

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from migrator.archive import Archive
    from migrator.archive.figures import Sample
    from migrator.events import Listener
    from migrator.pull.audit import AuditReport, Finding, Findings
    from migrator.pull.options import Stop

SHOWN = 50
"""The most vanished and unasked ones that the text names; differing ones are all named."""
_SEEDS = 2**32


def _wanted(ctx: click.Context, param: click.Parameter, value: str) -> int | Fraction:
    """Return ``2%`` as a share and ``400`` as a number."""
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,9})?)\s*%|([1-9]\d{0,17})", value.strip(), re.ASCII)
    if found and found[2]:
        return int(found[2])
    share = Fraction(found[1]) / 100 if found else Fraction(0)
    if not 0 < share <= 1:
        text = "must be a number of attachments such as 400, or a share of them such as 2%"
        raise click.BadParameter(text, ctx, param)
    return share


@click.command()
@click.option(
    "--sample",
    callback=_wanted,
    metavar="2%|N",
    default="400",
    show_default=True,
    help="How many of the stored attachments to ask for again.",
)
@click.option(
    "--seed", type=click.IntRange(0, _SEEDS - 1), metavar="S", help="Draw the sample of this seed."
)
@json_option
@pass_app
def audit(app: App, sample: int | Fraction, seed: int | None, as_json: bool) -> int:
    """Fetch a sample of what is stored again from Kayako and compare SHA-256 and size.

    The sample has its share of every department, year and size. Contents are hashed and dropped;
    only the findings are recorded, for reports. Our own files are read as well, to show which side
    of a difference has changed. Exits with 6 when one differs or a file of ours is damaged, 4 when
    the source is down, 3 when it did not answer for some. An attachment for which the source
    gives different answers counts as differing.

    \b
    Examples:
      migrator audit
      migrator audit --sample 2% --json
      migrator audit --sample 2000 --seed 7
    """
    from migrator.cli.pulling import at_work
    from migrator.cli.textfile import measured
    from migrator.pull import audit as steps
    from migrator.pull.fetch import SHOWN
    from migrator.pull.identity import see_address, see_helpdesk
    from migrator.sources import open_source
    from migrator.sources.kayako.signing import safe

    settings = settings_from(app.load())
    config, archive = open_beside(app)
    seed, started = secrets.randbelow(_SEEDS) if seed is None else seed, now()
    with archive, measured(config, archive):
        app.started()
        address = safe(settings.url)
        see_address(archive, address, moved=False)
        drawn = archive.figures.plan_sample(sample, seed=seed)
        report = steps.AuditReport(drawn.population, drawn.size, drawn.worth)

        async def work(pool: Executor, listener: Listener, stop: Stop) -> None:
            async with open_source(
                settings, pool=pool, listener=listener, sleep=stop.sleep
            ) as source:
                await see_helpdesk(source, archive, address)
                await steps.audit(
                    archive.figures.draw_sample(drawn),
                    report,
                    source,
                    archive.blobs,
                    concurrency=settings.concurrency,
                    held=archive.queries.largest("customfield", SHOWN),
                    pool=pool,
                    listener=listener,
                    stop=stop,
                )

        at_work(app, settings, work)
        if not isinstance(report.ended_by, Interrupted):
            _record(archive, report, started)
    print_result(as_dict(drawn, report, address), _lines(drawn, report), as_json=as_json)
    _advise(report)
    return report.exit_code


def _record(archive: Archive, report: AuditReport, started: int) -> None:
    kinds = ("differ", "vanished", "unasked", "ours")
    summary: dict[str, object] = {
        "sample": report.sample,
        "population": report.population,
        "agreed": report.agreed,
        **{name: getattr(report, name).n for name in kinds},
        "statement": report.statement,
    }
    if report.ended_by is not None:
        summary["ended_by"] = str(report.ended_by)
    whole = report.ended_by is None and report.sample >= report.population
    code = report.exit_code
    record_check(archive, "audit", started, whole=whole, exit_code=code, summary=summary)


def as_dict(drawn: Sample, report: AuditReport, source: str) -> dict[str, object]:
    """Return the result as the JSON document ``migrator.audit/1``."""
    from migrator.pull.audit import CONFIDENCE

    found = {
        "differ": report.differ,
        "vanished": report.vanished,
        "unasked": report.unasked,
        "ours_damaged": report.ours,
    }
    return {
        "format": "migrator.audit/1",
        "generated_at": iso_time(now()),
        "source": source,
        "exit_code": report.exit_code,
        "ended_by": str(report.ended_by) if report.ended_by else None,
        "seed": drawn.seed,
        "stored": report.population,
        "strata": drawn.strata,
        "sample": report.sample,
        "worth": drawn.worth,
        "compared": report.compared,
        "agreed": report.agreed,
        **{name: one.n for name, one in found.items()},
        "bytes": report.bytes,
        "confidence": CONFIDENCE,
        "upper_bound": report.bound,
        "statement": report.statement,
        "attachments": {name: list(map(_facts, one.named)) for name, one in found.items()},
    }


def _facts(finding: Finding) -> dict[str, object]:
    row = finding.row
    return {
        "attachment_id": row.id,
        "ticket_id": row.ticket_id,
        "ticket_number": row.ticket_number,
        "filename": row.filename,
        "verdict": finding.verdict,
        "sha256": row.sha256,
        "size": row.size,
        "source_sha256": finding.sha256,
        "source_size": finding.size,
        "source_sha256_again": finding.again,
        "ours": finding.ours.value,
        "reason": finding.reason or None,
        "ours_reason": finding.ours_reason or None,
    }


def _lines(drawn: Sample, report: AuditReport) -> Iterator[str]:
    strata = f"{drawn.strata:,} groups by department, year and size"
    yield f"Sample: {report.sample:,} of {report.population:,} stored attachments, {strata}"
    if len(drawn.places) < drawn.strata:
        left_out = drawn.strata - len(drawn.places)
        yield f"The sample has fewer places than groups: {left_out:,} groups have none."
    if drawn.worth < drawn.size - drawn.size // 100 - 1:
        yield f"Rare kinds have more than their share: it equals a plain sample of {drawn.worth:,}."
    yield f"Draw the same sample again with --seed {drawn.seed}\n"
    yield f"agreed      {report.agreed:>12,}  {human_bytes(report.bytes)} received"
    kinds = {
        "differ": report.differ,
        "vanished": report.vanished,
        "not asked": report.unasked,
        "our damage": report.ours,
    }
    yield from (f"{name:<10}  {findings.n:>12,}" for name, findings in kinds.items())
    for name, findings in kinds.items():
        if findings.n:
            yield from ("", name.capitalize(), *_named(name, findings))
    yield f"\n{report.statement}"


def _named(name: str, findings: Findings) -> Iterator[str]:
    named = findings.named if name in ("differ", "our damage") else findings.named[:SHOWN]
    for finding in named:
        row, reason = finding.row, finding.ours_reason
        ours = "our file is whole" if finding.ours == "ok" else f"our file is {finding.ours.value}"
        ours += f": {shown(reason)}" if reason else ""
        yield f"  {shown(row.where)}, {shown(row.filename)}"
        yield f"    ours    {row.sha256}  {row.size:,} bytes; {ours}"
        if finding.sha256 is not None:
            yield f"    source  {finding.sha256}  {finding.size:,} bytes"
        if finding.reason:
            yield f"    {shown(finding.reason)}"
    if len(named) < findings.n:
        yield f"  and {findings.n - len(named):,} more"


def _advise(report: AuditReport) -> None:
    """Print on stderr what to do next."""
    if report.ours.n:
        note("Files of the archive are damaged. `migrator verify --repair` fetches them again.")
    if report.vanished.n:
        note("What the source no longer has stays here; `migrator sync --full` marks it deleted.")
    if report.ended_by is not None:
        note(f"The audit ended early: {report.ended_by}", level="warning")
