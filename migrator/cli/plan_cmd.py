"""``migrator plan``: the dry run from end to end, which is ``run --dry-run`` as well."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from migrator.cli.common import (
    App,
    apply_config,
    note,
    pass_app,
    scope_options,
    settings_from,
    write,
)
from migrator.errors import Interrupted
from migrator.text import counted

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from migrator.archive import Archive
    from migrator.config import Config
    from migrator.events import Listener
    from migrator.plan.dry_run import Dry
    from migrator.plan.model import Plan
    from migrator.plan.plan_file import Journal
    from migrator.pull.options import RunOptions, Stop
    from migrator.sources.base import Scope


def make_plan(
    app: App,
    scope: Scope,
    *,
    form: str = "text",
    output: Path | None = None,
    save: Path | None = None,
    sample: int = 0,
    fast: bool = False,
) -> int:
    """Run the dry run, print its report, save the plan; return the exit code.

    A dry run that ends early prints what it has seen, then raises what ended it.
    """
    from migrator.archive import open_dry
    from migrator.cli.pulling import at_work, options_from
    from migrator.plan import html, model, text
    from migrator.plan.dry_run import dry_run
    from migrator.serve.catalog import gate
    from migrator.sources import open_source

    config = app.load()
    options = replace(options_from(config, scope, kind="plan"), fast=fast)
    with ExitStack() as stack:
        archive = stack.enter_context(open_dry(config.archive.path))
        apply_config(archive, config)
        journal = None
        if save is not None:
            journal = stack.enter_context(_journal(save, options))
        settings = settings_from(config)

        async def work(pool: Executor, listener: Listener, stop: Stop) -> Dry:
            async with open_source(
                settings, pool=pool, listener=listener, sleep=stop.sleep
            ) as source:
                return await dry_run(
                    source,
                    archive,
                    options,
                    pool=pool,
                    sample=sample,
                    journal=journal,
                    listener=listener,
                    stop=stop,
                )

        dry = at_work(app, settings, work)
        result = dry.result
        if result.ended_by is not None and not result.tickets:
            raise result.ended_by
        rules, bucket = archive.access.rules(), _bucket(config)
        plan = model.make_plan(
            archive,
            options,
            dry,
            lambda extension: gate(rules, f"name.{extension}" if extension else "name").value,
            max_download=config.tickiti.max_download,
            per_second=config.kayako.requests_per_second,
            free=None if bucket else _free(config.archive.path),
            bucket=bucket,
            hours=config.hours,
        )
        if result.ended_by is None and save is not None and journal is not None:
            write(_saved(archive, options, dry, plan), save)
            journal.remove()
            note(f"The plan is in {str(save)!r}, for `migrator run --plan`.")
        write(
            {"html": html.render_plan, "json": text.to_json, "text": text.to_text}[form](plan),
            output,
        )
        if result.ended_by is not None:
            raise _ended(result.ended_by, journal)
    return 0 if result.proven else 3


def _journal(save: Path, options: RunOptions) -> Journal:
    from migrator.plan.plan_file import SUFFIX, Journal

    # What a ticket holds does not depend on the scope; an age such as 30d changes each time.
    journal = Journal(save.with_name(save.name + SUFFIX), {"source": options.source_name})
    if len(journal):
        note(f"Resuming after {counted(len(journal), 'ticket')} listed before.")
    return journal


def _ended(error: Exception, journal: Journal | None) -> Exception:
    """Return the error that says what is kept of an interrupted dry run."""
    if not isinstance(error, Interrupted):
        return error
    if journal is None:
        return Interrupted(
            "interrupted; nothing of it is kept: with --save-plan FILE the next dry run resumes "
            "where this one stopped"
        )
    return Interrupted(
        f"interrupted; {str(journal.path)!r} keeps {counted(len(journal), 'ticket')}; run the "
        "same command again to resume"
    )


def _saved(archive: Archive, options: RunOptions, dry: Dry, plan: Plan) -> Iterator[str]:
    from migrator.plan import plan_file

    n = size = 0
    for row in archive.queries.listed_in(dry.result.run_id):
        n, size = n + 1, size + row.declared_size
    head = plan_file.Head(
        source=options.source_name,
        scope=options.scope.told(),
        made_at=dry.result.started,
        complete=plan.complete,
        fast=plan.fast is not None and not plan.fast.fallback,
        tickets=plan.tickets_total or plan.tickets,
        attachments=n,
        bytes=size,
        to_fetch=plan.todo.n,
        to_fetch_bytes=plan.todo.bytes,
    )
    return plan_file.lines(head, archive.queries.listed_in(dry.result.run_id))


def _bucket(config: Config) -> str:
    """Return the address of the bucket where the files are, or will be; "" for the disk."""
    from migrator.blobs import place_of

    if (place := place_of(config.archive.path)) is not None:
        return place.url
    is_old = (config.archive.path / "checkpoint.db").exists()  # its files stay where they are
    return "" if is_old else config.archive.blobs or ""


def _free(path: Path) -> int | None:
    """Return the free bytes where the archive is, or will be."""
    for place in (path, *path.absolute().parents):
        try:
            return shutil.disk_usage(place).free
        except OSError:
            continue
    return None


def _place(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """Reject a place that cannot be written now, not after hours of listing."""
    if value is not None and not value.absolute().parent.is_dir():
        raise click.BadParameter(f"there is no directory {str(value.parent)!r}", ctx, param)
    return value


FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@scope_options
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "html"]),
    default="text",
    show_default=True,
    help="What to print.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option(
    "--output", type=FILE, callback=_place, metavar="FILE", help="Write there, not to stdout."
)
@click.option(
    "--save-plan",
    type=FILE,
    callback=_place,
    metavar="FILE",
    help="Save what was listed for `migrator run --plan`; if interrupted, run it again to resume.",
)
@click.option(
    "--sample",
    type=click.IntRange(2, 100_000),
    metavar="N",
    help="Fetch up to N more attachments that may be equal, to measure what that saves.",
)
@click.option(
    "--fast",
    is_flag=True,
    help="Look only at tickets that Kayako marks as having files; an estimate.",
)
@pass_app
def plan(
    app: App,
    *,
    scope: Scope,
    form: str,
    as_json: bool,
    output: Path | None,
    save_plan: Path | None,
    sample: int | None,
    fast: bool,
) -> int:
    """Print what a run would do, what Tickiti will refuse, and how long it takes.

    Lists everything as `migrator run` does and fetches a few attachments to measure the pace.
    Nothing is written but the report and, with --save-plan, the plan. What is listed is kept in
    FILE.partial until the plan is complete: if it is interrupted, run the same command again.

    \b
    Examples:
      migrator plan
      migrator plan --fast
      migrator plan --save-plan plan.jsonl --format html --output plan.html
      migrator plan --department Sales --json > plan.json
    """
    if fast and scope.limit_tickets:
        raise click.UsageError("--fast and --limit-tickets do not go together")
    if output is not None and save_plan is not None and output.resolve() == save_plan.resolve():
        raise click.UsageError("--output and --save-plan must be two files")
    form = "json" if as_json else form
    return make_plan(
        app, scope, form=form, output=output, save=save_plan, sample=sample or 0, fast=fast
    )
