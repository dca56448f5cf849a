"""``migrator verify``: read every stored file again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from migrator.blobs import place_of
from migrator.cli.common import (
    App,
    fraction,
    json_option,
    note,
    now,
    pass_app,
    print_result,
    record_check,
    settings_from,
    told,
)
from migrator.errors import ArchiveDamaged, Interrupted, MigratorError
from migrator.text import counted, human_bytes

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from migrator.archive import Archive
    from migrator.events import Listener
    from migrator.pull.options import Stop
    from migrator.pull.verify import VerifyReport
    from migrator.sources.kayako.signing import KayakoSettings

NAMED = 20
"""Hashes that the archive remembers of a verify that found damage."""
SHOWN = 50


@click.command()
@click.option(
    "--sample", callback=fraction, metavar="5%", help="Read only this share, chosen at random."
)
@click.option("--repair", is_flag=True, help="Fetch damaged and lost files again.")
@click.option("--prune", is_flag=True, help="List the orphaned files that can go; remove nothing.")
@click.option("--yes", is_flag=True, help="With --prune: remove them.")
@click.option(
    "--accept-orphans",
    is_flag=True,
    help="With --prune: remove many orphans, too.",
)
@click.option(
    "--superseded",
    is_flag=True,
    help="With --prune: also older replies that newer ones superseded.",
)
@json_option
@pass_app
def verify(app: App, /, *, sample: float | None, as_json: bool, prune: bool, **wishes: bool) -> int:
    """Read every stored file again and compare it with its SHA-256.

    The whole checkpoint comes first: if it is damaged, verify ends. Lists which files are damaged
    or lost, and which are orphaned, as left by killed runs. Exits with 6 when one is damaged or
    lost and was not repaired. A repair accepts only the same bytes. The one exception
    is a kept reply about a ticket: if Kayako sends another one by now, that takes its place, and
    verify says so. Only --prune --yes removes anything; if more than 20 files and 5 % would go, it
    removes none and exits with 8. The findings are recorded for reports.

    \b
    Examples:
      migrator verify
      migrator verify --sample 5%
      migrator verify --repair
      migrator verify --prune --yes
      migrator verify --prune --superseded
    """
    for name, given in wishes.items():
        if given and name != "repair" and not prune:
            raise click.UsageError(f"--{name.replace('_', '-')} goes with --prune.")
    if prune and sample is not None:
        raise click.UsageError("--prune needs all files read; leave out --sample.")
    from migrator.archive import open_archive
    from migrator.cli.pulling import at_work
    from migrator.cli.textfile import measured

    config = app.load(need_source=wishes["repair"])
    settings, started = settings_from(config), now()
    opened = open_archive(config.archive.path, command="verify", repairing=True)
    with opened as archive, measured(config, archive):
        app.started()
        if wishes["repair"]:
            from migrator.pull.identity import see_address
            from migrator.sources.kayako.signing import safe

            see_address(archive, safe(settings.url), moved=False)
        job = _Job(archive, settings, 1.0 if sample is None else sample, prune=prune, **wishes)
        report, ended_by = at_work(app, settings, job)
        if not isinstance(ended_by, Interrupted | ArchiveDamaged):
            code = report.exit_code or (ended_by.exit_code if ended_by else 0)
            facts = {"exit_code": code, "summary": _summary(report)}
            record_check(archive, "verify", started, whole=sample is None, **facts)
    print_result(as_dict(report), _lines(report, sure=wishes["yes"]), as_json=as_json)
    if not as_json:
        _advise(report, in_bucket=place_of(config.archive.path) is not None)
    if ended_by is not None:
        raise ended_by
    return report.exit_code


@dataclass(frozen=True)
class _Job:
    """One verify: what to read, and what to do about the findings."""

    archive: Archive
    settings: KayakoSettings
    share: float
    repair: bool
    prune: bool
    yes: bool
    accept_orphans: bool
    superseded: bool

    async def __call__(
        self, pool: Executor, listener: Listener, stop: Stop
    ) -> tuple[VerifyReport, MigratorError | None]:
        """Return the report of verifying, and the error of the repair or prune, if any."""
        from migrator.pull import verify as steps

        archive, report = self.archive, steps.VerifyReport()
        try:
            await steps.verify(
                archive, share=self.share, pool=pool, listener=listener, stop=stop, report=report
            )
        except MigratorError:
            _tell_found(report)
            raise
        try:
            if self.repair and (report.damaged or report.lost):
                from migrator.pull.identity import see_helpdesk
                from migrator.sources import open_source
                from migrator.sources.kayako.signing import safe

                async with open_source(
                    self.settings, pool=pool, listener=listener, sleep=stop.sleep
                ) as source:
                    await see_helpdesk(source, archive, safe(self.settings.url))
                    await steps.repair(
                        archive, source, report, pool=pool, listener=listener, stop=stop
                    )
            if self.prune:
                sure, accept = self.yes, self.accept_orphans
                await steps.prune(archive, report, sure=sure, accept=accept, pool=pool, stop=stop)
                if self.superseded:
                    await steps.prune_superseded(archive, report, sure=sure, pool=pool)
        except MigratorError as error:
            return report, error
        return report, None


def _tell_found(report: VerifyReport) -> None:
    """Tell what was found before something stopped the reading: it is on no record."""
    if bad := [*report.damaged, *report.lost]:
        named = ", ".join(sorted(bad)[:NAMED])
        note(
            f"Of {report.checked:,} files that were read before, {len(report.damaged):,} are "
            f"damaged and {len(report.lost):,} lost, such as {named}",
            level="warning",
        )


_LISTS = ("damaged", "lost", "orphaned", "repaired")


def _summary(report: VerifyReport) -> dict[str, object]:
    mended = {*report.repaired, *report.replaced}
    bad = [one for one in (*report.damaged, *report.lost) if one not in mended]
    lists = (*_LISTS, "unreadable", "pruned")
    return {
        "checked": report.checked,
        "bytes": report.bytes,
        **{name: len(getattr(report, name)) for name in lists},
        "first": bad[:NAMED],
    }


def as_dict(report: VerifyReport) -> dict[str, object]:
    """Return the numbers by the names that scripts rely on, and the hashes under ``files``."""
    numbers = (*_LISTS, "prunable", "pruned", "unreadable")
    files = (
        *_LISTS,
        "replaced",
        "superseded",
        "unrepaired",
        "prunable",
        "pruned",
        "kept",
        "unreadable",
    )
    return {
        "checked": report.checked,
        "bytes": report.bytes,
        **{name: len(getattr(report, name)) for name in numbers},
        "pruned_bytes": sum(report.pruned.values()),
        "unused": report.unused,
        "replies": {"checked": report.replies, "bytes": report.reply_bytes},
        "replaced": len(report.replaced),
        "superseded": len(report.superseded),
        "files": {name: getattr(report, name) for name in files},
    }


def _lines(report: VerifyReport, *, sure: bool) -> Iterator[str]:
    yield f"checked   {report.checked:>12,}  {human_bytes(report.bytes)}"
    if report.replies:
        size = human_bytes(report.reply_bytes)
        yield f"  of them {report.replies:>12,}  {size}, kept replies"
    lists = {name: getattr(report, name) for name in _LISTS}
    yield from (f"{name:<8}  {len(found):>12,}" for name, found in lists.items())
    for name, found in lists.items():
        yield from (f"  {name} {told(one, report.unreadable)}" for one in found[:SHOWN])
    folders = sorted(report.unreadable.keys() - {*report.damaged, *report.lost})
    yield from (f"  unreadable {told(name, report.unreadable)}" for name in folders[:SHOWN])
    yield from (f"  kept {told(name, report.kept)}" for name in list(report.kept)[:SHOWN])
    if report.prunable:
        size = human_bytes(sum(report.prunable.values()))
        yield f"Nothing was removed. {len(report.prunable):,} orphaned files, {size}, can go:"
        yield "`migrator verify --prune --yes` removes them."
    if report.pruned:
        size = human_bytes(sum(report.pruned.values()))
        yield f"Removed {len(report.pruned):,} orphaned files, {size}."
    if report.superseded:
        size = human_bytes(sum(report.superseded.values()))
        done = "were removed" if sure else "can go: --superseded --yes removes them"
        yield f"Superseded replies: {counted(len(report.superseded), 'file')}, {size}, {done}."


def _advise(report: VerifyReport, *, in_bucket: bool) -> None:
    """Print on stderr what to do next."""
    if in_bucket and report.pruned:
        note("A bucket with versioning keeps what was removed as noncurrent versions.")
    if report.unused:
        note(
            f"The ledger knows {counted(report.unused, 'file')} that no attachment has: "
            "attachments may have been lost from it. Compare it with a backup.",
            level="warning",
        )
    if report.exit_code:
        note("The archive is damaged. `migrator verify --repair` fetches these files again.")
