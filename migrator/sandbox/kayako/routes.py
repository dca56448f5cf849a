"""From a raw HTTP request to Kayako's router: paths, parameters, forms."""

from __future__ import annotations

import email.message
import email.policy
import json
import re
from email.parser import BytesParser
from typing import Final
from urllib.parse import parse_qsl, unquote, unquote_plus, urlsplit

from migrator.sandbox.kayako.auth import ODD
from migrator.sandbox.kayako.reply import Reply, Request, page

SCRIPT: Final = "/api/index.php"
POST_MAX: Final = 64 << 20
"""PHP's ``post_max_size``: a larger form arrives empty."""
LONGEST_VALUE: Final = 512
"""Suhosin's ``suhosin.get.max_value_length``."""
_ALLOWED: Final = re.compile(r"[A-Za-z0-9\s,~%.:=_-]*")


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
    form = _form(content_type, body) if verb in {"POST", "PUT"} else {}
    segments = _segments(_route(url.path.removeprefix(SCRIPT), url.query, query, form))
    if not all(_ALLOWED.fullmatch(segment) for segment in segments):
        return page(400, "400", "The URI you submitted has disallowed characters.")
    return Request(
        verb=verb,
        # A segment with an equals sign is a named argument, not one of the path.
        segments=tuple(segment for segment in segments if "=" not in segment),
        query=query,
        form=form,
        json=_json(body) if content_type.startswith("application/json") else None,
        query_string=url.query,
    )


def _route(path_info: str, raw_query: str, query: dict[str, str], form: dict[str, str]) -> str:
    """Find the route where the router looks: ``e``, then PATH_INFO, then the raw query."""
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


def _form(content_type: str, body: bytes) -> dict[str, str]:
    """Parse the body of a form as PHP fills ``$_POST``."""
    if len(body) > POST_MAX:
        return {}
    if content_type.startswith("multipart/form-data"):
        return _multipart(content_type, body)
    if "application/x-www-form-urlencoded" in content_type:
        return _pairs(body.decode(errors=ODD))
    return {}


def _pairs(encoded: str) -> dict[str, str]:
    return dict(parse_qsl(encoded, keep_blank_values=True, errors=ODD))


def _multipart(content_type: str, body: bytes) -> dict[str, str]:
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1")
    parser = BytesParser(email.message.EmailMessage, policy=email.policy.HTTP)
    parts = (p for p in parser.parsebytes(head + body).walk() if not p.is_multipart())
    fields: dict[str, str] = {}
    for part in parts:
        name = part.get_param("name", header="content-disposition")
        data = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(data, bytes):
            fields[name] = data.decode(errors=ODD)
    return fields


def _json(body: bytes) -> dict[str, str]:
    """Parse a JSON body; anything but an object of texts is as good as none."""
    try:
        value = json.loads(body or b"{}")
    except ValueError:
        return {}
    items = value.items() if isinstance(value, dict) else ()
    return {key: item for key, item in items if isinstance(item, str)}
