"""The type of a file from its bytes, as PHP's fileinfo would name it.

Tickiti detects types from the bytes, in PHP, which means libmagic. So do we; a small table
evens out differences between versions of libmagic, and ZIP archives are searched for the Office
documents that older versions miss.
"""

from __future__ import annotations

import functools
import os
import threading
from codecs import BOM_UTF8
from collections.abc import Callable
from typing import Any

HEAD = 1 << 16
"""Bytes from the start of a file that :func:`detect` needs; most types show in them."""

WHOLE = 8 << 20
"""Bytes that are read of a file whose type its head does not show. PHP reads 1 MiB of a file."""

Reopen = Callable[[], int | None]
"""Returns a new descriptor of the whole file, None where there is none; the caller closes it."""

UNKNOWN = "application/octet-stream"
EMPTY = "application/x-empty"

_PLAIN = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"%PDF-")
_COMPOUND = bytes.fromhex("d0cf11e0a1b11ae1")
ENOUGH = 1 << 11
"""Bytes of such files passed to libmagic, which reads all it gets to detect an encoding."""

# The types of PHP 8.2's fileinfo where the libmagic of pylibmagic differs:
_AS_PHP = {
    "image/bmp": "image/x-ms-bmp",
    "application/vnd.sqlite3": "application/x-sqlite3",
    "application/x-dxf": "text/plain",
}
_FONTS = {b"wOFF": "font/woff", b"wOF2": "font/woff2"}

_OFFICE = (
    (b"word/", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    (b"xl/", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    (b"ppt/", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
)

# One handle for all threads: libmagic is quick and takes some 4 MB per handle.
_one_at_a_time = threading.Lock()


def detect(head: bytes, reopen: Reopen = lambda: None) -> str:
    """Return the MIME type of the file that starts with ``head``; never raises.

    Two kinds show what they are only as a whole: JSON, and the compound files of Microsoft
    (``.doc``, ``.xls``, ``.msg``), whose directory may be at their end. They are opened with
    ``reopen`` when ``head`` is only a part of them; of JSON, 8 MiB are read.

    Without a working libmagic every non-empty file is ``application/octet-stream``.
    """
    if not head:
        return EMPTY
    try:
        with _one_at_a_time:
            found = _as_a_whole(head, reopen) or libmagic()(
                head[: ENOUGH if head.startswith(_PLAIN) else HEAD]
            )
    except Exception:  # noqa: BLE001 - a type is never worth a lost attachment
        found = UNKNOWN
    if found == "text/plain" and len(head) == 2 and head.isascii():
        found = UNKNOWN  # PHP wants three bytes
    if found in ("application/zip", UNKNOWN):
        found = _FONTS.get(head[:4]) or _office(head) or found
    return str(_AS_PHP.get(found, found))


def _as_a_whole(head: bytes, reopen: Reopen) -> str | None:
    """Return the type of a file whose head alone does not show it, None for any other."""
    begins = head.removeprefix(BOM_UTF8).lstrip()[:1]
    if len(head) < HEAD or not (begins in (b"{", b"[") or head.startswith(_COMPOUND)):
        return None
    try:
        fd = reopen()
    except OSError:
        fd = None
    if fd is None:
        return None
    try:
        return str(_handle().from_descriptor(fd))
    finally:
        os.close(fd)


def libmagic() -> Callable[[bytes], Any]:
    """Return libmagic's function."""
    found: Callable[[bytes], Any] = _handle().from_buffer
    return found


@functools.cache
def _handle() -> Any:
    # In this order: pylibmagic makes its library known to python-magic.
    import pylibmagic  # noqa: F401, I001, PLC0415
    import magic  # noqa: PLC0415

    handle = magic.Magic(mime=True)
    handle.setparam(magic.MAGIC_PARAM_BYTES_MAX, WHOLE)
    return handle


def _office(head: bytes) -> str | None:
    """Return the Office type of a ZIP that names its parts in ``head``, None for any other."""
    if not head.startswith(b"PK\x03\x04"):
        return None
    names = _names(head)
    if b"[Content_Types].xml" not in names:
        return None
    return next((kind for part, kind in _OFFICE if any(n.startswith(part) for n in names)), None)


def _names(head: bytes) -> list[bytes]:
    """Return the names in the local file headers that ``head`` shows."""
    names, at = [], 0
    while (at := head.find(b"PK\x03\x04", at)) >= 0 and at + 30 <= len(head):
        length = int.from_bytes(head[at + 26 : at + 28], "little")
        names.append(head[at + 30 : at + 30 + length])
        at += 30 + length
    return names
