"""What every page needs: the archive, the visitor, templates, and refusals as pages."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import resources
from typing import Final

import jinja2
from starlette.responses import HTMLResponse, Response

from migrator.archive import Archive
from migrator.archive.records import Token
from migrator.report.html import commands
from migrator.serve.auth import Doorkeeper
from migrator.serve.cache import Fresh
from migrator.serve.markup import InlineImages
from migrator.serve.tickets import TicketFinder
from migrator.serve.tickiti import EndpointSettings
from migrator.serve.web.files import Files
from migrator.serve.web.forms import Problem
from migrator.serve.web.session import Session, Sessions

ABILITY: Final = "tickets:read"

_FILES: Final = resources.files("migrator.serve.web") / "assets"
_TYPES: Final = {"style.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Visit:
    """A request of somebody who has signed in; ``form`` holds the fields of a POST."""

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


class Room:
    """The shared things of all pages; one per process."""

    def __init__(self, archive: Archive, settings: EndpointSettings, sessions: Sessions) -> None:
        self.archive = archive
        self.settings = settings
        self.sessions = sessions
        self.door = Doorkeeper(archive.access)
        self.inline = InlineImages(archive)
        self.tickets = TicketFinder(archive, settings)
        self.rules = Fresh(archive.access.rules)
        self.files = Files(archive)
        self.by_queue = Fresh(archive.figures.by_queue)
        self.assets = {asset.url: asset for asset in map(_asset, _TYPES)}
        self._templates = _environment({name: _asset(name).url for name in _TYPES})

    def page(
        self, name: str, visit: Visit | None, *, status: int = 200, **values: object
    ) -> Response:
        """Render a template; ``form_seal`` in it proves a form to be the visitor's own."""
        seal = "" if visit is None else self.form_seal(visit.session)
        text = self._templates.get_template(name).render(visit=visit, form_seal=seal, **values)
        return HTMLResponse(text, status)

    def problem(self, problem: Problem, visit: Visit | None = None) -> Response:
        """Render a refusal."""
        return self.page("message.html", visit, status=problem.status, problem=problem)

    def form_seal(self, session: Session) -> str:
        """Return what every form of this session carries."""
        return self.sessions.seal("form", session.nonce)


def line(text: str) -> str:
    """Make a text of unknown origin one line that shows what it is.

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


def _environment(assets: Mapping[str, str]) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("migrator.serve.web"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"line": line, "moment": moment, "commands": commands}
    environment.globals["assets"] = assets
    return environment
