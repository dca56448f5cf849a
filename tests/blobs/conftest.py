"""The archive of the archive's own tests."""

from tests.archive.conftest import archive, put, root, store

__all__ = ["archive", "put", "root", "store"]
