"""The store in a bucket, on a real SeaweedFS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

pytest.importorskip("obstore", reason="the extra [s3] is not installed")

from migrator.blobs.s3 import Place, S3Store
from tests.blobs import weed
from tests.blobs.conformance import Bench, Conformance

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service() -> Iterator[weed.Weed]:
    with weed.serving() as started:
        yield started


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key")


def in_bucket(root: Path, place: Place) -> Bench:
    """Give a store, and reach its objects past it."""
    bucket = place.url.removeprefix("s3://")
    root.mkdir()

    def url(name: str) -> str:
        return f"{place.endpoint}/{bucket}/{name}"

    def put(name: str, data: bytes) -> str:
        httpx.put(url(name), content=data).raise_for_status()
        return name

    def harm(sha256: str, data: bytes | None) -> None:
        name = f"blobs/{sha256[:2]}/{sha256[2:4]}/{sha256}"
        if data is None:
            httpx.delete(url(name)).raise_for_status()
        else:
            put(name, data)

    store = S3Store(root, place)
    store.prepare()
    return Bench(
        store,
        harm,
        lambda: put("blobs/README", b"mine"),
        lambda data: put(f"blobs/tmp/{'0f' * 16}", data),
        lambda: S3Store(root, place),
    )


class TestS3Store(Conformance):
    """The store in a bucket."""

    @pytest.fixture
    def bench(self, tmp_path: Path, service: weed.Weed) -> Bench:
        return in_bucket(tmp_path / "archive", service.place())
