"""From a raw HTTP request to one that Kayako's router and its lock let through."""

from __future__ import annotations

import base64
import email.message
import email.policy
import hashlib
import hmac
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.parser import BytesParser
from typing import Final
from urllib.parse import parse_qsl, unquote, unquote_plus, urlsplit

from migrator.sandbox.kayako.files import chance
from migrator.sandbox.kayako.replies import HTML, Body, Reply, Request, page, text

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


@dataclass(frozen=True, slots=True)
class Keys:
    """The API key (a UUID) and the secret key (base64 of two UUIDs, used as literal text)."""

    api_key: str = field(repr=False)
    secret_key: str = field(repr=False)

    @classmethod
    def from_seed(cls, seed: int) -> Keys:
        """Make the keys of a sandbox; they guard nothing but made-up files."""
        rng = chance(~seed)
        ids = [str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(3)]
        return cls(ids[0], base64.b64encode((ids[1] + ids[2]).encode()).decode())

    def signature(self, salt: str) -> str:
        """Return base64 of the raw HMAC-SHA256 of the salt."""
        digest = hmac.digest(self.secret_key.encode(), salt.encode(errors=ODD), hashlib.sha256)
        return base64.b64encode(digest).decode()


def credentials(request: Request) -> Mapping[str, str]:
    """Return the parameters in which Kayako looks for credentials.

    A JSON request is looked for in its body alone; POST and PUT in their form, and only if that
    is empty in the query; GET and DELETE in the query.
    """
    if request.json is not None:
        return request.json
    if request.verb in {"POST", "PUT"} and request.form:
        return request.form
    return request.query


def refusal(request: Request, keys: Keys, switches: set[str]) -> Reply | None:
    """Return the reply to a request that may not enter, None for one that may."""
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
