"""``migrator verify``: read everything again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from migrator.cli._common import App, fraction, note, pass_app, print_json, shown

if TYPE_CHECKING:
    from migrator.transfer.verify import VerifyReport


@click.command()
@click.option(
    "--sample", callback=fraction, metavar="5%", help="Read only this share, chosen by chance."
)
@click.option("--repair", is_flag=True, help="Fetch damaged and lost files again.")
@click.option("--prune", is_flag=True, help="Tell which orphaned files can go; remove nothing.")
@click.option("--yes", is_flag=True, help="With --prune: remove them.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@pass_app
def verify(
    app: App, *, sample: float | None, repair: bool, prune: bool, yes: bool, as_json: bool
) -> int:
    """Read every stored file again and compare it with its SHA-256.

    Tells which files are damaged or lost, and which ones nobody refers to: what killed runs left.
    Exits with 6 when one is damaged or lost and was not repaired. A repair never changes an
    expected hash, and only --prune --yes removes anything.

    \b
    Examples:
      migrator verify
      migrator verify --sample 5%
      migrator verify --repair
      migrator verify --prune --yes
    """
    if yes and not prune:
        raise click.UsageError("--yes goes with --prune.")
    if prune and sample is not None:
        raise click.UsageError("--prune needs all files read; leave out --sample.")
    from migrator.archive import open_archive, open_beside
    from migrator.cli._common import settings_from
    from migrator.cli._drive import drive, threads
    from migrator.cli._progress import progress
    from migrator.transfer import verify as steps
    from migrator.transfer.stop import Stop

    config = app.load(need_source=repair)
    settings = settings_from(config)
    open_beside(config.archive.path).close()  # an archive that is not there is not made here
    with (
        open_archive(config.archive.path, command="verify") as archive,
        threads(settings) as pool,
        progress(app.log_format) as listener,
    ):

        async def work(stop: Stop) -> VerifyReport:
            report = await steps.verify(
                archive,
                root=archive.path,
                share=1.0 if sample is None else sample,
                pool=pool,
                listener=listener,
                stop=stop,
            )
            if repair and (report.damaged or report.lost):
                from migrator.kayako.source import Source

                async with Source(
                    settings, pool=pool, listener=listener, sleep=stop.sleep, patient=True
                ) as source:
                    await steps.repair(
                        archive, source, report, pool=pool, listener=listener, stop=stop
                    )
            if prune:
                await steps.prune(
                    archive, report, root=archive.path, sure=yes, pool=pool, stop=stop
                )
            return report

        report = drive(work)
    if as_json:
        print_json(as_dict(report))
    else:
        _print_text(report)
    return report.exit_code


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
        "files": {
            "damaged": report.damaged,
            "lost": report.lost,
            "orphaned": report.orphaned,
            "repaired": report.repaired,
            "unrepaired": report.unrepaired,
            "prunable": report.prunable,
            "pruned": report.pruned,
            "kept": report.kept,
        },
    }


def _print_text(report: VerifyReport) -> None:
    from migrator.report.plain import human_bytes

    click.echo(f"checked   {report.checked:>12,}  {human_bytes(report.bytes)}")
    lists = {
        "damaged": report.damaged,
        "lost": report.lost,
        "orphaned": report.orphaned,
        "repaired": report.repaired,
    }
    for name, found in lists.items():
        click.echo(f"{name:<8}  {len(found):>12,}")
    for name, found in lists.items():
        for one in found[:50]:
            click.echo(f"  {name} {shown(one)}")
    for name, reason in list(report.kept.items())[:50]:
        click.echo(f"  kept {shown(name)}: {reason}")
    if report.prunable:
        size = human_bytes(sum(report.prunable.values()))
        click.echo(f"Nothing was removed. {len(report.prunable):,} orphaned files, {size}, can go:")
        click.echo("`migrator verify --prune --yes` removes them.")
    if report.pruned:
        size = human_bytes(sum(report.pruned.values()))
        click.echo(f"Removed {len(report.pruned):,} orphaned files, {size}.")
    if report.exit_code:
        note("The archive is damaged. `migrator verify --repair` fetches these files again.")
