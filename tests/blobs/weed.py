"""A real object store for the tests: SeaweedFS, started on loopback."""

from __future__ import annotations

import contextlib
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from migrator.blobs import Place
from migrator.sandbox.bucket import BUCKET, ObjectStore

_LOCK = """<ObjectLockConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>GOVERNANCE</Mode>
<Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>"""


class Weed(ObjectStore):
    """One server, and places in its buckets."""

    def place(self) -> Place:
        """Return a new place in the bucket: a bucket takes seven volumes, so one must do."""
        return self._place(BUCKET)

    def guarded(self) -> Place:
        """Return a new place in a bucket with versioning, where locks protect what is new."""
        bucket = f"{self.url}/guarded"
        headers = {"x-amz-bucket-object-lock-enabled": "true"}
        assert httpx.put(bucket, headers=headers).status_code in (200, 409)
        httpx.put(f"{bucket}?object-lock", content=_LOCK).raise_for_status()
        assert "Enabled" in httpx.get(f"{bucket}?versioning").text
        return self._place("guarded")

    def _place(self, bucket: str) -> Place:
        where = f"s3://{bucket}/an/archive/{uuid.uuid4().hex}"
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
