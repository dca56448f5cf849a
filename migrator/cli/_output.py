"""Where a result goes: stdout, or a file that is replaced in one step."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from migrator.errors import ConfigError


def write(pieces: Iterable[str], output: Path | None) -> None:
    """Write text as UTF-8 to ``output``, or to stdout for None.

    A file appears whole or not at all; one of that name is replaced. Only its owner can read it:
    names of files and tickets are in it. Raises ConfigError when it cannot be written.
    """
    if output is None:
        for piece in pieces:
            click.echo(piece.encode("utf-8", "backslashreplace"), nl=False)
        return
    try:
        _replace(pieces, output.resolve())
    except OSError as exc:
        raise ConfigError(f"Cannot write {str(output)!r}: {exc.strerror}.") from exc


def _replace(pieces: Iterable[str], target: Path) -> None:
    if target.exists() and not target.is_file():  # a pipe or a device such as /dev/stdout
        with target.open("wb") as sink:
            sink.writelines(_encoded(pieces))
        return
    fd, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)
    try:
        with open(fd, "wb") as sink:  # noqa: PTH123 - it is open already
            sink.writelines(_encoded(pieces))
            sink.flush()
            os.fsync(fd)
        os.replace(name, target)  # noqa: PTH105
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)  # noqa: PTH108
        raise
    _sync_folder(target.parent)


def _encoded(pieces: Iterable[str]) -> Iterator[bytes]:
    return (piece.encode("utf-8", "backslashreplace") for piece in pieces)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some file systems cannot; the data itself is safe
            os.fsync(fd)
    finally:
        os.close(fd)
