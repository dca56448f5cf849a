"""Types from bytes, named as PHP's fileinfo names them."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import struct
import tarfile
import threading
import zipfile
import zlib

import pytest

from migrator.blobs import mime

WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
EXCEL = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
POINT = "application/vnd.openxmlformats-officedocument.presentationml.presentation"


def zipped(*names: str, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name in names:
            archive.writestr(name, "<x/>")
    return file.getvalue()


def tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"), io.BytesIO())
    return file.getvalue()


def png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")


BMP = (
    b"BM" + struct.pack("<IHHI", 58, 0, 0, 54) + struct.pack("<IiiHH", 40, 1, 1, 1, 24) + bytes(28)
)
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x01\x00\x48\x00\x48\x00\x00" + bytes(64)
GIF = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00;"
EMAIL = b"Received: from x by y; Mon, 1 Jan 2024 00:00:00 +0000\nFrom: a@b.example\n\nhello\n"

# Each was shown to finfo of PHP 8.2, which said the same, but for the Office documents: PHP's
# libmagic 5.40 knows some orders of their parts and calls others application/zip.
SAMPLES = [
    ("png", png(), "image/png"),
    ("jpg", JPEG, "image/jpeg"),
    ("gif", GIF, "image/gif"),
    ("bmp", BMP, "image/x-ms-bmp"),
    ("webp", b"RIFF\x1a\x00\x00\x00WEBPVP8L\x0d\x00\x00\x00/" + bytes(12), "image/webp"),
    (
        "svg",
        b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"></svg>',
        "image/svg+xml",
    ),
    ("pdf", b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\n%%EOF\n", "application/pdf"),
    ("txt", b"Hello, this is plain text.\nTwo lines.\n", "text/plain"),
    ("latin-1", "Grüße aus Köln\n".encode("latin-1"), "text/plain"),
    ("html", b"<!DOCTYPE html>\n<html><head><title>x</title></head></html>", "text/html"),
    ("xml", b'<?xml version="1.0" encoding="UTF-8"?>\n<root><a>1</a></root>\n', "text/xml"),
    ("json", json.dumps({"a": [1, 2, {"b": None}]}).encode(), "application/json"),
    ("csv", b"id,name,amount\n1,Ann,2.50\n2,Bob,3.75\n3,Eve,9.00\n", "text/csv"),
    ("rtf", rb"{\rtf1\ansi\deff0 {\fonttbl {\f0 Arial;}} Hello\par}", "text/rtf"),
    ("eml", EMAIL, "message/rfc822"),
    ("zip", zipped("a.txt", "b/c.txt"), "application/zip"),
    ("gz", gzip.compress(b"hello" * 20), "application/gzip"),
    ("bz2", bz2.compress(b"hello"), "application/x-bzip2"),
    ("7z", b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(24), "application/x-7z-compressed"),
    ("rar", b"Rar!\x1a\x07\x00\xcf\x90\x73\x00\x00\x0d" + bytes(7), "application/x-rar"),
    ("tar", tar(), "application/x-tar"),
    ("woff2", b"wOF2\x00\x01\x00\x00" + bytes(40), "font/woff2"),
    ("empty", b"", "application/x-empty"),
    ("docx", zipped("[Content_Types].xml", "_rels/.rels", "word/document.xml"), WORD),
    ("xlsx", zipped("[Content_Types].xml", "docProps/app.xml", "xl/workbook.xml"), EXCEL),
    ("pptx", zipped("ppt/slides/slide1.xml", "x", "y", "z", "[Content_Types].xml"), POINT),
    ("stored", zipped("[Content_Types].xml", "a", "word/x", method=zipfile.ZIP_STORED), WORD),
    ("no parts", zipped("[Content_Types].xml", "a/b.xml", "c", "d"), "application/zip"),
    ("no types", zipped("a", "word/document.xml"), "application/zip"),
]


@pytest.mark.parametrize(
    ("data", "expected"), [s[1:] for s in SAMPLES], ids=[s[0] for s in SAMPLES]
)
def test_a_type_is_named_as_php_names_it(data: bytes, expected: str) -> None:
    """The commonest attachments get the type that fileinfo of PHP finds in the bytes."""
    found = mime.detect(data)
    if expected == "application/zip":
        assert found in ("application/zip", "application/octet-stream")
    else:
        assert found == expected


def test_only_the_head_is_looked_at() -> None:
    """Bytes after the first 64 KiB change nothing."""
    data = b"a" * mime.HEAD
    assert mime.detect(data + bytes(1000)) == mime.detect(data) == "text/plain"


def test_a_broken_libmagic_costs_the_type_not_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without libmagic, or with one that fails, the type is unknown, but Office is still seen."""

    def fail() -> None:
        raise ImportError("no libmagic")

    monkeypatch.setattr(mime, "libmagic", fail)
    assert mime.detect(b"\x89PNG") == "application/octet-stream"
    assert mime.detect(b"") == "application/x-empty"
    assert mime.detect(zipped("[Content_Types].xml", "xl/workbook.xml")) == EXCEL


def test_one_look_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads take turns at libmagic: its handle may not be shared and its memory adds up."""
    looks: list[bytes] = []

    def look(head: bytes) -> str:
        looks.append(head)
        if head == b"first":
            other.start()
            other.join(0.2)
            assert looks == [b"first"], "the other has to wait"
        return "text/plain"

    monkeypatch.setattr(mime, "libmagic", lambda: look)
    other = threading.Thread(target=mime.detect, args=(b"second",))
    assert mime.detect(b"first") == "text/plain"
    other.join(60)
    assert looks == [b"first", b"second"]
