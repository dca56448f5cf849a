"""Stores of bytes by their SHA-256: the contract, one module per store, and their choice."""

from pathlib import Path
from typing import Any

from migrator.blobs.base import Store, Writer
from migrator.blobs.local import LocalStore


def store_of(archive: Path) -> Store:
    """Return the store of the archive at ``archive``: stores are chosen here and nowhere else."""
    return LocalStore(archive)


class Wrapper:
    """A store that delegates everything to ``store``; a subclass changes some of it."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        """Return what ``store`` has."""
        return getattr(self.store, name)


class DryStore(Wrapper):
    """Reads the blobs of a store; new ones are hashed and dropped, nothing is removed."""

    def prepare(self) -> None:
        """Create nothing."""

    def remove(self, name: str, /) -> int:  # noqa: ARG002 - the contract's
        """Remove nothing."""
        return 0

    def writer(self) -> Writer:
        """Return a sink that hashes."""
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
