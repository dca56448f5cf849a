"""Replies: requests as PHP hands them over, XML as Kayako writes it, and how it is sent.

XML is that of Kayako Classic, byte for byte: one element per line, every value in CDATA, ``<x />``
for an empty one, attributes HTML-escaped, control bytes removed, no final newline. Nothing checks
that values are UTF-8, so neither do we: names are bytes.
"""

from __future__ import annotations

import enum
import html
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

HEADER = b'<?xml version="1.0" encoding="UTF-8"?>'
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Stream:
    """Bytes made while they are sent; ``length`` is exact."""

    length: int
    blocks: Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class Raw:
    """Stands between the tags as it is: no CDATA, no cleaning."""

    data: bytes


class Body:
    """The bytes of a reply, some of them perhaps made on demand."""

    def __init__(self, *parts: bytes | Stream) -> None:
        self.parts = parts

    def __len__(self) -> int:
        """Return the exact number of bytes."""
        return sum(p.length if isinstance(p, Stream) else len(p) for p in self.parts)

    def blocks(self) -> Iterator[bytes]:
        """Yield the bytes in order, in blocks of any size."""
        for part in self.parts:
            if isinstance(part, Stream):
                yield from part.blocks()
            else:
                yield part

    def around(self, before: bytes = b"", after: bytes = b"") -> Body:
        """Return the same body with noise around it."""
        return Body(before, *self.parts, after)


def clean(value: str | bytes | int) -> bytes:
    """Remove what the writer removes and split what would end a CDATA section."""
    data = value if isinstance(value, bytes) else str(value).encode()
    return _CONTROL.sub(b"", data).replace(b"]]>", b"]]]]><![CDATA[>")


Fields = dict[str, "str | bytes | int | Raw | Stream"]
"""What stands in the children of an element, by their tags."""


class XmlWriter:
    """Collects one document."""

    def __init__(self) -> None:
        self._parts: list[bytes | Stream] = [HEADER]

    def open(self, tag: str, **attributes: str | int) -> None:
        """Begin a container, on its own line."""
        self._parts.append(f"\n<{tag}{_attributes(attributes)}>".encode())

    def close(self, tag: str) -> None:
        """End a container, on its own line."""
        self._parts.append(f"\n</{tag}>".encode())

    def value(
        self, tag: str, value: str | bytes | int | Raw | Stream, **attributes: str | int
    ) -> None:
        """Write one element with its value."""
        if isinstance(value, Stream):
            inner: tuple[bytes | Stream, ...] = (b"<![CDATA[", value, b"]]>")
            empty = value.length == 0
        elif isinstance(value, Raw):
            inner, empty = (value.data,), not value.data
        else:
            data = clean(value)
            inner, empty = (b"<![CDATA[" + data + b"]]>",), not data
        head = f"\n<{tag}{_attributes(attributes)}"
        if empty:
            self._parts.append(f"{head} />".encode())
        else:
            self._parts += (f"{head}>".encode(), *inner, f"</{tag}>".encode())

    def values(self, fields: Fields) -> None:
        """Write elements by their tags."""
        for tag, value in fields.items():
            self.value(tag, value)

    @contextmanager
    def inside(self, tag: str, **attributes: str | int) -> Iterator[None]:
        """Write a container around what the block writes."""
        self.open(tag, **attributes)
        yield
        self.close(tag)

    def body(self) -> Body:
        """Return the document."""
        return Body(*_joined(self._parts))


def _attributes(attributes: dict[str, str | int]) -> str:
    return "".join(f' {name}="{_escaped(str(v))}"' for name, v in attributes.items())


def _escaped(value: str) -> str:
    """Escape as PHP does before 8.1, which leaves apostrophes."""
    return html.escape(value, quote=False).replace('"', "&quot;")


def _joined(parts: list[bytes | Stream]) -> Iterator[bytes | Stream]:
    """Glue the bytes between two streams together, so that they are sent at once."""
    run: list[bytes] = []
    for part in parts:
        if isinstance(part, bytes):
            run.append(part)
        else:
            yield b"".join(run)
            yield part
            run = []
    yield b"".join(run)


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
