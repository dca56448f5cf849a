"""``migrator run``: pull everything, resumable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from migrator.cli.common import (
    App,
    apply_config,
    choose_store,
    now,
    pass_app,
    pull_options,
    scope_options,
    settings_from,
)
from migrator.errors import ConfigError, SourceError, reason_of
from migrator.text import counted, shown

if TYPE_CHECKING:
    from migrator.archive import Archive
    from migrator.pull.options import RunResult
    from migrator.sources.base import Scope


@click.command()
@scope_options
@click.option(
    "--recheck", is_flag=True, help="Ask now for all that failed, and for missing and gone ones."
)
@pull_options
@click.option(
    "--every-id",
    is_flag=True,
    help="Ask for every ticket id that no list names, even if they are more than a thousand.",
)
@click.option("--dry-run", is_flag=True, help="Write nothing; the same as `migrator plan`.")
@click.option(
    "--plan",
    "plan_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Print what changed since `migrator plan --save-plan FILE`.",
)
@pass_app
def run(
    app: App,
    /,
    *,
    scope: Scope,
    dry_run: bool,
    plan_path: Path | None,
    **wishes: bool,
) -> int:
    """Pull every attachment into the archive.

    Safe to interrupt and to run again: what is stored is never fetched twice. The closing ledger
    goes to stdout, with failures last.

    \b
    Examples:
      migrator run
      migrator run --department Support --since 30d
      migrator run --recheck
      migrator run --plan plan.jsonl
    """
    if dry_run:
        from migrator.cli.plan_cmd import make_plan

        if plan_path is not None:
            raise click.UsageError("--dry-run and --plan do not go together")
        return make_plan(app, scope)
    from migrator.archive import open_archive
    from migrator.cli.disk import warn_of_network
    from migrator.cli.progress import progress
    from migrator.cli.publish_cmd import publishing
    from migrator.cli.pulling import options_from, pull
    from migrator.cli.textfile import measured

    config = app.load()
    warn_of_network(config.archive.path)
    options = options_from(config, scope, kind="run", **wishes)
    plan = None
    if plan_path is not None:
        from migrator.plan.plan_file import PlanFile

        plan = PlanFile(plan_path)
        plan.check(options.source_name, options.scope, now=now())
        options = replace(options, baseline=plan)
    choose_store(config)
    with open_archive(config.archive.path, command="run") as archive, measured(config, archive):
        apply_config(archive, config)
        app.started()
        with progress(app.log_format) as listener:
            result = pull(settings_from(config), archive, options, listener)
        if plan is not None and plan.drift is not None:
            click.echo("\n".join(plan.drift.lines()) + "\n")
        with publishing(archive, config):
            return conclude(archive, result, posts=options.posts)


def conclude(archive: Archive, result: RunResult, *, posts: bool = True) -> int:
    """Print what the lists left open, then the closing ledger; return the exit code.

    ``posts`` says whether the run kept posts. Raises what ended the run early: at once if it did
    nothing, else once the ledger is printed.
    """
    from migrator.report.model import build
    from migrator.report.text import render

    if result.ended_by is not None and nothing_done(result):
        raise result.ended_by
    print_gaps(result)
    click.echo(render(build(archive, posts=posts)), nl=False)
    if result.ended_by is not None:
        raise result.ended_by
    return result.exit_code


def nothing_done(result: RunResult) -> bool:
    """Return whether a run was refused before it listed anything: the reason says it all."""
    return isinstance(result.ended_by, SourceError | ConfigError) and not result.tickets


def _print_missing_articles(missing: dict[str, str]) -> None:
    if missing:
        click.echo(f"Parts of knowledge base and troubleshooter not read: {len(missing):,}")
        for name, text in list(missing.items())[:50]:
            click.echo(f"  {name}: {shown(text)}")


def print_gaps(result: RunResult) -> None:
    """Print what the lists left open, and what the source changed or deleted."""
    gaps = [f"ticket {key}: {text}" for key, text in sorted(result.unlisted.items())]
    gaps += [
        f"row {key} of the list: {text}" if key >= 0 else text
        for key, text in sorted(result.unreadable.items())
    ]
    if gaps:
        number = len(result.unlisted) + result.unreadable.rows
        click.echo(f"Tickets that could not be listed: {max(number, 1):,}")
        for gap in gaps[:50]:
            click.echo(f"  {shown(gap)}")
    for what, missing, warning in (
        (
            "Threads",
            result.threads_missing,
            "Attachments of posts are not affected; files that these texts link to are not known.",
        ),
        ("Custom fields", result.fields_missing, "There may be files in them."),
    ):
        if missing:
            click.echo(f"{what} missing: {len(missing):,}; the next run tries again. {warning}")
        for key, text in sorted(missing.items())[:10]:
            click.echo(f"  ticket {key}: {shown(reason_of(text))}")
    _print_missing_articles(result.articles_missing)
    if result.short:
        click.echo(f"The source counts {counted(result.short, 'ticket')} more than it lists.")
    if result.changed:
        first = ", ".join(map(str, sorted(result.changed)[:10]))
        more = f" and {len(result.changed) - 10:,} more" if len(result.changed) > 10 else ""
        click.echo(
            f"Listed as other files than those that we held: {len(result.changed):,} (attachment "
            f"{first}{more}). They were fetched again; the earlier files are kept."
        )
    if result.deleted:
        click.echo(f"Deleted at the source since: {result.deleted:,}; their bytes are kept.")
    texts = (result.threads_missing, result.fields_missing, result.articles_missing)
    if any((gaps, *texts, result.short, result.deleted)):
        click.echo()
