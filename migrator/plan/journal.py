"""The notes of a dry run that is under way, by which the next one goes on.

A file of JSON lines beside the plan to be: a head, then a line for each ticket whose attachments
were listed. A line is written whole or, when we were killed, torn; so the first bad one ends it.
A line may be lost by a power cut, and then its ticket is listed again; there is no need to sync.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, fields
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from migrator.errors import ConfigError, user_file
from migrator.sources.base import Attachment

FORMAT = "migrator.plan-journal/1"
SUFFIX = ".partial"
BLOCK = 1 << 14

_FIELDS = fields(Attachment)


class Journal:
    """What is known of the attachments of tickets; keep it open while a dry run goes on.

    ``head`` is what it belongs to. A journal at ``path`` of the same head is gone on with; raises
    ConfigError for another one, for any other file, and when the file cannot be written or
    another process writes it.
    """

    def __init__(self, path: Path, head: Mapping[str, object]) -> None:
        self.path = path
        self._places: dict[int, int] = {}
        with user_file(path, "write"):
            self._file = _open(path)
        try:
            with user_file(path, "write"):
                self._load({"format": FORMAT, **head})
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        """Count the tickets that are known."""
        return len(self._places)

    def find(self, ticket_id: int, activity: int) -> list[Attachment] | None:
        """Return the attachments of a ticket that had that last activity; None if not known."""
        place = self._places.get(ticket_id)
        if place is None:
            return None
        with user_file(self.path, "write"):
            line = _line_at(self._file, place)
        _, then, files = json.loads(line)
        if then != activity:
            return None
        return [Attachment(*[*row[:-1], tuple(row[-1])]) for row in files]

    def add(self, ticket_id: int, activity: int, files: Sequence[Attachment]) -> None:
        """Note the attachments of a ticket that has that last activity."""
        self._places[ticket_id] = self._append([ticket_id, activity, [astuple(x) for x in files]])

    def remove(self) -> None:
        """Delete the file: the plan is there."""
        with user_file(self.path, "write"), contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    def close(self) -> None:
        """Close the file and leave it for the next dry run, unless nothing is in it."""
        if not self._places:
            self.remove()
        self._file.close()

    def __enter__(self) -> Self:
        """Return the journal itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _append(self, value: object) -> int:
        line = json.dumps(value, separators=(",", ":")).encode() + b"\n"
        with user_file(self.path, "write"):
            place = self._file.seek(0, os.SEEK_END)
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return place

    def _load(self, head: Mapping[str, object]) -> None:
        lines = _whole_lines(self._file)
        _, end, found = next(lines, (0, 0, None))
        if found is None and not self._file.seek(0, os.SEEK_END):
            self._append(head)
            return
        if found != json.loads(json.dumps(head)):
            raise ConfigError(
                f"{str(self.path)!r} is not the beginning of a plan of this helpdesk, but of "
                "another one or something else: give the plan another name, or remove it."
            )
        for place, behind, entry in lines:
            if not _is_entry(entry):
                break
            self._places[entry[0]] = place
            end = behind
        self._file.truncate(end)


def _open(path: Path) -> FileIO:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise ConfigError(f"Another dry run is writing {str(path)!r}; wait for it.") from None
    except OSError:
        os.close(fd)
        raise
    return FileIO(fd, "r+")


def _whole_lines(file: FileIO) -> Iterator[tuple[int, int, Any]]:
    """Yield the lines that were written to their end: where each begins and ends, and its value."""
    place = file.seek(0)
    with open(os.dup(file.fileno()), "rb") as lines:  # noqa: PTH123 - it is open already
        for line in lines:
            value = _value(line)
            if value is None:
                return
            yield place, place + len(line), value
            place += len(line)


def _value(line: bytes) -> Any:
    if not line.endswith(b"\n"):
        return None
    try:
        return json.loads(line)
    except ValueError:
        return None


def _is_entry(value: Any) -> bool:
    return (
        isinstance(value, list)
        and [type(one) for one in value] == [int, int, list]
        and all(isinstance(row, list) and len(row) == len(_FIELDS) for row in value[2])
    )


def _line_at(file: FileIO, place: int) -> bytes:
    pieces: list[bytes] = []
    while piece := os.pread(file.fileno(), BLOCK, place):
        line, end, _ = piece.partition(b"\n")
        pieces.append(line)
        if end:
            break
        place += len(piece)
    return b"".join(pieces)
