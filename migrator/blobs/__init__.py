"""Stores of bytes by their SHA-256: the contract, and one module for each of them."""

from pathlib import Path

from migrator.blobs.base import Store
from migrator.blobs.local import LocalStore


def store_of(archive: Path) -> Store:
    """Return the store of the archive at ``archive``: stores are chosen here and nowhere else."""
    return LocalStore(archive)
