"""Shared by all pages: the visitor, templates, forms, and refusals as pages."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib import resources
from typing import Final
from urllib.parse import parse_qsl

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from migrator.archive import Archive
from migrator.archive.records import Group, PacePoint, State, Token
from migrator.report.html import commands
from migrator.serve.auth import Authenticator
from migrator.serve.bounds import MAX_FIELDS, MAX_FORM
from migrator.serve.cache import TimedCache
from migrator.serve.catalog import Catalog
from migrator.serve.web.files import Files
from migrator.serve.web.sessions import Session, Sessions
from migrator.text import brief

_FILES: Final = resources.files("migrator.serve.web") / "assets"
_TYPES: Final = {"style.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"}


class Problem(Exception):
    """An answer that is a page with a heading, a sentence and a status other than 200."""

    def __init__(
        self, status: int, title: str, text: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(title)
        self.headers = headers or {}
        self.status = status
        self.title = title
        self.text = text


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a POST; the last of several with one name counts.

    Raises Problem for another content type and for more than MAX_FORM bytes, and
    ClientDisconnect.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Problem(415, "Not a form", "This address takes forms of our own pages only.")
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > MAX_FORM:
            raise Problem(413, "Too long", "This form is longer than any of our own.")
    text = body.decode("utf-8", "replace")
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError:
        raise Problem(400, "Not a form", "This form has more fields than any of our own.") from None


@dataclass(frozen=True, slots=True)
class Visit:
    """A request of a signed-in visitor; ``form`` holds the fields of a POST."""

    request: Request
    token: Token
    session: Session
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def queues(self) -> frozenset[int] | None:
        """The queues that the visitor may see, None for all."""
        return self.token.queues


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of our own that pages refer to by the hash of its content."""

    url: str
    body: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Figures:
    """What takes a pass over all rows, at one moment: what ``at`` (Unix seconds) was true."""

    at: int
    pace: list[PacePoint]
    kinds: list[Group]
    problems: list[tuple[State, str | None, int]]


def _figures(archive: Archive) -> Figures:
    figures, last = archive.figures, next(iter(archive.queries.runs(1)), None)
    return Figures(
        int(time.time()),
        figures.pace(last.started_at, last.finished_at, points=60) if last else [],
        figures.by_kind(),
        figures.problems(),
    )


class Site:
    """The shared state of all pages; one per process."""

    def __init__(self, catalog: Catalog, sessions: Sessions) -> None:
        self.catalog = catalog
        self.archive = catalog.archive
        self.settings = catalog.settings
        self.sessions = sessions
        self.authenticator = Authenticator(self.archive.access)
        self.files = Files(self.archive)
        self.by_queue = TimedCache(self.archive.figures.by_queue)
        self.figures = TimedCache(
            lambda: self.archive.queries.together(partial(_figures, self.archive))
        )
        self.assets = {asset.url: asset for asset in map(_asset, _TYPES)}
        self._templates = jinja2.Environment(
            loader=jinja2.ChoiceLoader(
                [
                    jinja2.PackageLoader("migrator.serve.web"),
                    jinja2.PrefixLoader({"report": jinja2.PackageLoader("migrator.report")}),
                ]
            ),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "line": line,
            "moment": moment,
            "commands": commands,
            "brief": brief,
        }
        self._templates.globals["assets"] = {name: _asset(name).url for name in _TYPES}

    def page(
        self, name: str, visit: Visit | None, *, status: int = 200, **values: object
    ) -> Response:
        """Render a template; its ``form_seal`` proves that a form is the visitor's own."""
        seal = "" if visit is None else self.sessions.seal("form", visit.session.nonce)
        text = self._templates.get_template(name).render(visit=visit, form_seal=seal, **values)
        return HTMLResponse(text, status)

    def problem(self, problem: Problem, visit: Visit | None = None) -> Response:
        """Render a refusal."""
        answer = self.page("message.html", visit, status=problem.status, problem=problem)
        answer.headers.update(problem.headers)
        return answer


def line(text: str) -> str:
    """Return untrusted text as one line that shows what it is.

    Line ends, direction marks and other invisible characters, with which a name can pose as
    another one, become U+FFFD.
    """
    return "".join(
        char if char.isprintable() else " " if char.isspace() else "\N{REPLACEMENT CHARACTER}"
        for char in text
    )


def moment(seconds: int | None) -> datetime | None:
    """Return Unix seconds as a time in UTC; None for None, 0 and times beyond the calendar."""
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds else None
    except (ValueError, OverflowError, OSError):
        return None


def _asset(name: str) -> Asset:
    body = (_FILES / name).read_bytes()
    stem, _, suffix = name.partition(".")
    digest = hashlib.sha256(body).hexdigest()[:16]
    return Asset(f"/assets/{stem}-{digest}.{suffix}", body, _TYPES[name])
