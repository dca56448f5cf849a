"""Kayako's request signature, and keeping its ingredients out of every text.

``signature = base64(HMAC-SHA256(key=secret key, message=salt))`` over the raw digest: 44
characters. Only the salt is signed. The secret looks like base64 but is used as literal text.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from dataclasses import dataclass, field
from urllib.parse import quote, quote_plus

# In a query, and as PHP's dumps of one and JSON show it: [salt] => x, ["salt"]=> string(1) "x".
_SIGNED_VALUE = re.compile(
    r"""\b(apikey|salt|signature)
    (=|%3D|(?:[]"']|&quot;)+\s*(?:=>|:)\s*(?:string\([0-9]+\)\s*)?(?:["']|&quot;)?)
    [^&\s"'<>]*""",
    re.IGNORECASE | re.VERBOSE,
)
_REST = r"""[^&\s"'<>]*"""
_HIDDEN = "***"
_LONG = 16
_TELLING = 12
"""So many characters of a key are hidden as if they were all of it."""


def signature(secret_key: str, salt: str) -> str:
    """Return the signature of ``salt``: base64 of the raw HMAC-SHA256, as Kayako checks it."""
    digest = hmac.digest(secret_key.encode(), salt.encode(), "sha256")
    return base64.b64encode(digest).decode("ascii")


def new_salt() -> str:
    """Return 32 random characters, all of them letters and digits.

    Kayako repairs a ``+`` that became a space in a signature, but not in a salt, and takes the
    salt "0" for none: letters and digits are safe everywhere.
    """
    return secrets.token_hex(16)


def scrub_query(text: str) -> str:
    """Hide the values of all ``apikey``, ``salt`` and ``signature`` in a text."""
    return _SIGNED_VALUE.sub(rf"\1\2{_HIDDEN}", text)


def _pattern(form: str) -> str:
    """Return a pattern for a key; a short one, such as a test's, counts only as a whole word.

    Otherwise a key "secret" would hide the name of the setting in the advice to check it.
    """
    exact = re.escape(form)
    return exact if len(form) >= _LONG else rf"(?<!\w){exact}(?!\w)"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The API key and the secret key of one helpdesk; ``repr`` shows neither."""

    api_key: str = field(repr=False)
    secret_key: str = field(repr=False)

    def sign(self, salt: str | None = None) -> dict[str, str]:
        """Return the three parameters that authenticate one request, with a fresh salt."""
        salt = new_salt() if salt is None else salt
        return {
            "apikey": self.api_key,
            "salt": salt,
            "signature": signature(self.secret_key, salt),
        }

    def scrub(self, text: str) -> str:
        """Return ``text`` without signatures and keys: plain, percent-encoded, or cut short."""
        keys = [key for key in (self.api_key, self.secret_key) if key]
        forms = {form for key in keys for form in (key, quote(key, safe=""), quote_plus(key))}
        hidden = [_pattern(form) for form in sorted(forms, key=len, reverse=True)]
        # What is quoted may be cut in the middle of a key.
        hidden += [re.escape(key[:_TELLING]) + _REST for key in keys if len(key) >= _LONG]
        if hidden:
            text = re.sub("|".join(hidden), _HIDDEN, text, flags=re.IGNORECASE)
        return scrub_query(text)
