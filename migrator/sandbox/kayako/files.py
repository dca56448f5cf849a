"""The files of the sandbox: names as users give them, and bytes that match their type.

Bytes are made from a key whenever they are asked for, and never kept: a sandbox of any size
needs no disk and no memory for them.
"""

from __future__ import annotations

import binascii
import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

from migrator.sandbox.kayako.messages import Stream

BLOCK: Final = 48 * 1024
"""Bytes per block of a streamed file; a multiple of 3, so that base64 needs no carry."""

_PROSE: Final = (
    "printer order invoice the a is not broken please again screen after update refund customer "
    "attached see photo serial number warranty täglich größer où délai número 注文 and with"
)
WORDS: Final = tuple(_PROSE.split())


def chance(seed: int) -> Random:
    """Return a source of chance that repeats itself for equal seeds."""
    return Random(seed)  # noqa: S311 - to be repeated, and guarding nothing


@dataclass(frozen=True, slots=True)
class Source:
    """Where the bytes of a file come from: made by ``kind`` and ``key``, or given.

    ``size`` is exact for the kind ``big`` and a wish for all others.
    """

    kind: str
    key: int = 0
    size: int = 0
    given: bytes = b""

    def blocks(self) -> Iterator[bytes]:
        """Yield the bytes in blocks whose length, but for the last, is a multiple of 3."""
        if self.kind != "big":
            yield self.read()
            return
        rng = chance(self.key)
        for start in range(0, self.size, BLOCK):
            yield rng.randbytes(min(BLOCK, self.size - start))

    def read(self) -> bytes:
        """Return all bytes at once."""
        if self.kind == "given":
            return self.given
        if self.kind == "big":
            return b"".join(self.blocks())
        return MAKERS[self.kind](self.size, chance(self.key))

    def measure(self) -> tuple[str, int]:
        """Return SHA-256 and size."""
        digest, size = hashlib.sha256(), 0
        for block in self.blocks():
            digest.update(block)
            size += len(block)
        return digest.hexdigest(), size

    def base64(self, size: int) -> Stream:
        """Stream the bytes, ``size`` of them, as one unbroken line of base64."""
        return Stream((size + 2) // 3 * 4, lambda: map(_base64, self.blocks()))


def _base64(block: bytes) -> bytes:
    return binascii.b2a_base64(block, newline=False)


def _words(size: int, rng: Random) -> str:
    """Return about ``size`` characters of prose."""
    paragraph = " ".join(rng.choices(WORDS, k=60)) + ".\n"
    return (paragraph * (size // len(paragraph) + 1))[: max(size, 20)]


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(size: int, rng: Random) -> bytes:
    """Return a real picture of 4 x 4 pixels; a private chunk makes up the size."""
    pixels = b"".join(b"\0" + rng.randbytes(12) for _ in range(4))
    # Level 0 stores: other levels may give other bytes with another zlib.
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(pixels, 0)),
        (b"paDd", rng.randbytes(size)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(*chunk) for chunk in chunks)


def _gif(size: int, rng: Random) -> bytes:
    """Return a real picture of 1 x 1 pixel; a comment makes up the size."""
    filler = rng.randbytes(size)
    pieces = (filler[at : at + 255] for at in range(0, size, 255))
    comment = b"\x21\xfe" + b"".join(bytes([len(p)]) + p for p in pieces) + b"\0"
    head = b"GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0"
    return head + comment + b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0\x3b"


def _pdf(size: int, rng: Random) -> bytes:
    """Return a real, empty page; an unused stream makes up the size."""
    filler = rng.randbytes(size // 2).hex().encode()
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(filler), filler),
    )
    out, offsets = b"%PDF-1.4\n", []
    for number, text in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, text)
    table = b"0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % at for at in offsets)
    trailer = b"trailer\n<< /Size 5 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % len(out)
    return out + b"xref\n0 5\n" + table + trailer


def _zipped(members: dict[str, bytes]) -> bytes:
    """Return an archive whose bytes depend on its members alone."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, (2019, 4, 1, 12, 0, 0))
            info.create_system = 3
            archive.writestr(info, data)
    return out.getvalue()


def _zip(size: int, rng: Random) -> bytes:
    return _zipped({"log.txt": _words(size // 10, rng).encode(), "dump.bin": rng.randbytes(size)})


def _docx(size: int, rng: Random) -> bytes:
    types = b'<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/'
    members = {
        "[Content_Types].xml": types + b'content-types"/>',
        "_rels/.rels": b"<Relationships/>",
        "word/document.xml": f"<document>{_words(size, rng)}</document>".encode(),
    }
    return _zipped(members)


def _csv(size: int, rng: Random) -> bytes:
    row = ";".join(rng.choices(WORDS, k=4))
    lines = ["id;a;b;c;d", *(f"{number};{row}" for number in range(size // 30 + 1)), ""]
    return "\r\n".join(lines).encode()


def _json(size: int, rng: Random) -> bytes:
    items = ", ".join([str(rng.randrange(10))] * (size // 3 + 1))
    return f'{{"session_id": "1", "items": [{items}]}}\n'.encode()


def _kayako_reply(size: int, rng: Random) -> bytes:
    """Return a file that looks like a reply of the API: content must not pass for protocol."""
    return (
        b'<?xml version="1.0" encoding="UTF-8"?>\n<attachments>\n<attachment>\n'
        b"<id><![CDATA[1]]></id>\n<contents><![CDATA["
        + _base64(_words(size, rng).encode())
        + b"]]></contents>\n"
        b"</attachment>\n</attachments>"
    )


def _eml(size: int, rng: Random) -> bytes:
    head = "From: jane@example.com\r\nTo: help@example.com\r\nSubject: Fwd: order\r\n\r\n"
    return (head + _words(size, rng)).encode()


def _exe(size: int, rng: Random) -> bytes:
    """Return the head of a Windows program, which points to its second head, and noise."""
    first = b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff\0\0\xb8".ljust(0x3C, b"\0") + b"\x80\0\0\0"
    stub = b"\x0e\x1f\xba\x0e\0\xb4\x09\xcd\x21\xb8\x01\x4c\xcd\x21cannot be run in DOS mode.$"
    second = b"PE\0\0\x4c\x01\x01\0".ljust(20, b"\0") + b"\xe0\0\x02\x01\x0b\x01"
    return (first + stub).ljust(0x80, b"\0") + second + rng.randbytes(size)


MAKERS: Final[dict[str, Callable[[int, Random], bytes]]] = {
    "png": _png,
    "gif": _gif,
    "pdf": _pdf,
    "zip": _zip,
    "docx": _docx,
    "txt": lambda size, rng: _words(size, rng).encode(),
    "log": lambda size, rng: f"[error] {_words(size, rng)}".encode(),
    "csv": _csv,
    "html": lambda size, rng: f"<html><body><p>{_words(size, rng)}</p></body></html>\n".encode(),
    "json": _json,
    "xml": lambda size, rng: f"<?xml version='1.0'?><order>{_words(size, rng)}</order>".encode(),
    "reply": _kayako_reply,
    "eml": _eml,
    "exe": _exe,
    "empty": lambda _size, _rng: b"",
}
"""How each kind of file is made from a wished size and a source of chance."""

NAMES: Final[dict[str, tuple[str, ...]]] = {
    "png": ("image001.png", "Screenshot 2019-03-04 at 10.22.31.png", "LABEL.PNG", "icon_chart.gif"),
    "gif": ("spacer.gif", "Logo (final).GIF"),
    "pdf": ("Invoice 2019-117.pdf", "Rücksendung für Ömer.pdf", "請求書.pdf", "manual.v2.PDF"),
    "zip": ("UPDD Diag.zip", "logs.zip", "фото.zip"),
    "docx": ("Complaint.docx", "Lettre à M. Dupré.docx"),
    "txt": ("notes.txt", "attachment_1", "lisez-moi.TXT"),
    "log": ("error.log", "kern.log.1"),
    "csv": ("orders.csv", "export;2019.csv"),
    "html": ("mail.html", "page.htm"),
    "json": ("har.json", "attachment.json"),
    "xml": ("order.xml", "feed.XML"),
    "reply": ("api-reply.xml", "ListAll.xml"),
    "eml": ("Fwd: order.eml", "message.eml"),
    "exe": ("setup.exe", "TeamViewer QS.EXE"),
    "empty": ("empty.txt", "untitled"),
}
"""Everyday names by kind."""

ODD_NAMES: Final = (
    "../../etc/passwd",
    "..\\..\\boot.ini",
    "a/b/c.txt",
    'he said "hi".txt',
    "it's.txt",
    "<img src=x onerror=alert(1)>.html",
    "R&D &amp; co.txt",
    ".htaccess",
    "README",
    "..",
    "x" * 251 + ".txt",
    "日" * 251 + ".txt",
    "👩\u200d👧 holiday.png",
    "Cafe\u0301 (NFD).txt",
    "invoice\u202efdp.exe",
    "CON.txt",
    "=cmd|' /C calc'!A0.csv",
    "%2e%2e%2fescape.txt",
    'x.txt"; filename="y.exe',
    "$(reboot).txt",
    "-rf",
    "trailing dot.",
    "</filename><contents><![CDATA[QUJD.txt",
)
"""Names that are harmless only as long as nobody believes them."""

FILETYPES: Final[dict[str, str]] = {
    "gif": "image/gif",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "php": "text/plain",
    "htm": "text/html",
    "html": "text/html",
    "xml": "text/xml",
    "log": "text/log",
    "zip": "application/zip",
    "gz": "application/x-gzip",
    "tar": "application/x-gzip",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "xls": "application/vnd.ms-excel",
    "mp3": "audio/x-mpeg",
    "mp4": "audio/x-mpeg",
    "bmp": "image/bitmap",
    "tif": "image/imagefileformat",
    "avi": "video/audiovediointerleave",
    "exe": "application/executableFile",
}
"""Kayako's own table: by extension alone, with its own spellings and gaps (csv, eml, svg)."""


def filetype(name: bytes) -> str:
    """Return the type that Kayako derives from a name."""
    extension = name.rpartition(b".")[2] if b"." in name else b""
    return FILETYPES.get(extension.lower().decode("latin-1"), "application/octet-stream")
