"""``migrator report``: the closing ledger, for people and for scripts."""

from __future__ import annotations

from pathlib import Path

import click

from migrator.cli import _output
from migrator.cli._common import App, open_beside, pass_app


@click.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "csv", "html"]),
    default="text",
    show_default=True,
    help="csv has a line for every attachment; html is one file to send, print and sign.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write to this file instead of stdout; it appears whole or not at all.",
)
@pass_app
def report(app: App, form: str, output: Path | None) -> None:
    """Tell the ledger: what was listed, what is stored, what went wrong.

    Works while a run is at work, too.

    \b
    Example:
      migrator report
      migrator report --format csv --output attachments.csv
      migrator report --format html --output report.html
    """
    from migrator.report import build, render, to_csv, to_json

    _, archive = open_beside(app)
    with archive:
        if form == "csv":
            _output.write(to_csv(archive.ledger.rows()), output)
        elif form == "html":
            from migrator.report.html import render_report

            _output.write(render_report(build(archive, behind=True)), output)
        else:
            tell = to_json if form == "json" else render
            _output.write([tell(build(archive))], output)
