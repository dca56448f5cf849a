"""Authentication: tokens, their abilities, the staff flag and the queues they see.

A token is ``14|secret``: its number and a secret of which only the SHA-256 is kept; clients may
leave the number out. Guessing is bounded: after some wrong tokens an address is answered with 429.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from starlette.types import Scope

from migrator.archive.records import Token
from migrator.errors import ArchiveError
from migrator.serve import audit_log
from migrator.serve.bounds import ADDRESSES, FAILURES, WINDOW
from migrator.serve.cache import Version, VersionCache
from migrator.serve.refusals import Refusal


class Throttle:
    """Counts failures by address; used by all threads of a server.

    ``clock`` returns seconds that never go back.
    """

    def __init__(
        self,
        *,
        failures: int = FAILURES,
        window: float = WINDOW,
        addresses: int = ADDRESSES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failures = failures
        self._window = window
        self._addresses = addresses
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: dict[str, tuple[float, int]] = {}
        """The end of the window and the failures in it by address, the oldest window first."""

    def failed(self, address: str) -> int:
        """Count a failure; return 0, or the seconds to wait where there were too many."""
        key, now = origin_of(address), self._clock()
        with self._lock:
            until, count = self._counts.get(key, (0.0, 0))
            if until <= now:
                # Taken out first, so that the order stays that of the windows.
                self._counts.pop(key, None)
                until, count = now + self._window, 0
                if len(self._counts) >= self._addresses:
                    del self._counts[next(iter(self._counts))]
            self._counts[key] = (until, count + 1)
        return 0 if count < self._failures else max(1, -int((now - until) // 1))


def origin_of(address: str) -> str:
    """Return the key of one client: the IPv4 address, or the IPv6 network given to one client."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:  # a trusted proxy may send anything
        return address[:64]
    if found.version == 4:
        return str(found)
    mapped = found.ipv4_mapped
    return str(mapped or ipaddress.ip_network((found, 64), strict=False))


TOUCH_EVERY: Final = 60
"""Seconds between two records of a token's last use: one write a minute, not per request."""

TOUCH_AGAIN: Final = 5
"""Seconds until a failed record of the last use is tried again."""

_NOBODY: Final = hashlib.sha256(b"no token has this secret").hexdigest()


class TokenStore(Protocol):
    """The part of the archive's access tables that authentication reads."""

    def secret_hash(self, token_id: int, /) -> tuple[Token, str] | None:
        """Return the token and the SHA-256 hex of its secret; None where there is none."""

    def id_of(self, secret_sha256: str, /) -> int | None:
        """Return the id of the token with this hash of its secret; None where there is none."""

    def touch(self, token_id: int, at: int, /) -> None:
        """Record the last use without waiting for others; may raise ArchiveError."""


class CachedTokens:
    """A store of tokens that reads each once, until anything changes; used by one thread."""

    def __init__(self, tokens: TokenStore, version: Version) -> None:
        self._cache: VersionCache[int, tuple[Token, str] | None] = VersionCache(version)
        self._ids: VersionCache[str, int | None] = VersionCache(version)
        self._tokens = tokens
        self.touch = tokens.touch

    def secret_hash(self, token_id: int, /) -> tuple[Token, str] | None:
        """Return the token and the SHA-256 hex of its secret; None where there is none."""
        return self._cache(token_id, lambda: self._tokens.secret_hash(token_id))

    def id_of(self, secret_sha256: str, /) -> int | None:
        """Return the id of the token with this hash of its secret; None where there is none."""
        return self._ids(secret_sha256, lambda: self._tokens.id_of(secret_sha256))


class Authenticator:
    """Admits requests by their ``Authorization`` header.

    ``clock`` returns Unix seconds; ``throttle`` counts the wrong tokens of each address.
    """

    def __init__(
        self,
        tokens: TokenStore,
        *,
        clock: Callable[[], float] = time.time,
        throttle: Throttle | None = None,
    ) -> None:
        self._tokens = tokens
        self._clock = clock
        self._throttle = throttle or Throttle()
        self._touched: dict[int, int] = {}

    def admit(self, scope: Scope, ability: str | None, *, staff: bool = True) -> Token:
        """Return the token of a staff member that holds ``ability``, such as ``tickets:read``.

        None as ability admits any token.

        Raises Refusal: 401 ``unauthenticated`` for a missing, unknown, revoked or expired token,
        429 ``too_many_requests`` instead when too many wrong ones came from the address, and
        403 ``forbidden`` for one without the ability or, unless ``staff`` is False, without the
        staff flag. A good token is admitted from any address.
        """
        return _entitled(self._authenticate(scope), ability, staff=staff)

    def readmit(self, token_id: int, ability: str) -> Token:
        """Return a token that was admitted before, for a session.

        Raises Refusal as :meth:`admit`: a token revoked or expired meanwhile ends its sessions.
        """
        now = int(self._clock())
        found = self._tokens.secret_hash(token_id)
        if found is None or not _alive(found[0], now):
            raise _unauthenticated()
        self._note_use(found[0], now)
        return _entitled(found[0], ability)

    def _authenticate(self, scope: Scope) -> Token:
        now = int(self._clock())
        token_id, secret = _credentials(scope)
        hashed = hashlib.sha256(secret).hexdigest()
        if token_id is None and secret:
            token_id = self._tokens.id_of(hashed)
        found = self._tokens.secret_hash(token_id) if token_id is not None else None
        expected = found[1] if found else _NOBODY
        # The comparison runs for unknown tokens too: its time must not reveal which ids exist.
        matches = hmac.compare_digest(hashed, expected)
        if found is None or not matches:
            raise self._refused(scope)
        if not _alive(found[0], now):  # a token that was good once is no guess
            raise _unauthenticated()
        self._note_use(found[0], now)
        return found[0]

    def _refused(self, scope: Scope) -> Refusal:
        # A request without any token is a mistake, not a guess.
        if all(name != b"authorization" for name, _ in scope["headers"]):
            return _unauthenticated()
        client = scope.get("client")
        wait = self._throttle.failed(client[0] if client else "")
        return _throttled(wait) if wait else _unauthenticated()

    def _note_use(self, token: Token, now: int) -> None:
        audit_log.tell(token=token.id, token_name=token.name)
        if now - max(token.last_used_at or 0, self._touched.get(token.id, 0)) < TOUCH_EVERY:
            return
        self._touched[token.id] = now
        try:
            self._tokens.touch(token.id, now)
        except ArchiveError:
            # A run is writing, or the archive is read-only: the request must not wait.
            self._touched[token.id] = now - TOUCH_EVERY + TOUCH_AGAIN


def holds(token: Token, ability: str) -> bool:
    """Return whether the token has the ability; ``family:write`` implies ``family:read``."""
    family, _, verb = ability.partition(":")
    return ability in token.abilities or (verb == "read" and f"{family}:write" in token.abilities)


def sees(token: Token, queue_id: int) -> bool:
    """Return whether the token may see the tickets of a queue."""
    return token.queues is None or queue_id in token.queues


def _entitled(token: Token, ability: str | None, *, staff: bool = True) -> Token:
    if ability is not None and not holds(token, ability):
        raise Refusal(403, "forbidden", f"This token lacks the ability {ability}.")
    if staff and not token.is_staff:
        raise Refusal(403, "forbidden", "The owner of this token is not a staff account.")
    return token


def _unauthenticated() -> Refusal:
    return Refusal(
        401,
        "unauthenticated",
        "A valid token is needed: send the header Authorization: Bearer YOUR_TOKEN.",
        headers=[(b"www-authenticate", b"Bearer")],
    )


def _throttled(wait: int) -> Refusal:
    return Refusal(
        429,
        "too_many_requests",
        f"Too many wrong tokens came from this address. Try again in {wait} seconds; "
        "a valid token is accepted at any time.",
        headers=[(b"retry-after", b"%d" % wait)],
    )


def _alive(token: Token, now: int) -> bool:
    return token.revoked_at is None and (token.expires_at is None or now < token.expires_at)


def _credentials(scope: Scope) -> tuple[int | None, bytes]:
    """Return the number and the secret of the bearer token; (None, b"") for an unreadable one.

    As Laravel does: it is what follows the last ``Bearer``, in any case, up to a comma, and the
    secret alone, without number and bar, is enough.
    """
    sent = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(sent) != 1:
        return None, b""
    at = sent[0].lower().rfind(b"bearer ")
    token = sent[0][at:].partition(b" ")[2].partition(b",")[0].strip() if at >= 0 else b""
    number, bar, secret = token.partition(b"|")
    if not bar:
        return None, token
    # bytes.isdigit() knows ASCII digits only; int() raises on thousands of them.
    return (int(number), secret) if number.isdigit() and len(number) <= 18 else (None, b"")
