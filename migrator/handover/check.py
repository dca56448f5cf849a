"""Checking a handover without the archive: every hash, every line, every name in the tree."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from migrator.blobs import durable
from migrator.blobs.base import Verdict
from migrator.errors import ConfigError, Interrupted
from migrator.handover.make import (
    MANIFEST,
    MARKER,
    REPLIES,
    SUMS,
    TREE,
    Tell,
    path_of,
    read_marker,
    same_bytes,
)

_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_LINE = re.compile(r"([0-9a-f]{64})  ([\w.-]+|files/[0-9a-f/]{70})\n", re.ASCII)
_LONGEST = 16 << 20
NAMED = 1000
"""The most faults that are named; all are counted."""


@dataclass(slots=True)
class Faults:
    """Faults of one kind: their number, and the first of them."""

    n: int = 0
    named: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        """Count one more."""
        self.n += 1
        if len(self.named) < NAMED:
            self.named.append(name)


@dataclass(slots=True)
class Check:
    """The result of reading a handover again; ``finished`` is its own statement.

    ``not_handed_over`` contents were damaged or lost in the archive when it was made, as it says,
    and ``verdict`` is what it says of the archive. ``unreadable`` says why damaged ones could not
    be read at all. ``wrong`` are contradictions: lines that cannot be read, numbers that do not add
    up, names that lead nowhere.
    """

    finished: bool = False
    checked: int = 0
    bytes: int = 0
    damaged: Faults = field(default_factory=Faults)
    lost: Faults = field(default_factory=Faults)
    wrong: Faults = field(default_factory=Faults)
    not_handed_over: int = 0
    verdict: str = ""
    unreadable: dict[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 for a finished handover in which everything is as it says, else 6."""
        return 0 if self.finished and not (self.damaged.n or self.lost.n or self.wrong.n) else 6


def check(
    root: Path,
    *,
    tell: Tell = lambda *_: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Check:
    """Read a handover again; raises ConfigError for anything else, Interrupted when stopped."""
    marker = read_marker(root)
    if not marker:
        raise ConfigError(f"There is no handover in {str(root)!r}: it has no {MARKER}.")
    found = Check(finished=marker.get("finished") is True)
    for name in ("damaged", "lost"):
        found.not_handed_over += number if isinstance(number := marker.get(name), int) else 0
    verdict = marker.get("verdict")
    if isinstance(verdict, dict) and isinstance(verdict.get("sentence"), str):
        found.verdict = verdict["sentence"]
    if not found.finished:
        found.wrong.add(f"{MARKER}: the handover was not finished; make it again")
    _Reader(root, marker, found, tell, stopped)()
    return found


class _Reader:
    def __init__(
        self,
        root: Path,
        marker: dict[str, object],
        found: Check,
        tell: Tell,
        stopped: Callable[[], bool],
    ) -> None:
        self._root = root
        self._marker = marker
        self._found = found
        self._tell = tell
        self._stopped = stopped

    def __call__(self) -> None:
        expected = self._marker.get("files")
        total = expected if isinstance(expected, int) else 0
        files, listed = 0, set[str]()
        for sha256, name in self._sums():
            verdict, size = self._read(name, sha256)
            if "/" in name:
                files += 1
                self._tell(sha256, size, verdict, total)
            else:
                listed.add(name)
        if self._found.finished and files != expected:
            self._found.wrong.add(f"{SUMS}: {files} files instead of {expected}")
        for name in sorted({MANIFEST, *self._lines()} - listed):
            self._found.wrong.add(f"{SUMS}: {name} is not in it")
        for name in (MANIFEST, *({REPLIES} & self._lines())):
            for number, line in enumerate(self._text(name), 1):
                self._look(name, number, line)

    def _lines(self) -> set[str]:
        lines = self._marker.get("lines")
        return set(lines) if isinstance(lines, dict) else set()

    def _sums(self) -> Iterator[tuple[str, str]]:
        for number, line in enumerate(self._text(SUMS), 1):
            match = _LINE.fullmatch(line)
            if match is None or ("/" in match[2] and match[2] != path_of(match[1])):
                self._found.wrong.add(f"{SUMS}, line {number}: not a line of ours")
            else:
                yield match[1], match[2]

    def _read(self, name: str, sha256: str) -> tuple[Verdict, int]:
        """Hash one file and take note."""
        path, found = self._root / name, self._found
        found.checked += 1
        try:
            if not durable.is_file(path):
                found.lost.add(name)
                return Verdict.LOST, 0
            with os.fdopen(durable.open_file(path), "rb") as file:
                right = hashlib.file_digest(file, "sha256").hexdigest() == sha256
                size = file.tell()
        except OSError as error:
            right, size = False, 0
            if len(found.unreadable) < NAMED:
                found.unreadable[name] = f"it cannot be read: {error.strerror or error}"
        if not right:
            found.damaged.add(name)
            return Verdict.DAMAGED, 0
        found.bytes += size
        return Verdict.OK, size

    def _look(self, name: str, number: int, line: str) -> None:
        """Check that what a line of a list names is there."""
        facts: object = None
        with suppress(ValueError):
            facts = json.loads(line)
        if not isinstance(facts, dict):
            self._found.wrong.add(f"{name}, line {number}: not a line of ours")
            return
        path, sha256, tree = (facts.get(key) for key in ("path", "sha256", "tree"))
        if path is None:
            return
        if not (isinstance(sha256, str) and _HASH.fullmatch(sha256)) or path != path_of(sha256):
            self._found.wrong.add(f"{name}, line {number}: path and sha256 differ")
        elif not self._is(path, facts.get("size")):
            self._found.wrong.add(f"{name}, line {number}: {path} is not there as it says")
        elif tree is not None and not self._twins(tree, self._root / path, sha256):
            self._found.wrong.add(f"{name}, line {number}: not so in the tree: {tree}")

    def _is(self, path: str, size: object) -> bool:
        file = self._root / path
        with suppress(OSError):
            return durable.is_file(file) and file.lstat().st_size == size
        return False

    def _twins(self, tree: object, file: Path, sha256: str) -> bool:
        """Return whether a name of the tree is that file, or has its bytes."""
        parts = PurePosixPath(tree).parts if isinstance(tree, str) else ()
        if len(parts) != 4 or parts[0] != TREE or ".." in parts:
            return False
        twin = self._root.joinpath(*parts)
        with suppress(OSError):
            return durable.is_file(twin) and (twin.samefile(file) or same_bytes(twin, sha256))
        return False

    def _text(self, name: str) -> Iterator[str]:
        """Read a list line by line; it may be missing, or anything."""
        try:
            fd = durable.open_file(self._root / name)
            with open(fd, encoding="utf-8", errors="replace", newline="\n") as file:  # noqa: PTH123
                while line := file.readline(_LONGEST):
                    if self._stopped():
                        raise Interrupted(
                            "interrupted; nothing was changed; the next one starts over"
                        )
                    yield line
        except FileNotFoundError:
            self._found.lost.add(name)
        except OSError as error:
            self._found.wrong.add(f"{name}: {error.strerror}")
