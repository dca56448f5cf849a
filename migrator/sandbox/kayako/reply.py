"""Requests as PHP hands them over, and replies with the way they are to be sent."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from migrator.sandbox.kayako.model import Helpdesk
from migrator.sandbox.kayako.xmlwriter import Body, XmlWriter

XML = "text/xml;charset=UTF-8"
HTML = "text/html; charset=UTF-8"


class Delivery(enum.Enum):
    """How a body goes over the wire."""

    PLAIN = "whole, with Content-Length"
    CUT = "half of it under the Content-Length of the whole, then closed"
    SILENT = "half of it without Content-Length, then closed"
    CHUNKED = "chunked, in odd pieces"
    SLOW = "whole, in about a second"


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply of the server."""

    body: Body
    status: int = 200
    content_type: str = XML
    headers: tuple[tuple[str, str], ...] = ()
    delivery: Delivery = Delivery.PLAIN

    def noisy(self, before: bytes = b"", after: bytes = b"") -> Reply:
        """Return the same reply with text around its body."""
        return replace(self, body=self.body.around(before, after))

    def rewritten(self, change: Callable[[bytes], bytes]) -> Reply:
        """Return the same reply with its body changed."""
        return replace(self, body=Body(change(b"".join(self.body.blocks()))))


@dataclass(frozen=True, slots=True)
class Request:
    """One request: the path in segments, and the parameters as PHP sorted them.

    ``json`` is the body of a request that came as application/json, else None. Bytes that are
    not UTF-8 are kept in the texts as lone surrogates.
    """

    verb: str
    segments: tuple[str, ...]
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    form: Mapping[str, str] = field(default_factory=dict, repr=False)
    json: Mapping[str, str] | None = field(default=None, repr=False)
    query_string: str = field(default="", repr=False)

    @property
    def path(self) -> str:
        """The API path without credentials, such as ``/Tickets/TicketStatus``."""
        return "/" + "/".join(self.segments)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a call works on: the helpdesk, whose lock is held meanwhile, and the request."""

    desk: Helpdesk
    request: Request


def xml(writer: XmlWriter) -> Reply:
    """Reply with a document."""
    return Reply(writer.body())


def text(status: int, message: str, content_type: str = XML) -> Reply:
    """Reply with a bare sentence; after authentication Kayako calls even that text/xml."""
    return Reply(Body(message.encode()), status, content_type)


def page(status: int, title: str, message: str) -> Reply:
    """Reply with an HTML page, as the router, a web server or a proxy does."""
    head = f"<!DOCTYPE html>\n<html><head><title>{title}</title></head>"
    return Reply(Body(f"{head}<body>{message}</body></html>\n".encode()), status, HTML)


def php_error(path: str, title: str, description: str) -> Reply:
    """Reply as Kayako's error handler does: plain text, then exit, at status 200."""
    rule = "=" * 79
    return text(200, f"{title}\nRouter: {path}\n{description}\n{rule}\n")
