"""``migrator plan``: the dry run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from migrator.cli._common import App, pass_app
from migrator.cli._scope import scope_options

if TYPE_CHECKING:
    from migrator.transfer.walk import Scope


def _place(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """Refuse a place where nothing can be written now, not after hours of listing."""
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
    help="Keep what was listed for `migrator run --plan`; interrupted, it goes on next time.",
)
@click.option(
    "--sample",
    type=click.IntRange(2, 100_000),
    metavar="N",
    help="Fetch up to N more attachments that may be equal, to tell what keeping them once saves.",
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
    """Tell what a run would do, what Tickiti will refuse, and how long it takes.

    Lists everything as `migrator run` does and fetches a few attachments to measure the pace.
    Nothing is written but the report and, with --save-plan, the plan. What is listed is kept in
    FILE.partial until the plan is whole: after an interruption the same command goes on.

    \b
    Examples:
      migrator plan
      migrator plan --fast
      migrator plan --save-plan plan.jsonl --format html --output plan.html
      migrator plan --department Sales --json > plan.json
    """
    from migrator.cli._planning import Wishes, make_plan

    if fast and scope.limit_tickets:
        raise click.UsageError("--fast and --limit-tickets do not go together")
    if output is not None and save_plan is not None and output.resolve() == save_plan.resolve():
        raise click.UsageError("--output and --save-plan must be two files")
    form = "json" if as_json else form
    return make_plan(app, Wishes(scope, form, output, save_plan, sample or 0, fast))
