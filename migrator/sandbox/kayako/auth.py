"""The lock on the door: the API switch and the signature, as Kayako checks them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from migrator.sandbox.kayako.files import chance
from migrator.sandbox.kayako.reply import HTML, Reply, Request, text
from migrator.sandbox.kayako.xmlwriter import Body

ODD = "surrogateescape"
"""How bytes that are not UTF-8 pass through texts: unchanged."""
TRIMMED = " \t\n\r\0\x0b"
"""What PHP trims off both ends of a text."""


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
