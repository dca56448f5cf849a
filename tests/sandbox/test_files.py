"""The made files are what their names say, and the same every time."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tracemalloc
import zipfile

import pytest

from migrator.sandbox.kayako.files import BLOCK, MAKERS, Source, filetype

MIME_TYPES = {
    "png": "image/png",
    "gif": "image/gif",
    "pdf": "application/pdf",
    "zip": "application/zip",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "txt": "text/plain",
    "html": "text/html",
    "json": "application/json",
    "xml": "text/xml",
    "reply": "text/xml",
    "eml": "message/rfc822",
    "exe": "application/x-dosexec",
    "empty": "application/x-empty",
}


@pytest.mark.parametrize("kind", MAKERS)
def test_bytes_match_the_type(kind: str) -> None:
    """Each kind of file has the bytes of its type."""
    import pylibmagic  # noqa: F401, I001 - shows python-magic the library that it carries
    import magic

    data = Source(kind, key=5, size=5000).read()
    expected = MIME_TYPES.get(kind, "text/")
    assert magic.from_buffer(data, mime=True).startswith(expected)


@pytest.mark.parametrize("kind", [*MAKERS, "big"])
def test_repeats(kind: str) -> None:
    """Equal sources give equal bytes, whose measure is told; another key gives others."""
    source = Source(kind, key=5, size=5000)
    assert source.read() == Source(kind, key=5, size=5000).read()
    assert source.measure() == (hashlib.sha256(source.read()).hexdigest(), len(source.read()))
    if kind not in {"empty", "json"}:
        assert source.read() != Source(kind, key=6, size=5000).read()


def test_archives_open() -> None:
    """The made zip is a whole archive, the made JSON parses."""
    with zipfile.ZipFile(io.BytesIO(Source("zip", 1, 2000).read())) as archive:
        assert archive.testzip() is None
    assert json.loads(Source("json", 1, 300).read())["session_id"] == "1"


@pytest.mark.parametrize("size", [0, 1, 2, BLOCK, BLOCK + 1, 3 * BLOCK - 1])
def test_base64_streams(size: int) -> None:
    """The base64 of a big file is one line of the length told, whatever the size."""
    source = Source("big", 1, size)
    stream = source.base64(size)
    encoded = b"".join(stream.blocks())
    assert len(encoded) == stream.length
    assert encoded == base64.b64encode(source.read())


def test_big_files_are_not_held() -> None:
    """Measuring a file of 20 MB takes less than one."""
    tracemalloc.start()
    try:
        Source("big", 1, 20_000_000).measure()
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"a.GIF", "image/gif"),
        (b"a.tar.gz", "application/x-gzip"),
        (b"film.mp4", "audio/x-mpeg"),
        (b"orders.csv", "application/octet-stream"),
        (b"png", "application/octet-stream"),
        (b"M\xfcller.p\xfcf", "application/octet-stream"),
    ],
)
def test_filetype(name: bytes, expected: str) -> None:
    """The type comes from the text after the last dot alone."""
    assert filetype(name) == expected
