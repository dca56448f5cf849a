"""The bytes of a stored file as a download: whole or one range, never a damaged byte.

Also those of all files of a ticket, as a ZIP that is made while it is sent. Files are not packed,
so its length is known before. A file is hashed on its way into the ZIP; where it is not the stored
one, the ZIP has no end and the server hangs up, so no client takes it for a whole one.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import zipfile
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, getincrementaldecoder
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from migrator.archive import Archive
from migrator.archive.records import Row
from migrator.blobs.base import Blob
from migrator.serve.bounds import LOOKED_AT, ZIPS
from migrator.serve.content import Hash, Verdicts, aside, file_missing, opened, readable
from migrator.serve.refusals import Refusal

BLOCK: Final = 64 * 1024
"""Bytes per message."""

_RANGE: Final = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)

MISSING: Final = "MISSING.txt"
"""The file of a ZIP that names those which are not in it, and why."""
_HEADS: Final = 30 + 16 + 46
"""Bytes of a ZIP for each file in it, beside its contents and twice its name."""
_END: Final = 22
"""Bytes at the end of a ZIP."""
_PLAIN_ZIP: Final = 1 << 31
"""Bytes of a ZIP from which its heads may be longer."""

_HEADERS: Final = {
    # If a browser shows a file all the same, it does so in a sandbox without an origin.
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "cache-control": "private, no-cache",
    "accept-ranges": "bytes",
}


class Unsatisfiable(Exception):
    """The range begins after the end of the file."""


class Files:
    """Opens stored files that were checked to be whole: before their first byte is sent."""

    def __init__(self, archive: Archive) -> None:
        self._blobs = archive.blobs
        self._verdicts = Verdicts()
        self._zips: Counter[int] = Counter()
        """By visitor, the ZIPs that are being sent."""

    def open(self, row: Row) -> Blob:
        """Open the file of an attachment.

        Raises Refusal when it is lost or damaged, and as :meth:`Verdicts.check`.
        """
        file = opened(self._blobs, row)
        try:
            with readable(row):
                whole = file.size == row.size and self._verdicts.check(row.sha256 or "", file)
        except BaseException:
            file.close()
            raise
        if not whole:
            file.close()
            raise file_missing(row, "is damaged")
        return file

    @contextlib.contextmanager
    def zip_place(self, visitor: int) -> Iterator[None]:
        """Take one of the places of ZIPs that are being sent; raise Refusal 503 if none is left."""
        if self._zips.total() >= ZIPS or self._zips[visitor] >= ZIPS // 4:
            raise Refusal(503, "too_busy", "Too many ZIP files are being sent right now.")
        self._zips[visitor] += 1
        try:
            yield
        finally:
            self._zips[visitor] -= 1

    async def foresee(self, rows: list[tuple[str, Row]], missing: list[str]) -> int | None:
        """Move files that are known to be lost to ``missing``; return the length of the ZIP then.

        None where looking at all files takes too long, or where the length is not certain.
        """
        if len(rows) > (LOOKED_AT if self._blobs.waits else len(rows)):
            return None
        kept = []
        for name, row in rows:
            if (file := await self._known(row)) is None:
                missing.append(_lost(name))
            else:
                file.close()
                kept.append((name, row))
            await asyncio.sleep(0)  # as in _hashed
        rows[:] = kept
        entries = [(name, row.size or 0) for name, row in rows]
        entries += [(MISSING, len(_told(missing).encode()))] if missing else []
        length = _END + sum(_HEADS + 2 * len(name.encode()) + size for name, size in entries)
        return length if length < _PLAIN_ZIP else None

    async def zipped(
        self,
        rows: Sequence[tuple[str, Row]],
        missing: list[str],
        sent: list[int],
        *,
        foreseen: bool,
    ) -> AsyncGenerator[bytes]:
        """Yield a ZIP of files under their names, piece by piece.

        Its MISSING.txt has the lines ``missing`` and, unless all was ``foreseen``, what turns out
        to be lost. ``sent`` gets the ids of the files that are begun. Raises Refusal at the end of
        a damaged one, and for a lost one where it was to be there.
        """
        pieces = _Pieces()
        with zipfile.ZipFile(pieces, "w") as made:  # type: ignore[call-overload]
            for name, row in rows:
                file = await self._known(row)
                if file is None:
                    if foreseen:
                        raise file_missing(row, "was lost meanwhile")
                    missing.append(_lost(name))
                    continue
                sent.append(row.id)
                with file, made.open(_entry(name, row), "w") as entry:
                    async for block in self._hashed(file, row):
                        entry.write(block)
                        yield pieces.take()
            if missing:
                made.writestr(MISSING, _told(missing))
        yield pieces.take()

    async def _known(self, row: Row) -> Blob | None:
        """Open a file; None where it is known already that it cannot be sent."""
        try:
            file = await aside(self._blobs, opened, self._blobs, row)
        except Refusal:
            return None
        if self._verdicts.get(row.sha256 or "", file.version) is False:
            file.close()
            return None
        return file

    async def _hashed(self, file: Blob, row: Row) -> AsyncIterator[bytes]:
        """Yield the blocks of a file; raise Refusal at last if they are not those stored."""
        hash_, size = Hash(), row.size or 0
        with readable(row):
            while block := await aside(file, file.read, hash_.position, BLOCK):
                hash_.add(block)
                yield block
                # send() waits for slow clients only; this lets others in beside a fast one.
                await asyncio.sleep(0)
        whole = (hash_.position, hash_.hexdigest()) == (size, row.sha256) and file.untouched()
        self._verdicts.put(row.sha256 or "", file, whole=whole)
        if not whole:
            raise file_missing(row, "is damaged")


class _Pieces:
    """What a ZIP is written to: a stream without positions, emptied as it is sent."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def write(self, data: bytes) -> int:
        self._waiting += data
        return len(data)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        taken = bytes(self._waiting)
        self._waiting.clear()
        return taken


def _lost(name: str) -> str:
    return f"{name}: The archive has lost it, or holds a damaged copy."


def _told(missing: Sequence[str]) -> str:
    return "\n".join([*missing, ""])


def _entry(name: str, row: Row) -> zipfile.ZipInfo:
    """Return the head of a file in a ZIP; its length decides on the form for more than 4 GiB."""
    try:
        at = datetime.fromtimestamp(row.created_at, UTC)
    except (ValueError, OverflowError, OSError):
        at = datetime.fromtimestamp(0, UTC)
    year = at.year if 1980 <= at.year <= 2107 else 0
    entry = zipfile.ZipInfo(name, at.timetuple()[:6] if year else (1980, 1, 1, 0, 0, 0))
    entry.file_size = row.size or 0
    entry.external_attr = 0o644 << 16
    return entry


class ZipResponse(StreamingResponse):
    """Sends a ZIP at the pace of its reader; one that is not finished lacks its end."""

    def __init__(
        self,
        files: Files,
        visitor: int,
        rows: list[tuple[str, Row]],
        missing: list[str],
        sent: list[int],
        *,
        name: str,
    ) -> None:
        headers = {**_HEADERS, "accept-ranges": "none"}
        headers["content-disposition"] = content_disposition("attachment", name)
        super().__init__(_nothing(), headers=headers, media_type="application/zip")
        self._files = files
        self._visitor = visitor
        self._what = rows, missing, sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; raise Refusal 503, before anything is sent, where too many are on their way."""
        rows, missing, sent = self._what
        with self._files.zip_place(self._visitor):
            length = await self._files.foresee(rows, missing)
            if length is not None:
                self.headers["content-length"] = str(length)
            pieces = self._files.zipped(rows, missing, sent, foreseen=length is not None)
            async with contextlib.aclosing(pieces):
                if scope["method"] != "HEAD":
                    self.body_iterator = pieces
                await super().__call__(scope, receive, send)


async def _nothing() -> AsyncIterator[bytes]:
    for _ in ():
        yield b""


def send_file(
    request: Request,
    file: Blob,
    row: Row,
    *,
    media_type: str,
    disposition: str,
) -> Response:
    """Answer with a file, or the part or refusal that the request's headers require.

    Takes over ``file``.
    """
    size, tag = row.size or 0, f'"{row.sha256}"'
    headers = {**_HEADERS, "etag": tag, "content-disposition": disposition}
    if _is_known(request, tag):
        file.close()
        return Response(status_code=304, headers=headers)
    try:
        span = _span(request, size, tag)
    except Unsatisfiable:
        file.close()
        headers = {**_HEADERS, "content-range": f"bytes */{size}"}
        return Response(status_code=416, headers=headers)
    first, last = span or (0, size - 1)
    if span is not None:
        headers["content-range"] = f"bytes {first}-{last}/{size}"
    length = last + 1 - first
    headers["content-length"] = str(length)
    blocks = _blocks(file, first, 0 if request.method == "HEAD" else length)
    return _Stream(
        file, blocks, status_code=206 if span else 200, headers=headers, media_type=media_type
    )


class _Stream(StreamingResponse):
    """Sends blocks of an open file, at the pace of their reader, and closes it."""

    def __init__(
        self,
        file: Blob,
        blocks: AsyncIterator[bytes],
        *,
        status_code: int,
        headers: Mapping[str, str],
        media_type: str,
    ) -> None:
        super().__init__(blocks, status_code, headers, media_type)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)


async def _blocks(file: Blob, first: int, length: int) -> AsyncIterator[bytes]:
    while length:
        block = await aside(file, file.read, first, min(BLOCK, length))
        if not block or not file.untouched():
            # The answer stays shorter than promised, so that the server hangs up on it.
            raise OSError("a stored file was changed while it was being sent")
        first, length = first + len(block), length - len(block)
        yield block
        # send() waits for slow clients only; this lets others in beside a fast one.
        await asyncio.sleep(0)


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Return the first and the last byte of a Range header.

    None means the whole file: for units and forms that we do not know, and for several
    ranges at once, which a server may ignore. Raises Unsatisfiable.
    """
    found = _RANGE.fullmatch(header.strip())
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        first, last = max(size - int(found[2]), 0), size - 1
    else:
        first, last = int(found[1]), min(int(found[2] or size), size - 1)
        if found[2] and int(found[2]) < first:
            return None
    if first > last:
        raise Unsatisfiable
    return first, last


def decoded(start: bytes) -> str:
    """Return the beginning of a text file as text, in the likeliest of encodings."""
    if start.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        return start.decode("utf-16", "replace")
    try:
        # A character at the end may be cut.
        return getincrementaldecoder("utf-8-sig")().decode(start)
    except UnicodeDecodeError:
        return start.decode("cp1252", "replace")


def content_disposition(kind: str, name: str) -> str:
    """Return the header for ``kind`` (attachment or inline) with a name that is safe already.

    The plain parameter is ASCII, the extended one has the whole name in UTF-8 (RFC 6266, 8187).
    """
    plain = "".join(char if char.isascii() and char not in '"\\%;' else "_" for char in name)
    header = f'{kind}; filename="{plain}"'
    if plain == name:
        return header
    return f"{header}; filename*=UTF-8''{quote(name, safe='')}"


def _is_known(request: Request, tag: str) -> bool:
    asked = request.headers.get("if-none-match", "")
    known = (one.strip().removeprefix("W/") for one in asked.split(","))
    return any(one in (tag, "*") for one in known)


def _span(request: Request, size: int, tag: str) -> tuple[int, int] | None:
    header = request.headers.get("range")
    if header is None or request.headers.get("if-range", tag) != tag:
        return None
    return parse_range(header, size)
