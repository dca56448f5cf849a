"""Stores around a store: the same contract, but for what they change."""
# ruff: noqa: D102 - every method does what the contract says

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from migrator.blobs.base import Blob, Entry, Examined, Store, Writer


class Wrapper:
    """Hands everything on to ``store``; a subclass changes some of it."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @property
    def where(self) -> str:
        return self.store.where

    def prepare(self) -> None:
        self.store.prepare()

    def missing(self) -> list[str]:
        return self.store.missing()

    def writer(self) -> Writer:
        return self.store.writer()

    def open(self, sha256: str, /) -> Blob | None:
        return self.store.open(sha256)

    def size(self, sha256: str, /) -> int | None:
        return self.store.size(sha256)

    def has(self, sha256: str, /) -> bool:
        return self.store.has(sha256)

    def blocked(self, sha256: str, /) -> str | None:
        return self.store.blocked(sha256)

    def examine(self, sha256: str, size: int, /) -> Examined:
        return self.store.examine(sha256, size)

    def scan(self, unreadable: Callable[[str, str], None] | None = None, /) -> Iterator[Entry]:
        return self.store.scan(unreadable)

    def entry(self, name: str, /) -> Entry | None:
        return self.store.entry(name)

    def remove(self, name: str, /) -> int:
        return self.store.remove(name)

    def copy_out(
        self,
        sha256: str,
        size: int,
        target: Path,
        *,
        temp: Path,
        link: bool = True,
        stopped: Callable[[], None] = lambda: None,
    ) -> Examined:
        return self.store.copy_out(sha256, size, target, temp=temp, link=link, stopped=stopped)


class DryStore(Wrapper):
    """Reads the blobs of a store; new ones are hashed and dropped, nothing is removed."""

    def prepare(self) -> None:
        pass

    def remove(self, name: str, /) -> int:  # noqa: ARG002 - the contract's
        return 0

    def writer(self) -> Writer:
        return _DryWriter(self.store)


class _DryWriter(Writer):
    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store

    def append(self, data: bytes, /) -> None:
        pass

    def keep(self, sha256: str, size: int, /) -> bool:
        return self._store.size(sha256) != size

    def drop(self) -> None:
        pass
