"""A real object store for the tests: SeaweedFS, started on loopback."""

from __future__ import annotations

import contextlib
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.blobs import Place
from migrator.sandbox.bucket import BUCKET, ObjectStore


class Weed(ObjectStore):
    """One server, and places in its bucket."""

    def place(self) -> Place:
        """Return a new place in the bucket: a bucket takes seven volumes, so one must do."""
        where = f"s3://{BUCKET}/an/archive/{uuid.uuid4().hex}"
        return Place(where, self.url, "us-east-1", allow_http=True)


@contextlib.contextmanager
def serving() -> Iterator[Weed]:
    """Run one until the block ends."""
    with tempfile.TemporaryDirectory(prefix="weed") as folder:
        weed = Weed(Path(folder))
        try:
            try:
                weed.start()
            except FileNotFoundError as error:
                pytest.skip(str(error))
            yield weed
        finally:
            weed.kill()
