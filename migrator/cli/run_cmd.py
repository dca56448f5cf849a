"""``migrator run``: pull everything, resumable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from migrator.cli._common import App, pass_app
from migrator.cli._scope import scope_options

if TYPE_CHECKING:
    from migrator.transfer.result import RunResult
    from migrator.transfer.walk import Scope


@click.command()
@scope_options
@click.option("--recheck", is_flag=True, help="Ask again for missing and gone attachments.")
@click.option(
    "--accept-deletions", is_flag=True, help="Believe the source when it lists far fewer."
)
@click.option("--dry-run", is_flag=True, help="Write nothing; the same as `migrator plan`.")
@pass_app
def run(app: App, *, scope: Scope, recheck: bool, accept_deletions: bool, dry_run: bool) -> int:
    """Pull every attachment into the archive.

    Safe to interrupt and to run again: what is stored is never fetched twice. The closing ledger
    goes to stdout, what went wrong is listed last.

    \b
    Examples:
      migrator run
      migrator run --department Support --since 30d
      migrator run --recheck
    """
    if dry_run:
        from migrator.cli.plan_cmd import dry_run as plan

        return plan(app, scope, as_json=False)
    from migrator.archive import open_archive
    from migrator.cli._common import apply_config, settings_from
    from migrator.cli._disk import warn_of_network
    from migrator.cli._progress import progress
    from migrator.cli._pull import options_from, pull

    config = app.load()
    warn_of_network(config.archive.path)
    options = options_from(config, scope, kind="run", recheck=recheck, accept=accept_deletions)
    with open_archive(config.archive.path, command="run") as archive:
        apply_config(archive, config)
        with progress(app.log_format) as listener:
            result = pull(settings_from(config), archive, options, listener)
        return conclude(archive, result)


def conclude(archive: object, result: RunResult) -> int:
    """Print the closing ledger, then what the lists left open; gives the exit code.

    Raises what ended the run early, once the ledger is printed.
    """
    from migrator.archive import Archive
    from migrator.report.model import build
    from migrator.report.text import render

    assert isinstance(archive, Archive)  # noqa: S101 - named late to keep imports light
    click.echo(render(build(archive)), nl=False)
    tell_gaps(result)
    if result.ended_by is not None:
        raise result.ended_by
    return result.exit_code


def tell_gaps(result: RunResult) -> None:
    """Print what the lists left open and what the source has deleted."""
    from migrator.cli._common import shown

    gaps = [f"ticket {key}: {text}" for key, text in sorted(result.unlisted.items())]
    gaps += [f"row {key} of the list: {text}" for key, text in sorted(result.unreadable.items())]
    if gaps:
        click.echo(f"\nTickets that could not be listed: {len(gaps):,}")
        for gap in gaps[:50]:
            click.echo(f"  {shown(gap)}")
    if result.threads_missing:
        click.echo(
            f"\nThreads missing: {len(result.threads_missing):,}; the next run tries again. "
            "Attachments are not affected."
        )
        for key, text in sorted(result.threads_missing.items())[:10]:
            click.echo(f"  ticket {key}: {shown(text)}")
    if result.short:
        click.echo(f"\nThe source counts {result.short:,} tickets more than it lists.")
    if result.deleted:
        click.echo(f"\nDeleted at the source since: {result.deleted:,}; their bytes are kept.")
