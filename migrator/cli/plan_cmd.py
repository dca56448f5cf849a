"""``migrator plan``: the dry run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from migrator.cli._common import App, pass_app
from migrator.cli._scope import scope_options

if TYPE_CHECKING:
    from migrator.transfer.walk import Scope


@click.command()
@scope_options
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@pass_app
def plan(app: App, *, scope: Scope, as_json: bool) -> int:
    """Tell what a run would do, what Tickiti will refuse, and how long it takes.

    Lists everything as `migrator run` does and fetches a few attachments to measure the pace.
    Nothing is written, neither here nor at the source.

    \b
    Examples:
      migrator plan
      migrator plan --department Sales --json > plan.json
    """
    return dry_run(app, scope, as_json=as_json)


def dry_run(app: App, scope: Scope, *, as_json: bool) -> int:
    """Do the dry run and print its report on stdout."""
    from migrator.archive import open_dry
    from migrator.cli._common import apply_config, settings_from
    from migrator.cli._progress import progress
    from migrator.cli._pull import options_from, pull_dry
    from migrator.report import plan as report
    from migrator.tickiti.rules import gate
    from migrator.transfer.dry import estimate_seconds

    config = app.load()
    options = options_from(config, scope, kind="plan")
    with open_dry(config.archive.path) as archive:
        apply_config(archive, config)
        with progress(app.log_format) as listener:
            result, sample = pull_dry(settings_from(config), archive, options, listener)
        if result.ended_by is not None:
            raise result.ended_by
        rules = archive.access.rules()
        todo = report.todo(archive)
        pace = report.Pace(
            concurrency=options.concurrency,
            list_requests=result.lists.calls,
            list_seconds=result.lists.seconds,
            sampled=sample.calls,
            sampled_bytes=sample.bytes,
            sample_seconds=sample.seconds,
            estimated_seconds=estimate_seconds(
                result,
                sample,
                todo=todo.n,
                todo_bytes=todo.bytes,
                concurrency=options.concurrency,
                threads=archive.threads.count_unread() if options.posts else 0,
            ),
        )
        made = report.build(
            archive,
            lambda extension: gate(rules, f"name.{extension}" if extension else "name").value,
            max_download=config.tickiti.max_download,
            pace=pace,
            unlisted=len(result.unlisted) + len(result.unreadable),
            short=result.short,
        )
    click.echo(report.to_json(made) if as_json else report.to_text(made), nl=as_json)
    return 0 if result.proven else 3
