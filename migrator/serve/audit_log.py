"""The audit log of downloads: one JSON line for each request for a file, whatever its answer.

:func:`tell` collects the facts of a line while a request is answered. A line has no secrets, and
JSON in ASCII escapes anything in a name.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from migrator.blobs import durable
from migrator.errors import ConfigError

DOWNLOAD: Final = "/api/v1/tickets/attachment"
"""Requests to this path are logged even if they do not reach an attachment."""

_FACTS: Final = ("token", "token_name", "ticket", "attachment", "filename", "size")
_log = logging.getLogger(__name__)
_entry: ContextVar[dict[str, object] | None] = ContextVar("audit_entry", default=None)


def tell(**facts: object) -> None:
    """Add facts about the current request, such as ``ticket=12``."""
    entry = _entry.get()
    if entry is not None:
        entry.update(facts)


class AuditLog:
    """A file with a line for each download, opened again for each.

    So it may be moved away at any time, as by logrotate, and several servers may share it.
    ``clock`` returns Unix seconds.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Check that the file can be written; raises ConfigError."""
        self._path = path
        self._clock = clock
        try:
            self._append(b"")
        except OSError as error:
            raise ConfigError(
                f"Cannot write the audit log {path}: {error.strerror}. Change tickiti.audit_log "
                "or --audit-log, or the permissions."
            ) from error

    def write(self, facts: dict[str, object]) -> None:
        """Append a line; log a failure, which does not stop the download."""
        at = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")
        try:
            self._append(json.dumps({"at": at, **facts}).encode("ascii") + b"\n")
        except OSError as error:
            _log.error("A download is missing in the audit log: %s", error.strerror)

    def _append(self, line: bytes) -> None:
        with contextlib.suppress(FileExistsError):
            os.close(durable.create(self._path))
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            # One write: the lines of several servers never mix.
            os.write(fd, line)
        finally:
            os.close(fd)


class Audited:
    """An application whose downloads are written to an audit log."""

    def __init__(self, app: ASGIApp, log: AuditLog) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; write the line when the answer ends in any way."""
        found: dict[str, object] = {}
        status, sent, whole = 0, 0, False

        async def counting(message: Message) -> None:
            nonlocal status, sent, whole
            await send(message)
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                sent += len(message.get("body", b""))
                whole = not message.get("more_body", False)

        before = _entry.set(found)
        try:
            await self._app(scope, receive, counting)
        finally:
            _entry.reset(before)
            if found.keys() & {"attachment", "attachments"} or scope["path"] == DOWNLOAD:
                client = scope.get("client")
                facts: dict[str, object] = {
                    "address": client[0] if client else None,
                    "method": scope["method"],
                    "path": scope["path"],
                }
                facts |= {name: found.get(name) for name in _FACTS}
                if "attachments" in found:  # of a ZIP: those that were begun
                    facts["attachments"] = found["attachments"]
                facts |= {"status": status, "code": found.get("code"), "sent": sent, "whole": whole}
                self._log.write(facts)
