"""A store without a disk: it proves that the contract asks for none."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterator

from migrator.blobs import base
from migrator.blobs.base import Entry, Examined, Verdict
from migrator.errors import ArchiveUnwritable

_NAME = re.compile(r"([0-9a-f]{64})|temporary-[0-9]+")


class MemoryStore(base.Store):
    """Keeps blobs, and whatever a test plants, in a dictionary."""

    if_bare = "Was it prepared? Prepare it"

    def __init__(self) -> None:
        self.where = "memory"
        self.objects: dict[str, bytes] = {}
        self.prepared = False
        self._numbers = itertools.count()

    def prepare(self) -> None:
        self.prepared = True

    def missing(self) -> list[str]:
        return [] if self.prepared else [self.where]

    def writer(self) -> base.Writer:
        return _Writer(self.objects, f"temporary-{next(self._numbers)}")

    def open(self, sha256: str, /) -> base.Blob | None:
        data = self.objects.get(_seen(sha256))
        return None if data is None else _Blob(data)

    def has(self, sha256: str, /) -> bool:
        return _seen(sha256) in self.objects

    def blocked(self, sha256: str, /) -> str | None:
        _seen(sha256)
        return None

    def examine(self, sha256: str, size: int, /) -> Examined:
        data = self.objects.get(_seen(sha256))
        if data is None:
            return Examined(Verdict.LOST)
        whole = len(data) == size and hashlib.sha256(data).hexdigest() == sha256
        return Examined(Verdict.OK if whole else Verdict.DAMAGED)

    def scan(self, unreadable: Callable[[str, str], None] | None = None, /) -> Iterator[Entry]:
        return map(self._named, sorted(self.objects))

    def _named(self, name: str) -> Entry:
        found, size = _NAME.fullmatch(name), len(self.objects[name])
        if found is None:
            return Entry(name, None, size=size)
        return Entry(name, "blob" if found[1] else "temporary", found[1] or "", size)

    def entry(self, name: str, /) -> Entry | None:
        return self._named(name) if name in self.objects and _NAME.fullmatch(name) else None

    def remove(self, name: str, /) -> int:
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"{name!r} is nothing of this store")
        if name not in self.objects:
            raise ArchiveUnwritable(f"There is no {name!r}.")
        return len(self.objects.pop(name))


def _seen(sha256: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValueError("a blob is named by 64 lower-case hex digits")
    return sha256


class _Writer(base.Writer):
    def __init__(self, objects: dict[str, bytes], name: str) -> None:
        super().__init__()
        self._objects = objects
        self._name = name
        objects[name] = b""

    def append(self, data: bytes, /) -> None:
        self._objects[self._name] += data

    def keep(self, sha256: str, size: int, /) -> bool:
        held = self._objects.get(sha256)
        if held is not None and hashlib.sha256(held).hexdigest() == sha256:
            return False
        self._objects[sha256] = self._objects[self._name]
        return True

    def drop(self) -> None:
        self._objects.pop(self._name, None)


class _Blob(base.Blob):
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)
        self.version = hash(data)

    def read(self, offset: int, length: int, /) -> bytes:
        return self._data[offset : offset + length]

    def close(self) -> None:
        self._data = b""
