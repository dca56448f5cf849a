"""``migrator verify``: read everything again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from migrator.cli._common import App, fraction, note, now, pass_app, print_json, told, write_down
from migrator.errors import ArchiveDamaged, Interrupted, MigratorError

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
    "--sample", callback=fraction, metavar="5%", help="Read only this share, chosen by chance."
)
@click.option("--repair", is_flag=True, help="Fetch damaged and lost files again.")
@click.option("--prune", is_flag=True, help="Tell which orphaned files can go; remove nothing.")
@click.option("--yes", is_flag=True, help="With --prune: remove them.")
@click.option(
    "--accept-orphans", is_flag=True, help="With --prune: so many are waste, the ledger is right."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@pass_app
def verify(
    app: App,
    *,
    sample: float | None,
    repair: bool,
    prune: bool,
    yes: bool,
    accept_orphans: bool,
    as_json: bool,
) -> int:
    """Read every stored file again and compare it with its SHA-256.

    The checkpoint comes first, whole: a damaged one ends it. Tells which files are damaged or
    lost, and which ones nobody refers to: what killed runs left. Exits with 6 when one is damaged
    or lost and was not repaired. A repair never changes an expected hash, and only --prune --yes
    removes anything; where more than 20 files and 5 % would go it removes none and exits with 8.
    What was found is written down for reports.

    \b
    Examples:
      migrator verify
      migrator verify --sample 5%
      migrator verify --repair
      migrator verify --prune --yes
    """
    for name, given in (("--yes", yes), ("--accept-orphans", accept_orphans)):
        if given and not prune:
            raise click.UsageError(f"{name} goes with --prune.")
    if prune and sample is not None:
        raise click.UsageError("--prune needs all files read; leave out --sample.")
    from migrator.archive import open_archive
    from migrator.cli._common import settings_from
    from migrator.cli._progress import progress
    from migrator.cli._pull import drive, threads
    from migrator.pull import verify as steps

    config = app.load(need_source=repair)
    then = _Then(repair, prune, yes, accept_orphans)
    settings, started = settings_from(config), now()
    ended_by: MigratorError | None = None
    with open_archive(config.archive.path, command="verify", repairing=True) as archive:
        if repair:
            from migrator.pull.identity import see_address
            from migrator.sources.kayako.signing import safe

            see_address(archive, safe(settings.url), moved=False)
        with threads(settings) as pool, progress(app.log_format) as listener:

            async def work(stop: Stop) -> VerifyReport:
                nonlocal ended_by
                report = await steps.verify(
                    archive,
                    share=1.0 if sample is None else sample,
                    pool=pool,
                    listener=listener,
                    stop=stop,
                )
                try:  # what was found is told, however the rest ends
                    await then(archive, report, settings, pool=pool, listener=listener, stop=stop)
                except MigratorError as error:
                    ended_by = error
                return report

            report = drive(work)
        if not isinstance(ended_by, Interrupted | ArchiveDamaged):
            code = report.exit_code or (ended_by.exit_code if ended_by else 0)
            facts = {"exit_code": code, "summary": _summary(report)}
            write_down(archive, "verify", started, whole=sample is None, **facts)
    if as_json:
        print_json(as_dict(report))
    else:
        _print_text(report)
    if ended_by is not None:
        raise ended_by
    return report.exit_code


@dataclass(frozen=True, slots=True)
class _Then:
    """What is to be done about what was found."""

    repair: bool
    prune: bool
    sure: bool
    accept: bool

    async def __call__(
        self,
        archive: Archive,
        report: VerifyReport,
        settings: KayakoSettings,
        *,
        pool: Executor,
        listener: Listener,
        stop: Stop,
    ) -> None:
        """Do it; the report tells what came of it."""
        from migrator.pull import verify as steps

        if self.repair and (report.damaged or report.lost):
            from migrator.pull.identity import see_helpdesk
            from migrator.sources import open_source
            from migrator.sources.kayako.signing import safe

            async with open_source(
                settings, pool=pool, listener=listener, sleep=stop.sleep
            ) as source:
                await see_helpdesk(source, archive, safe(settings.url))
                await steps.repair(archive, source, report, pool=pool, listener=listener, stop=stop)
        if self.prune:
            await steps.prune(
                archive, report, sure=self.sure, accept=self.accept, pool=pool, stop=stop
            )


def _summary(report: VerifyReport) -> dict[str, object]:
    bad = [one for one in (*report.damaged, *report.lost) if one not in set(report.repaired)]
    return {
        "checked": report.checked,
        "bytes": report.bytes,
        "damaged": len(report.damaged),
        "lost": len(report.lost),
        "repaired": len(report.repaired),
        "unreadable": len(report.unreadable),
        "orphaned": len(report.orphaned),
        "pruned": len(report.pruned),
        "first": bad[:NAMED],
    }


def as_dict(report: VerifyReport) -> dict[str, object]:
    """Give numbers under the names that scripts rely on, and the hashes under ``files``."""
    return {
        "checked": report.checked,
        "bytes": report.bytes,
        "damaged": len(report.damaged),
        "lost": len(report.lost),
        "orphaned": len(report.orphaned),
        "repaired": len(report.repaired),
        "prunable": len(report.prunable),
        "pruned": len(report.pruned),
        "pruned_bytes": sum(report.pruned.values()),
        "unreadable": len(report.unreadable),
        "unused": report.unused,
        "files": {
            "damaged": report.damaged,
            "lost": report.lost,
            "orphaned": report.orphaned,
            "repaired": report.repaired,
            "unrepaired": report.unrepaired,
            "prunable": report.prunable,
            "pruned": report.pruned,
            "kept": report.kept,
            "unreadable": report.unreadable,
        },
    }


def _print_names(report: VerifyReport) -> None:
    lists = {
        "damaged": report.damaged,
        "lost": report.lost,
        "orphaned": report.orphaned,
        "repaired": report.repaired,
    }
    for name, found in lists.items():
        click.echo(f"{name:<8}  {len(found):>12,}")
    for name, found in lists.items():
        for one in found[:SHOWN]:
            click.echo(f"  {name} {told(one, report.unreadable)}")
    folders = sorted(report.unreadable.keys() - {*report.damaged, *report.lost})
    for name in folders[:SHOWN]:
        click.echo(f"  unreadable {told(name, report.unreadable)}")
    for name in list(report.kept)[:SHOWN]:
        click.echo(f"  kept {told(name, report.kept)}")


def _print_text(report: VerifyReport) -> None:
    from migrator.text import human_bytes

    click.echo(f"checked   {report.checked:>12,}  {human_bytes(report.bytes)}")
    _print_names(report)
    if report.prunable:
        size = human_bytes(sum(report.prunable.values()))
        click.echo(f"Nothing was removed. {len(report.prunable):,} orphaned files, {size}, can go:")
        click.echo("`migrator verify --prune --yes` removes them.")
    if report.pruned:
        size = human_bytes(sum(report.pruned.values()))
        click.echo(f"Removed {len(report.pruned):,} orphaned files, {size}.")
    if report.unused:
        note(
            f"The ledger knows {report.unused:,} files that no attachment has: attachments may "
            "have been lost from it. Compare it with a backup.",
            level="warning",
        )
    if report.exit_code:
        note("The archive is damaged. `migrator verify --repair` fetches these files again.")
