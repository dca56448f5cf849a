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
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@pass_app
def verify(app: App, *, sample: float | None, repair: bool, as_json: bool) -> int:
    """Read every stored file again and compare it with its SHA-256.

    Tells which files are damaged or lost, and which ones nobody refers to. Exits with 6 when one
    is damaged or lost and was not repaired. A repair never changes an expected hash.

    \b
    Examples:
      migrator verify
      migrator verify --sample 5%
      migrator verify --repair
    """
    from migrator.archive import open_archive, open_beside
    from migrator.cli._common import settings_from
    from migrator.cli._progress import progress
    from migrator.cli._pull import drive, threads
    from migrator.kayako.source import Source
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
                async with Source(
                    settings, pool=pool, listener=listener, sleep=stop.sleep
                ) as source:
                    await steps.repair(
                        archive, source, report, pool=pool, listener=listener, stop=stop
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
        "files": {
            "damaged": report.damaged,
            "lost": report.lost,
            "orphaned": report.orphaned,
            "repaired": report.repaired,
            "unrepaired": report.unrepaired,
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
    if report.exit_code:
        note("The archive is damaged. `migrator verify --repair` fetches these files again.")
