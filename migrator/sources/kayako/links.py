"""Files that texts link to: found in texts, and fetched as anybody may.

Editors put images at ``__swift/files/<Unix time><SHA-1>.<png|jpg|gif>``, and icons and files of
administrators at ``__swift/files/file_<15 characters>.<type>``: static files, which no API lists.
Only the configured helpdesk is ever asked for them, at its own address, without keys.
"""

from __future__ import annotations

import hashlib
import mimetypes
import posixpath
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, TypeVar
from urllib.parse import unquote, urljoin, urlsplit

from migrator.errors import BadRequest, NotFound
from migrator.sources.base import Attachment, Contents, FetchSink, in_pool
from migrator.sources.kayako import replies
from migrator.sources.kayako.signing import safe
from migrator.sources.kayako.transport import Transport

S = TypeVar("S", bound=FetchSink)

FIRST_LINKED = 5 * 10**15
"""Ids of linked files are above it: so many bits of a hash, which fit a number in JSON."""
_BITS = 50

_LONGEST = 300
"""Characters of an address before its file's folder."""
_MOST_REDIRECTS = 3
HASH_MISMATCH = "hash_mismatch"
"""Note of a file whose bytes are not those that its name promises."""
_HEAD = 1024
"""Bytes of a body in which a page shows itself."""

_NAME = r"(?:([0-9]{10})([0-9a-f]{40})\.(?:gif|jpe?g|png)|file_[a-z0-9]{15}\.[a-z0-9]{1,10})"
_NAMED = re.compile(_NAME, re.IGNORECASE | re.ASCII)
_FILE = re.compile(
    rf"__swift/+files/+(?P<name>{_NAME})(?!(?!__;)[\w.%-]*[\w%-])", re.IGNORECASE | re.ASCII
)
"""What may follow: the end of a sentence, or ``__;``, with which some mail filters end a link."""
_OUTSIDE = re.compile(r"[\s\"'<>()\\`{}|^\x00-\x20\x7f]")
"""What ends an address in a text. Some readers, but not all, take a backslash for a slash."""
_WEB = re.compile(r"(https?)://", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"(?:src|href|background)=", re.IGNORECASE)
_UP = re.compile(r"(?:\.{1,2}/)*")
_FOLDER = re.compile(r"/[\w.~/-]*", re.ASCII)
_CODED = re.compile(
    r"%([2-7][0-9a-fA-F])|&(?:#0{0,9}([0-9]{2,3});?|#[xX]0{0,9}([0-9a-fA-F]{2});?"
    r"|(amp|sol|lowbar|period|colon|quot);)"
)
_ENTITIES = {"amp": "&", "sol": "/", "lowbar": "_", "period": ".", "colon": ":", "quot": '"'}
_NEAR = 4 * _LONGEST
"""Characters around a name that are decoded: each may be written with several."""
_PAGE = re.compile(
    rb"\s*(?:<!--.{0,500}?-->\s*)?<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL
)
_PAGES = (".html", ".htm")
_TARGET = re.compile(r"/[\x21-\x5b\x5d-\x7e]*")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Portal:
    """Where a helpdesk is: its host as DNS knows it, its port, and the path that it is under."""

    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str) -> Portal | None:
        """Return the portal that an API is part of; None for what is no address."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            return None
        host = _host(parts.hostname or "")
        if not host or parts.scheme not in _PORTS:
            return None
        path = posixpath.dirname(parts.path).removesuffix("/api")
        return cls(host, port or _PORTS[parts.scheme], path.rstrip("/"))

    def is_at(self, scheme: str, authority: str) -> bool:
        """Return whether an address leads to this host: over http, https, with or without www.

        What stands before an @ is a name to sign in with, whatever it looks like.
        """
        host, colon, port = authority.rpartition("@")[2].rpartition(":")
        if not colon:
            host, port = port, ""
        if port and not (port.isascii() and port.isdigit() and len(port) < 6):
            return False
        default = _PORTS[scheme]
        given = int(port) if port else default
        usual = given == default and self.port in _PORTS.values()
        return _bare(_host(host)) == _bare(self.host) and (usual or given == self.port)


def _host(name: str) -> str:
    """Return a host as DNS knows it; "" for what cannot be one."""
    try:
        known = name.encode("idna").decode("ascii") if not name.isascii() else name
    except UnicodeError:
        return ""
    return known.lower().removesuffix(".")


def _bare(host: str) -> str:
    return host.removeprefix("www.")


def find(text: str, portal: Portal) -> dict[str, None]:
    """Return the paths of static files of the helpdesk that a text names, in their order.

    The text may be HTML or not, and its addresses may be written with entities or ``%``. The time
    is linear in its length. Addresses of other hosts, those that need signing in, and ``cid:`` and
    ``data:`` images are not among them.
    """
    found: dict[str, None] = {}
    for part in _parts(text):
        plain = _CODED.sub(_character, part)
        for file in _FILE.finditer(plain):
            if (path := _path(plain, file, portal)) is not None:
                found[path] = None
    return found


def _parts(text: str) -> Iterator[str]:
    """Yield the parts of a text in which a file may be named."""
    begin = end = 0
    for name in re.finditer("swift", text):
        if name.start() - _NEAR > end:
            yield text[begin:end]
            begin = name.start() - _NEAR
        end = name.end() + _NEAR
    yield text[begin:end]


def _character(coded: re.Match[str]) -> str:
    byte, decimal, hexadecimal, name = coded.groups()
    if name:
        return _ENTITIES[name]
    code = int(decimal) if decimal else int(byte or hexadecimal, 16)
    return chr(code) if code < 128 else coded[0]


def _path(text: str, file: re.Match[str], portal: Portal) -> str | None:
    """Return the path of a file's address; None where it does not lead to the helpdesk."""
    before = text[max(0, file.start() - _LONGEST) : file.start()]
    ends = [end.end() for end in _OUTSIDE.finditer(before)]
    lead = before[ends[-1] :] if ends else before
    if web := list(_WEB.finditer(lead)):
        schemes = [web[-1][1].lower()]
        authority, _, path = lead[web[-1].end() :].partition("/")
    else:
        # Without a scheme it is an address only where HTML expects one.
        attribute = _ATTRIBUTE.match(lead)
        if not attribute and not (ends and before[ends[-1] - 1] in "\"'"):
            return None
        lead = lead[attribute.end() :] if attribute else lead
        if not lead.startswith("//"):
            folder = lead if lead.startswith("/") else _UP.sub(f"{portal.path}/", lead, count=1)
            return _in_folder(folder, file["name"])
        schemes = [*_PORTS]
        authority, _, path = lead[2:].partition("/")
    if not any(portal.is_at(scheme, authority) for scheme in schemes):
        return None
    return _in_folder(f"/{path}", file["name"])


def _in_folder(folder: str, name: str) -> str | None:
    if not _FOLDER.fullmatch(folder):
        return None
    return posixpath.normpath(f"/{folder.strip('/')}/__swift/files/{name}").replace("//", "/")


def attachments(text: str, portal: Portal, ticket_id: int, post_id: int) -> list[Attachment]:
    """Return the linked files of a text as attachments of its post."""
    return [_attachment(path, ticket_id, post_id) for path in find(text, portal)]


def id_of(ticket_id: int, path: str) -> int:
    """Return the id of a file that texts of a ticket link to; 0 is for texts of none."""
    digest = hashlib.sha256(f"{ticket_id} {path}".encode()).digest()
    return FIRST_LINKED + (int.from_bytes(digest[:8]) >> (64 - _BITS))


def _attachment(path: str, ticket_id: int, post_id: int) -> Attachment:
    name = posixpath.basename(path)
    made = _NAMED.fullmatch(name)
    return Attachment(
        id_of(ticket_id, path),
        ticket_id,
        post_id,
        name,
        filetype=mimetypes.guess_type(name)[0] or "",
        created_at=int(made[1]) if made and made[1] else 0,
        kind="linked",
        place=path,
    )


# Fetching


class _MovedError(Exception):
    """The web server names another address."""


async def receive(
    transport: Transport,
    place: str,
    attachment_id: int,
    make_sink: Callable[[], S],
    pool: Executor | None,
) -> tuple[Contents, S]:
    """Stream the public file at a path into a sink; follow redirects to the same file only.

    Raises NotFound where there is none. A page in the place of a file is no contents.
    """
    what, seen = f"the linked file {place}", {place}
    target = place
    while True:
        reader = _Reader(place, attachment_id, make_sink, moved=len(seen) > 1)
        see, feed = partial(_see, reader, what), partial(_feed, pool, reader)
        try:
            rest = await transport.public(target, what=what, see=see, take=feed)
            return await in_pool(pool, partial(reader.end, rest, what))
        except _MovedError as moved:
            target = _followed(transport.url, target, str(moved), place, what)
            if target in seen or len(seen) > _MOST_REDIRECTS:
                raise BadRequest(f"{what}: its redirects come to no end") from None
            seen.add(target)
        except BaseException:
            reader.abort()
            raise


def _feed(pool: Executor | None, reader: _Reader[S], block: bytes) -> Awaitable[None]:
    return in_pool(pool, partial(reader.feed, block))


def _see(reader: _Reader[S], what: str, status: int, fields: Mapping[str, str]) -> None:
    """Judge the head of a reply; what it leaves is sorted as all replies are."""
    if status in {301, 302, 303, 307, 308}:
        raise _MovedError(fields.get("location", ""))
    if status in {404, 410}:
        raise NotFound(f"{what}: the web server has no such file (HTTP {status})")
    if 200 < status < 500 and status not in {408, 425, 429} and "retry-after" not in fields:
        login = ": it wants a log-in, which is not sent to addresses from texts"
        told = login if status == 401 else ""
        raise BadRequest(f"{what}: the web server does not hand it out (HTTP {status}){told}")
    kind = fields.get("content-type", "").partition(";")[0].strip().lower()
    reader.is_page = kind in {"text/html", "application/xhtml+xml"}


def _followed(origin: str, target: str, location: str, place: str, what: str) -> str:
    """Return the path and query of a redirect that leads to the same file on the same server."""
    try:
        url = urljoin(urljoin(origin, target), location)
        there = urlsplit(url)
        same = bool(location) and _server(url) == _server(origin)
    except ValueError:
        url, there, same = location, urlsplit(""), False
    path = f"{there.path}?{there.query}" if there.query else there.path
    if (
        not same
        or posixpath.basename(unquote(there.path)) != posixpath.basename(place)
        or not _TARGET.fullmatch(path)
    ):
        where = safe(url) if location else "nowhere"
        raise BadRequest(
            f"{what}: the web server redirects to {where}, which is not this file on this server"
        )
    return path


def _server(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, _host(parts.hostname or ""), parts.port or _PORTS.get(parts.scheme)


class _Reader(Generic[S]):
    """The body of one reply: counted, hashed, and told from a page."""

    def __init__(
        self, place: str, attachment_id: int, make_sink: Callable[[], S], *, moved: bool
    ) -> None:
        self._row = replace(_attachment(place, 0, 0), id=attachment_id)
        self._moved = moved
        self._make_sink = make_sink
        self._sink: S | None = None
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._head = b""
        self._size = 0
        self.is_page = False

    def feed(self, block: bytes) -> None:
        if self._sink is None:
            self._sink = self._make_sink()
        if len(self._head) < _HEAD:
            self._head += block[: _HEAD - len(self._head)]
        self._size += len(block)
        self._sha1.update(block)
        if block:
            self._sink.write(block)

    def end(self, rest: bytes, what: str) -> tuple[Contents, S]:
        self.feed(rest)
        sink, name = self._sink, _NAMED.fullmatch(self._row.filename)
        assert sink is not None  # noqa: S101 - it was fed
        promised = name[2].lower() if name and name[2] else ""
        fits = promised == self._sha1.hexdigest()
        said = "" if fits else self._lost(what)
        notes = (HASH_MISMATCH,) if promised and not fits else ()
        contents = Contents(self._row, self._size, not said, () if said else notes, said)
        # Whether it is a ThoroughSink: isinstance would take as long as reading the reply.
        if (finish := getattr(sink, "finish", None)) is not None:
            finish(contents)
        return contents, sink

    def _lost(self, what: str) -> str:
        """Return what came instead of a file; "" where one came."""
        if not self._size:
            return "the web server sends no bytes of it"
        is_page = self.is_page or _PAGE.match(self._head)
        if not is_page or self._row.filename.lower().endswith(_PAGES):
            return ""
        if self._moved:
            raise BadRequest(f"{what}: the web server redirects to a page in its place")
        said = replies.excerpt(self._head)
        return f"the web server sends a page in its place, as for a lost file: {said}"

    def abort(self) -> None:
        if self._sink is not None:
            self._sink.abort()
