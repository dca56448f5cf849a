"""Where FORMAT.md says that the files of an archive are, for tests that harm or count them."""

from __future__ import annotations

from pathlib import Path

from migrator.archive import Archive


def path_of(archive: Archive, sha256: str) -> Path:
    """Return where a blob is."""
    return archive.path / "blobs" / sha256[:2] / sha256[2:4] / sha256


def temp_of(archive: Archive) -> Path:
    """Return the directory of temporary files."""
    return archive.path / "blobs" / "tmp"


def bytes_of(archive: Archive, sha256: str) -> bytes:
    """Read a blob as whoever serves it."""
    blob = archive.blobs.open(sha256)
    assert blob is not None
    with blob:
        return blob.read(0, blob.size)
