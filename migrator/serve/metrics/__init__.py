"""``GET /metrics``: the archive for Prometheus.

Everything comes from the archive, so each of several processes answers the same. It is read in a
thread, and again only after some seconds: more if reading takes long.
"""

from __future__ import annotations

import hashlib
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from migrator.archive import Archive
from migrator.archive.records import Token
from migrator.report import metrics
from migrator.serve.auth import Authenticator
from migrator.serve.bounds import Share
from migrator.serve.cache import TimedCache
from migrator.serve.catalog import EndpointSettings
from migrator.serve.content import watch
from migrator.serve.readers import Readers
from migrator.serve.refusals import ErrorBorder, not_allowed, not_found

_LIVE: Final = 10.0
"""Seconds for which what was read is good enough: Prometheus asks every 15 or more."""
_SHARE: Final = Share(threads=1, each=1, waiting=16, seconds=60)


class Face:
    """This face; with a ``token`` readers must have it. ``target`` as of :func:`metrics.read`."""

    paths: tuple[str, ...] = ("/metrics",)

    def __init__(self, *, token: str = "", target: str = "") -> None:
        self._token = token
        self._target = target

    def app(self, archive: Archive, settings: EndpointSettings) -> ASGIApp:
        """Return the application over an archive."""
        archive = archive.served()

        def read() -> metrics.Facts:
            snapshot = settings.snapshot() if settings.snapshot else None
            made = float(str(snapshot["time"])) if snapshot else None
            return metrics.read(archive, target=self._target, snapshot=made)

        guard = Authenticator(_OneToken(self._token)) if self._token else None
        facts = TimedCache(read, live=_LIVE)
        return ErrorBorder(_Metrics(facts, Readers(archive, _SHARE), guard))


class _Metrics:
    def __init__(
        self, facts: TimedCache[metrics.Facts], readers: Readers, guard: Authenticator | None
    ) -> None:
        self._facts = facts
        self._readers = readers
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["path"] != "/metrics":
            raise not_found()
        if scope["method"] not in ("GET", "HEAD"):
            raise not_allowed("GET, HEAD")
        if self._guard is not None:
            self._guard.admit(scope, None)
        accept = b",".join(value for name, value in scope["headers"] if name == b"accept")

        def work() -> tuple[bytes, str]:
            return metrics.render(self._facts(), accept.decode("latin-1"))

        async with watch(receive) as gone:
            body, kind = await self._readers.run(_Metrics, gone, work)
        headers = [
            (b"content-type", kind.encode("ascii")),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class _OneToken:
    """The store of the one token that is in the configuration."""

    def __init__(self, secret: str) -> None:
        self._hash = hashlib.sha256(secret.encode()).hexdigest()
        nothing = frozenset[str]()
        self._token = Token(0, "metrics", nothing, None, True, 0, None, None, None)

    def secret_hash(self, token_id: int, /) -> tuple[Token, str] | None:
        """Return the token and the SHA-256 of its secret."""
        return (self._token, self._hash) if token_id == self._token.id else None

    def id_of(self, secret_sha256: str, /) -> int | None:
        """Return the id of the token with this hash of its secret; None where there is none."""
        return self._token.id if secret_sha256 == self._hash else None

    def touch(self, token_id: int, at: int, /) -> None:
        """Record nothing."""
