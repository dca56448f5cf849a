"""Reports as HTML: one file that needs no script, no network and no other file.

It opens from a mail, prints, and follows the reader's choice of light or dark. Nothing that
comes from the helpdesk is markup in it: every text is escaped by the template, shown without
invisible characters, and cut; anchors are numbered and never made of names. The policy in its
head forbids whatever is not its own style sheet, should all of that fail.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Iterator
from importlib import resources
from typing import TYPE_CHECKING

import jinja2
from markupsafe import Markup, escape

from migrator.report import html_plan, html_report
from migrator.report.page import Page

if TYPE_CHECKING:
    from migrator.report.model import Report
    from migrator.report.plan_model import Plan

_PIECE = 200
"""How many pieces of a template are joined into one of the output."""


def render_report(report: Report) -> Iterator[str]:
    """Write the report as an HTML document, in pieces."""
    return render(html_report.page(report))


def render_plan(plan: Plan) -> Iterator[str]:
    """Write the dry run as an HTML document, in pieces."""
    return render(html_plan.page(plan))


def render(page: Page) -> Iterator[str]:
    """Write a page as an HTML document, in pieces."""
    stream = _template().stream(page=page)
    stream.enable_buffering(_PIECE)
    return iter(stream)


@functools.cache
def _template() -> jinja2.Template:
    style = (resources.files("migrator.report") / "templates/report.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("migrator.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["commands"] = commands
    environment.globals |= {"style": Markup(style), "style_hash": digest}  # noqa: S704 - ours
    return environment.get_template("report.html")


def commands(text: str) -> Markup:
    """Escape a text of ours, in which commands stand between backticks."""
    parts = re.split("`([^`]*)`", text)
    marked = (
        Markup("<code>{}</code>").format(part) if index % 2 else escape(part)
        for index, part in enumerate(parts)
    )
    return Markup("").join(marked)
