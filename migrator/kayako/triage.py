"""What a reply is: a document, noise around one, or an error, and then which.

Kayako answers errors as plain text, whatever the Content-Type says. A PHP warning may stand
before or after the document, and an uncaught exception is text at status 200 without any XML.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from functools import lru_cache

from migrator.errors import (
    BadRequest,
    MemoryExhausted,
    NotFound,
    NotXml,
    ServerFailed,
    SourceError,
    SourceRefused,
    Throttled,
    UnexpectedReply,
    WrongTicket,
)
from migrator.kayako.signing import scrub_query
from migrator.kayako.urls import safe

NOISE_AROUND_XML = "noise_around_xml"

SEARCH_LIMIT = 1 << 20
"""How many bytes of noise may stand before a document."""

_BLANK = b"\xef\xbb\xbf \t\r\n"  # a byte order mark and white space are no noise
_DECLARED = re.compile(rb"<\?xml\s")
_DECLARATION = re.compile(
    rb"<\?xml\s[^<>]*\?>(?:\s|<!--(?:(?!--).)*+-->|<\?xml-[^<>]*\?>)*", re.DOTALL
)
_PAGE = re.compile(rb"<!doctype|<html|<head|<body|<title", re.IGNORECASE)
_OUT_OF_MEMORY = re.compile(rb"Allowed memory size", re.IGNORECASE)

_TAG = re.compile(r"<[^<>]*>")
_EXCERPT = 200
_KAYAKO_404 = re.compile(r"\b(ticket|attachment|post|note)\s+not\s+found\W*$", re.IGNORECASE)
_WRONG_TICKET = re.compile(r"does not belong to the specified ticket", re.IGNORECASE)
_SECONDS = re.compile(r"[0-9]{1,9}")


@lru_cache
def _root_tag(roots: tuple[str, ...]) -> re.Pattern[bytes]:
    return re.compile(b"<(" + b"|".join(root.encode() for root in roots) + rb")(?=[\s/>])")


def find_document(reply: bytes | bytearray, roots: tuple[str, ...]) -> int | None:
    """Return where the document begins whose root is one of ``roots``; None: not here.

    That is the last ``<?xml`` before the first root tag, else the root tag itself. An HTML page
    is never taken for noise, and only comments and style sheets may stand between the declaration
    and the root: a DOCTYPE, above all, never reaches a parser. The search ends after
    ``SEARCH_LIMIT`` bytes.
    """
    root = _root_tag(roots).search(reply, 0, SEARCH_LIMIT)
    if root is None or _PAGE.search(reply, 0, root.start()):
        return None
    declared = max((at.start() for at in _DECLARED.finditer(reply, 0, root.start())), default=-1)
    if declared < 0:
        return root.start()
    return declared if _DECLARATION.fullmatch(reply, declared, root.start()) else None


def holds_root(reply: bytes | bytearray, roots: tuple[str, ...]) -> bool:
    """Whether a root tag stands anywhere in a part of a reply."""
    return _root_tag(roots).search(reply) is not None


def is_noise(around: bytes | bytearray) -> bool:
    """Whether what stands before or after a document is more than white space."""
    return bool(around.strip(_BLANK))


def out_of_memory(near: bytes | bytearray) -> bool:
    """Whether PHP says that it ran out of memory."""
    return _OUT_OF_MEMORY.search(near) is not None


def excerpt(body: bytes | bytearray) -> str:
    """Return the beginning of a reply for people: one line, no tags, controls or signatures."""
    text = _TAG.sub(" ", bytes(body[:8192]).decode("utf-8", "replace"))
    text = "".join(char if char.isprintable() else " " for char in text)
    text = scrub_query(" ".join(text.split()))
    return text if len(text) <= _EXCERPT else text[: _EXCERPT - 1] + "…"


def exhausted(what: str) -> MemoryExhausted:
    """Return the error for a reply that PHP had no memory to build."""
    return MemoryExhausted(
        f"{what}: PHP ran out of memory building the reply. "
        "Raise memory_limit in the helpdesk's php.ini, then run again."
    )


def no_document(body: bytes | bytearray, *, what: str) -> SourceError:
    """Return the error for a reply with status 200 that holds no document."""
    if out_of_memory(body):
        return exhausted(what)
    said = excerpt(body)
    if not said:
        return NotXml(f"{what}: the reply is empty.")
    return NotXml(f"{what}: the reply is not the expected XML. It begins: {said}")


def error_for(status: int, headers: Mapping[str, str], body: bytes, *, what: str) -> SourceError:
    """Return the error that a reply with any other status than 200 stands for.

    Kayako itself sends 400, 401, 403 and 404; 429 and 5xx come from PHP, the web server or a
    proxy. ``body`` may be cut: a few kilobytes are enough.
    """
    fields = {name.lower(): value for name, value in headers.items()}
    said = excerpt(body)
    told = f" It says: {said}" if said else ""
    if status >= 500:
        return _failed(status, fields, body, what=what, told=told)
    if status >= 400:
        return _refused(status, fields, body, what=what, said=said)
    if status >= 300:
        target = safe(fields["location"]) if "location" in fields else "nowhere"
        return SourceRefused(
            f"{what}: the server redirects to {target} (HTTP {status}). "
            "If that is the helpdesk's API, put that address into url."
        )
    return UnexpectedReply(f"{what}: an unexpected HTTP status {status}.{told}")


def _failed(
    status: int, fields: Mapping[str, str], body: bytes, *, what: str, told: str
) -> SourceError:
    if out_of_memory(body):
        return exhausted(what)
    if status == 503 and "retry-after" in fields:
        return _throttled(status, fields, what=what)
    return ServerFailed(f"{what}: the server failed (HTTP {status}).{told}")


def _refused(
    status: int, fields: Mapping[str, str], body: bytes, *, what: str, said: str
) -> SourceError:
    told = f" It says: {said}" if said else ""
    if status == 401:
        return _unauthorised(said, what=what)
    if status == 404:
        return _not_found(body, what=what, said=said, told=told)
    if status == 429:
        return _throttled(status, fields, what=what)
    error: type[SourceError] = BadRequest
    text = f"{what}: the server rejects the request (HTTP {status}).{told}"
    if status == 403 and not body.strip():
        error = SourceRefused
        text = (
            f"{what}: the REST API is switched off (HTTP 403). "
            "Switch it on in Admin CP > REST API > Settings."
        )
    elif status in {408, 425}:
        error, text = ServerFailed, f"{what}: the server gave up (HTTP {status}).{told}"
    elif status == 400 and _WRONG_TICKET.search(said):
        error, text = WrongTicket, f"{what}: it belongs to another ticket now, as after a merge."
    return error(text)


def _unauthorised(said: str, *, what: str) -> SourceRefused:
    if "NO SALT" in said.upper():
        advice = (
            "The salt did not arrive: a proxy may strip the query, the other url_form is needed, "
            "or an upload is larger than post_max_size in the helpdesk's php.ini."
        )
    else:
        advice = "Check api_key and secret_key: Admin CP > REST API > API Information shows them."
    return SourceRefused(f"{what}: the server refuses us (HTTP 401): {said or 'no text'}. {advice}")


def _not_found(body: bytes, *, what: str, said: str, told: str) -> SourceError:
    """Tell Kayako's own 404 from that of a web server, which says nothing about a file."""
    if not body.strip():
        return NotFound(f"{what}: the helpdesk no longer has it (HTTP 404).")
    if not _PAGE.search(body) and _KAYAKO_404.search(said):
        return NotFound(f"{what}: the helpdesk no longer has it. It says: {said}")
    return UnexpectedReply(
        f"{what}: the address leads to no Kayako API (HTTP 404). Check url and url_form.{told}"
    )


def _throttled(status: int, fields: Mapping[str, str], *, what: str) -> Throttled:
    return Throttled(
        f"{what}: the server asks us to slow down (HTTP {status}).",
        retry_after=_retry_after(fields.get("retry-after", "")),
    )


def _retry_after(value: str) -> float | None:
    """Return the seconds of a Retry-After, which is a number or an HTTP date; None: unreadable."""
    value = value.strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
