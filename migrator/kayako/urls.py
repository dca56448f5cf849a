"""Addresses of Kayako's REST API: building one to ask, and one that is safe to show."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from urllib.parse import quote, urlencode, urlsplit

_UNREADABLE = "(an unreadable address)"


class UrlForm(StrEnum):
    """How the path of a call is carried; Kayako calls it "Request URL type".

    ``QUERY`` (``index.php?e=/Path&…``) works on every install. ``STANDARD``
    (``index.php?/Path&…``) needs a web server that hands the query string on untouched.
    """

    QUERY = "e"
    STANDARD = "standard"


def build(base: str, path: str, form: UrlForm, params: Mapping[str, str]) -> str:
    """Return the address of one call, with all values percent-encoded.

    ``base`` is the API URL as Kayako shows it; a trailing slash, ``?`` or query is dropped.
    """
    address = re.split(r"[?#]", base.strip(), maxsplit=1)[0].rstrip("/")
    target = quote("/" + path.lstrip("/"), safe="/,:~")
    query = urlencode(params, quote_via=quote, safe="")
    start = f"e={target}" if form is UrlForm.QUERY else target
    return f"{address}?{start}&{query}" if query else f"{address}?{start}"


def safe(url: str) -> str:
    """Return ``scheme://host[:port]/path``: no user, password, query, fragment or control."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return _UNREADABLE
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    if port is not None:
        host = f"{host}:{port}"
    # Without a host, what reads as a path may hold a mistyped "user:password@".
    path = parts.path if host else parts.path.rpartition("@")[2]
    shown = f"{parts.scheme}://{host}{path}" if host else path
    return "".join(char if char.isprintable() else "?" for char in shown) or _UNREADABLE
