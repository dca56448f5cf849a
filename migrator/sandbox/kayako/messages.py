"""HTTP messages: requests as PHP passes them on, XML as Kayako writes it, and its transport.

XML is that of Kayako Classic, byte for byte: one element per line, every value in CDATA, ``<x />``
for an empty one, attributes HTML-escaped, control bytes removed, no final newline. Nothing checks
that values are UTF-8, so neither do we: names are bytes.
"""

from __future__ import annotations

import base64
import email.message
import email.policy
import enum
import hashlib
import hmac
import html
import json
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.parser import BytesParser
from random import Random
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, unquote_plus, urlsplit

HEADER = b'<?xml version="1.0" encoding="UTF-8"?>'
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Stream:
    """Bytes made while they are sent; ``length`` is exact."""

    length: int
    blocks: Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class Raw:
    """A value written unchanged: no CDATA, no cleaning."""

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


Value = str | bytes | int | Raw | Stream
Fields = dict[str, "Value | tuple[Value, ...] | list[Fields]"]
"""An element's children by their tags: a value, several values, or children of their own."""


def columns(order: str, **given: Any) -> dict[str, Any]:
    """Return columns in this order; one that is not given is 0, or empty if a dash follows it."""
    names = {name.rstrip("-"): "" if name.endswith("-") else 0 for name in order.split()}
    return names | given


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

    def value(self, tag: str, value: Value = "", **attributes: str | int) -> None:
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
            if isinstance(value, list):
                with self.inside(tag):
                    for children in value:
                        self.values(children)
            else:
                for one in value if isinstance(value, tuple) else (value,):
                    self.value(tag, one)

    def comment(self, text: str) -> None:
        """Write a comment, on its own line."""
        self._parts.append(f"\n<!-- {text} -->".encode())

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
    return "".join(f' {name}="{escaped(str(v))}"' for name, v in attributes.items())


def escaped(value: str) -> str:
    """Escape as PHP does before 8.1, which leaves apostrophes."""
    return html.escape(value, quote=False).replace('"', "&quot;")


def valid(data: bytes) -> str:
    """Return a text as PHP escapes it: what is not UTF-8 is nothing, control bytes stay."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return ""


def _joined(parts: list[bytes | Stream]) -> Iterator[bytes | Stream]:
    """Join the bytes between two streams, so that they are sent at once."""
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
    """How a body is sent."""

    PLAIN = "whole, with Content-Length"
    CUT = "half of it under the Content-Length of the whole, then closed"
    SILENT = "half of it without Content-Length, then closed"
    CHUNKED = "chunked, in odd pieces"
    SLOW = "whole, in about a second"
    DRIPS = "a byte a second"


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
class Upload:
    """A file in a multipart form."""

    name: str
    data: bytes = field(repr=False)


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
    files: Mapping[str, Upload] = field(default_factory=dict, repr=False)
    json: Mapping[str, str] | None = field(default=None, repr=False)
    query_string: str = field(default="", repr=False)

    @property
    def path(self) -> str:
        """The API path without credentials, such as ``/Tickets/TicketStatus``."""
        return "/" + "/".join(self.segments)


def xml(writer: XmlWriter) -> Reply:
    """Reply with a document."""
    return Reply(writer.body())


def table(root: str, tag: str, rows: Iterable[Fields]) -> Reply:
    """Reply with one element for each row."""
    writer = XmlWriter()
    writer.values({root: [{tag: [row]} for row in rows]})
    return xml(writer)


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


SCRIPT: Final = "/api/index.php"
POST_MAX: Final = 64 << 20
"""PHP's ``post_max_size``: a larger form arrives empty."""
LONGEST_VALUE: Final = 512
"""Suhosin's ``suhosin.get.max_value_length``."""
_ALLOWED: Final = re.compile(r"[A-Za-z0-9\s,~%.:=_-]*")


ODD = "surrogateescape"
"""How bytes that are not UTF-8 pass through texts: unchanged."""
TRIMMED = " \t\n\r\0\x0b"
"""What PHP trims off both ends of a text."""


def parse(
    verb: str, target: str, content_type: str, body: bytes, *, longest: int | None = None
) -> Request | Reply:
    """Read a request as the web server, PHP and the router do; a Reply is its refusal.

    Values of the query that have more than ``longest`` bytes are dropped, as by Suhosin.
    """
    url = urlsplit(target)
    if not url.path.startswith(SCRIPT):
        return page(404, "404 Not Found", "<h1>Not Found</h1>")
    query = _pairs(url.query)
    if longest is not None:
        query = {k: v for k, v in query.items() if len(v.encode(errors=ODD)) <= longest}
    form, files = _form(content_type, body) if verb in {"POST", "PUT"} else ({}, {})
    segments = _segments(_route(url.path.removeprefix(SCRIPT), url.query, query, form))
    if not all(_ALLOWED.fullmatch(segment) for segment in segments):
        return page(400, "400", "The URI you submitted has disallowed characters.")
    return Request(
        verb=verb,
        # A segment with an equals sign is a named argument, not one of the path.
        segments=tuple(segment for segment in segments if "=" not in segment),
        query=query,
        form=form,
        files=files,
        json=_json(body) if content_type.startswith("application/json") else None,
        query_string=url.query,
    )


def _route(path_info: str, raw_query: str, query: dict[str, str], form: dict[str, str]) -> str:
    """Return the route from ``e``, else from PATH_INFO, else from the raw query."""
    named = query.get("e") or form.get("e") or ""
    if named.startswith("/"):
        return unquote_plus(named)
    if path_info.strip("/"):
        return unquote(path_info)
    raw = unquote(raw_query.partition("&")[0])
    return raw if raw.startswith("/") else ""


def _segments(route: str) -> list[str]:
    """Split a route; doubled and trailing slashes are harmless."""
    return [segment for segment in route.split("/") if segment]


def _form(content_type: str, body: bytes) -> tuple[dict[str, str], dict[str, Upload]]:
    """Parse the body of a form as PHP fills ``$_POST`` and ``$_FILES``."""
    if len(body) > POST_MAX:
        return {}, {}
    if content_type.startswith("multipart/form-data"):
        return _multipart(content_type, body)
    if "application/x-www-form-urlencoded" in content_type:
        return _pairs(body.decode(errors=ODD)), {}
    return {}, {}


def _pairs(encoded: str) -> dict[str, str]:
    return _named(parse_qsl(encoded, keep_blank_values=True, errors=ODD))


def _named(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return fields by their names; PHP numbers those of a list, as in ``email[]``."""
    fields: dict[str, str] = {}
    numbers: Counter[str] = Counter()
    for name, value in pairs:
        key = f"{name[:-1]}{numbers[name]}]" if name.endswith("[]") else name
        numbers[name] += 1
        fields[key] = value
    return fields


def _multipart(content_type: str, body: bytes) -> tuple[dict[str, str], dict[str, Upload]]:
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1")
    parser = BytesParser(email.message.EmailMessage, policy=email.policy.HTTP)
    parts = (p for p in parser.parsebytes(head + body).walk() if not p.is_multipart())
    fields: list[tuple[str, str]] = []
    files: dict[str, Upload] = {}
    for part in parts:
        name = part.get_param("name", header="content-disposition")
        filename = part.get_param("filename", header="content-disposition")
        data = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(data, bytes):
            if isinstance(filename, str):
                files[name] = Upload(filename, data)
            else:
                fields.append((name, data.decode(errors=ODD)))
    return _named(fields), files


def _json(body: bytes) -> dict[str, str]:
    """Parse a JSON body; anything but an object of texts counts as none."""
    try:
        value = json.loads(body or b"{}")
    except ValueError:
        return {}
    items = value.items() if isinstance(value, dict) else ()
    return {key: item for key, item in items if isinstance(item, str)}


@dataclass(frozen=True, slots=True)
class Keys:
    """The API key (a UUID) and the secret key (base64 of two UUIDs, used as literal text)."""

    api_key: str = field(repr=False)
    secret_key: str = field(repr=False)

    @classmethod
    def from_seed(cls, seed: int) -> Keys:
        """Return the keys of a sandbox; they protect only generated files."""
        rng = Random(~seed)  # noqa: S311 - to be repeated, and guarding nothing
        ids = [str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(3)]
        return cls(ids[0], base64.b64encode((ids[1] + ids[2]).encode()).decode())

    def signature(self, salt: str) -> str:
        """Return base64 of the raw HMAC-SHA256 of the salt."""
        digest = hmac.digest(self.secret_key.encode(), salt.encode(errors=ODD), hashlib.sha256)
        return base64.b64encode(digest).decode()


def credentials(request: Request) -> Mapping[str, str]:
    """Return the parameters where Kayako expects credentials.

    A JSON request is looked for in its body alone; POST and PUT in their form, and only if that
    is empty in the query; GET and DELETE in the query.
    """
    if request.json is not None:
        return request.json
    if request.verb in {"POST", "PUT"} and request.form:
        return request.form
    return request.query


def refusal(request: Request, keys: Keys, switches: set[str]) -> Reply | None:
    """Return the reply to a request that is not authenticated, None for one that is."""
    if "api_off" in switches:
        return Reply(Body(b""), 403, HTML)
    given = credentials(request)
    salt = given.get("salt", "")
    if salt in {"", "0"}:  # PHP takes the text 0 for empty
        return text(401, "NO SALT PROVIDED!", HTML)
    # An unescaped plus arrives as a space; Kayako puts it back, in the signature alone, and trims
    # only then: a plus at its beginning survives, and a space around it becomes one too many.
    signature = given.get("signature", "").replace(" ", "+").strip(TRIMMED)
    known = hmac.compare_digest(
        given.get("apikey", "").strip(TRIMMED).encode(errors=ODD), keys.api_key.encode()
    )
    signed = hmac.compare_digest(signature.encode(errors=ODD), keys.signature(salt).encode())
    if "auth_fail" in switches or not (known and signed):
        return text(401, "FAILED TO AUTHENTICATE", HTML)
    return None
