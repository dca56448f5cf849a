"""The sink of attachments that are fetched to be compared, not to be kept."""

from __future__ import annotations

import hashlib


class HashSink:
    """A sink that keeps nothing but the size and the hash of what it got."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """The hash so far, in hexadecimal."""
        return self._hash.hexdigest()

    def write(self, data: bytes, /) -> None:
        """Take the next bytes."""
        self._hash.update(data)
        self.size += len(data)

    def abort(self) -> None:
        """Forget everything."""
