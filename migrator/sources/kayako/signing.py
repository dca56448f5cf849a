"""Addresses of Kayako's REST API and their signature, and texts without secrets.

``signature = base64(HMAC-SHA256(key=secret key, message=salt))`` over the raw digest: 44
characters. Only the salt is signed. The secret looks like base64 but is used as literal text.
"""

from __future__ import annotations

import base64
import hmac
import html
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote, unquote_to_bytes, urlsplit

from migrator.hours import Halted, Rate

_UNREADABLE = "(an unreadable address)"
_SHOWN = 300
"""Characters shown of an address."""


class UrlForm(StrEnum):
    """The place of the path in an address; Kayako calls it "Request URL type".

    ``QUERY`` (``index.php?e=/Path&…``) works on every install. ``STANDARD`` (``index.php?/Path&…``)
    needs a web server that passes the query string on unchanged.
    """

    QUERY = "e"
    STANDARD = "standard"


def build(base: str, path: str, form: UrlForm) -> str:
    """Return the address of one call; its signature is appended with a ``&``.

    ``base`` is the API URL as Kayako shows it; a trailing slash, ``?`` or query is dropped.
    """
    target = quote("/" + path.lstrip("/"), safe="/,:~")
    start = f"e={target}" if form is UrlForm.QUERY else target
    return f"{_page(base)}?{start}"


@lru_cache
def _page(base: str) -> str:
    return re.split(r"[?#]", base.strip(), maxsplit=1)[0].rstrip("/")


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
    if len(shown) > _SHOWN:
        shown = shown[:_SHOWN] + "…"
    return "".join(char if char.isprintable() else "?" for char in shown) or _UNREADABLE


# In a query, and as PHP's dumps of one and JSON show it: [salt] => x, ["salt"]=> string(1) "x".
_SIGNED_VALUE = re.compile(
    r"""\b(apikey|salt|signature)
    (=|%3D|(?:[]"']|&quot;)+\s*(?:=>|:)\s*(?:string\([0-9]+\)\s*)?(?:["']|&quot;)?)
    [^&\s"'<>]*""",
    re.IGNORECASE | re.VERBOSE,
)
_REST = r"""[^&\s"'<>]*"""
_HIDDEN = "***"
_BARE = re.compile(r"[A-Za-z0-9+/_-]{43}(?:=|%3D)", re.IGNORECASE)
"""A signature without its name, as in a path: 32 bytes in base64."""
_JSON = re.compile(r"\\(?:u00([0-9A-Fa-f]{2})|(/))")
_NESTED = 4
"""Escapes within escapes that are undone."""
_LONG = 16
_TELLING = 12
"""A part of a key of so many characters is hidden like the whole key."""


def signature(secret_key: str, salt: str) -> str:
    """Return the signature of ``salt``: base64 of the raw HMAC-SHA256, as Kayako checks it."""
    digest = hmac.digest(secret_key.encode(), salt.encode(), "sha256")
    return base64.b64encode(digest).decode("ascii")


def new_salt() -> str:
    """Return 32 random characters, all of them letters and digits.

    Kayako repairs a ``+`` that became a space in a signature, but not in a salt, and rejects the
    salt "0": letters and digits are safe everywhere.
    """
    return secrets.token_hex(16)


def scrub_query(text: str) -> str:
    """Return a text with the values of ``apikey``, ``salt`` and ``signature`` hidden."""
    return _SIGNED_VALUE.sub(rf"\1\2{_HIDDEN}", text)


def _pattern(form: str) -> str:
    """Return a pattern for a key; a short one, such as a test's, counts only as a whole word.

    Otherwise a key "secret" would hide the name of the setting in the advice to check it.
    """
    exact = re.escape(form)
    return exact if len(form) >= _LONG else rf"(?<!\w){exact}(?!\w)"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The API key and the secret key of one helpdesk; ``repr`` shows neither.

    ``http_user`` and ``http_password`` are for a web server that asks for them before Kayako does.
    """

    api_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    http_user: str = field(default="", repr=False)
    http_password: str = field(default="", repr=False)

    def basic(self) -> bytes:
        """Return the header value for basic authentication (RFC 7617); empty without a user."""
        pair = f"{self.http_user}:{self.http_password}".encode()
        return b"Basic " + base64.b64encode(pair) if self.http_user else b""

    def sign(self, salt: str | None = None) -> dict[str, str]:
        """Return the three parameters that authenticate one request, with a fresh salt."""
        salt = new_salt() if salt is None else salt
        return {
            "apikey": self.api_key,
            "salt": salt,
            "signature": signature(self.secret_key, salt),
        }

    def scrub(self, text: str) -> str:
        """Return ``text`` without signatures, keys and passwords, however they are spelled.

        This is the one place that hides them: in what a server says, in logs and in reports. A
        text that hides one behind escapes (of addresses, HTML or JSON) is returned without those.
        """
        hidden = self._hide(text)
        plain = _unescaped(hidden)
        return hidden if self._hide(plain) == plain else self._hide(plain)

    def hide(self, body: bytes, target: bytes) -> bytes:
        """Return the body of a list without our keys, and the signature of its own request.

        A server may show its request anywhere, as in a subject. ``target`` is of that request.
        """
        return _without(body, self.forms_in(target))

    def forms_in(self, target: bytes) -> list[bytes]:
        """Return the forms of all that a reply to a request must not show."""
        salt, _, signed = target.partition(b"&salt=")[2].partition(b"&signature=")
        plain = unquote_to_bytes(signed)
        forms = (*_forms(self), signed, plain, quote(plain).encode(), salt)
        return [form for form in forms if len(form) >= _LONG]

    def _hide(self, text: str) -> str:
        if pattern := _hidden(self):
            text = pattern.sub(_HIDDEN, text)
        return scrub_query(_BARE.sub(_HIDDEN, text))

    def keys(self) -> list[str]:
        """Return all that must not be shown."""
        basic = self.basic().decode().rpartition(" ")[2]
        secrets_ = (self.api_key, self.secret_key, self.http_password, basic)
        return [key for key in secrets_ if key]


class Veil:
    """Hides in a stream what :meth:`Credentials.hide` hides in a body."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self.begin(b"")

    def begin(self, target: bytes) -> None:
        """Begin with the reply to a request."""
        self._forms = self._credentials.forms_in(target)
        self._most = max(map(len, self._forms), default=1) - 1
        self._held = b""

    def feed(self, block: bytes) -> bytes:
        """Return what can be passed on by now: a key may go on in the next block."""
        text = _without(self._held + block, self._forms)
        end = max(0, len(text) - self._most)
        self._held = text[end:]
        return text[:end]

    def close(self) -> bytes:
        """Return the rest."""
        return self._held


def _without(body: bytes, forms: Iterable[bytes]) -> bytes:
    for form in forms:
        if form in body:
            body = body.replace(form, _HIDDEN.encode())
    return body


@lru_cache(maxsize=8)
def _forms(credentials: Credentials) -> tuple[bytes, ...]:
    """Return all keys, plain and percent-encoded, the longest first."""
    keys = credentials.keys()
    forms = {
        form for key in keys for form in (key, quote(key), quote(key, safe=""), quote_plus(key))
    }
    return tuple(form.encode() for form in sorted(forms, key=len, reverse=True))


@lru_cache(maxsize=8)
def _hidden(credentials: Credentials) -> re.Pattern[str] | None:
    """Return the pattern of all keys, also where a quotation cuts them; None without a key."""
    keys = credentials.keys()
    hidden = [_pattern(form.decode()) for form in _forms(credentials)]
    hidden += [_pattern(html.escape(key).replace("/", r"\/")) for key in keys]
    hidden += [re.escape(key[:_TELLING]) + _REST for key in keys if len(key) >= _LONG]
    return re.compile("|".join(hidden), re.IGNORECASE) if hidden else None


def _unescaped(text: str) -> str:
    """Return a text without the escapes of addresses, HTML and JSON, also where they are nested."""
    for _ in range(_NESTED):
        plain = _JSON.sub(_char, html.unescape(unquote(text)))
        if plain == text:
            break
        text = plain
    return text


def _char(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16)) if escape[1] else escape[2]


@dataclass(frozen=True, slots=True)
class KayakoSettings:
    """The settings for one Kayako server.

    ``url`` is the API URL as shown in Kayako's Admin CP (ends in ``/api/index.php``).
    ``timeout`` is the longest silence on a connection, in seconds: any call may first run the
    helpdesk's due scheduled tasks. ``concurrency`` bounds the requests in flight,
    ``requests_per_second`` their starts (0: no limit). ``attempts`` is how often one request is
    made before its failure counts. ``max_body`` bounds one reply, in bytes.
    ``patience`` is how long a server that went away is waited for, in seconds. ``page_size``
    tickets are listed with one request. ``halted`` says whether requests may start at this time,
    ``rate`` how many bytes may come in a second.
    """

    url: str
    credentials: Credentials
    url_form: UrlForm = UrlForm.QUERY
    ca_file: Path | None = None
    timeout: float = 60.0
    concurrency: int = 8
    requests_per_second: float = 0.0
    attempts: int = 4
    max_body: int = 1 << 30
    patience: float = 120.0
    page_size: int = 100
    halted: Halted | None = None
    rate: Rate | None = None
