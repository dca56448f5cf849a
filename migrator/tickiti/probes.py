"""What needs no token: is the server alive, is it ready, what does it offer."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from migrator.archive import Archive
from migrator.errors import ArchiveError
from migrator.tickiti.envelope import Refusal
from migrator.tickiti.stream import send_json

_LACKING = Refusal(503, "not_ready", "The files of the archive cannot be reached.")


class Fixed:
    """``GET /healthz`` and ``GET /openapi.json``: the same document for everybody."""

    def __init__(self, document: object) -> None:
        self._document = document

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer; nothing is looked up, so that this works whatever the archive does."""
        await send_json(send, self._document)


class Readiness:
    """``GET /readyz``: 200 while both halves of the archive can be read, else 503 ``not_ready``."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Look at both halves of the archive and answer."""
        try:
            self._archive.ledger.runs(1)
        except ArchiveError as error:
            raise Refusal(503, "not_ready", "The checkpoint cannot be read.") from error
        try:
            self._archive.see_both_halves()
        except ArchiveError as error:
            raise _LACKING from error
        if not (self._archive.path / "blobs").is_dir():  # there may be no file in it yet
            raise _LACKING
        await send_json(send, {"ok": True})
