"""Sessions as signed cookies, and the seals that prove that a form or a link is our own.

A session has no rights of its own: it names a token, and every request asks the archive whether
that token is still good. The signing key lives as long as the process, so that a copy of the
archive cannot be turned into sessions; people sign in again after a restart.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import re
import secrets
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

IDLE: Final = 3600
"""Seconds after which an unused session is over."""

LONGEST: Final = 12 * 3600
"""Seconds after which any session is over."""

NONCE: Final = 22
"""Characters of a nonce."""

_RENEW: Final = 300
"""Seconds between two updates of a session's use: not every answer needs a cookie."""

_COOKIE: Final = re.compile(r"([0-9]{1,18})\.([0-9]{1,12})\.([0-9]{1,12})\.([\w-]{22})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Session:
    """One person at one browser; times are Unix seconds."""

    token_id: int
    nonce: str
    started: int
    seen: int


class Board:
    """The list of ended sessions that forked processes share.

    A nameless file that all append to: the others read it at their next request. It is in memory
    where the system has such files, so that a full disk keeps nobody signed in.
    """

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self._file = os.memfd_create("migrator-sessions")
        else:
            self._file, path = tempfile.mkstemp(prefix="migrator-")
            Path(path).unlink()
        flags = fcntl.fcntl(self._file, fcntl.F_GETFL)
        fcntl.fcntl(self._file, fcntl.F_SETFL, flags | os.O_APPEND)
        self._read = 0

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def post(self, nonce: str) -> None:
        """Append an ended session for all others."""
        os.write(self._file, nonce.encode("ascii"))

    def news(self) -> list[str]:
        """Return what was posted since the last call; called by one thread at a time."""
        # While another process writes, the end of the file may be the beginning of a nonce.
        ready = (os.fstat(self._file).st_size - self._read) // NONCE * NONCE
        posted = os.pread(self._file, ready, self._read).decode("ascii") if ready else ""
        self._read += ready
        return [posted[at : at + NONCE] for at in range(0, ready, NONCE)]


class Sessions:
    """Opens, reads and ends sessions.

    ``clock`` returns Unix seconds. With a ``board`` forked processes share sessions.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.time, board: Board | None = None
    ) -> None:
        self._key = secrets.token_bytes(32)
        self._clock = clock
        self._lock = threading.Lock()
        self.board = board
        self.ended: dict[str, int] = {}
        """Nonces of ended sessions, and when a copy of their cookie expires."""

    def open(self, token_id: int) -> Session:
        """Begin a session for a token that was just admitted."""
        now = int(self._clock())
        return Session(token_id, new_nonce(), now, now)

    def write(self, session: Session) -> str:
        """Return the cookie's value."""
        text = f"{session.token_id}.{session.started}.{session.seen}.{session.nonce}"
        return f"{text}.{self.seal('session', text)}"

    def read(self, cookie: str) -> Session | None:
        """Return the session of a cookie; None if it is not ours, over, or was signed out."""
        text, _, seal = cookie.rpartition(".")
        parts = _COOKIE.fullmatch(text)
        if parts is None or not self.sealed(seal, "session", text):
            return None
        session = Session(int(parts[1]), parts[4], int(parts[2]), int(parts[3]))
        now = self._clock()
        over = now >= session.seen + IDLE or now >= session.started + LONGEST
        with self._lock:
            if self.board is not None:
                self.ended.update(dict.fromkeys(self.board.news(), int(now) + LONGEST))
            return None if over or session.nonce in self.ended else session

    def renewed(self, session: Session) -> Session | None:
        """Return the session as seen now; None when its cookie need not change yet."""
        now = int(self._clock())
        return replace(session, seen=now) if now >= session.seen + _RENEW else None

    def end(self, session: Session) -> None:
        """Invalidate the session's cookie and all its copies."""
        now = int(self._clock())
        with self._lock:
            self.ended = {nonce: until for nonce, until in self.ended.items() if until > now}
            self.ended[session.nonce] = session.started + LONGEST
            if self.board is not None:
                self.board.post(session.nonce)

    def seal(self, purpose: str, *parts: object) -> str:
        """Return a text that only this process can create for these parts."""
        message = "\0".join([purpose, *map(str, parts)]).encode("utf-8", "surrogatepass")
        return hmac.new(self._key, message, "sha256").hexdigest()

    def sealed(self, seal: str, purpose: str, *parts: object) -> bool:
        """Return whether ``seal`` is ours for these parts, in constant time."""
        found = seal.encode("utf-8", "surrogatepass")  # compare_digest() takes ASCII texts only
        return hmac.compare_digest(found, self.seal(purpose, *parts).encode())


def new_nonce() -> str:
    """Return a random text that names a session or a form."""
    return secrets.token_urlsafe(NONCE * 3 // 4)
