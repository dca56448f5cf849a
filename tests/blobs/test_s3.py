"""The store in a bucket, on a real SeaweedFS."""
# ruff: noqa: E402 - not without the extra

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

obstore = pytest.importorskip("obstore", reason="the extra [s3] is not installed")

from migrator.archive import open_archive, open_beside
from migrator.blobs import Place, choose, move, place_of
from migrator.blobs.s3 import S3Store
from migrator.errors import ArchiveDamaged, ArchiveUnreachable, ArchiveUnwritable, ConfigError
from migrator.pull.verify import repair, verify
from migrator.serve import join_faces, load_faces
from migrator.serve.catalog import EndpointSettings
from migrator.serve.server import BackgroundServer
from migrator.sources.kayako.source import KayakoSource
from tests.blobs import weed
from tests.blobs.conformance import SMALL, Bench, Conformance, names, sha
from tests.blobs.conformance import put as store
from tests.pull.doubles import Desk, pull
from tests.report.handed import handed
from tests.web.desks import Visitor

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


def test_a_bucket_that_forgets_never_leads_to_a_stored_row(
    tmp_path: Path, service: weed.Weed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an object that was taken is not shown, or shorter, the writer says so."""
    bench = in_bucket(tmp_path / "archive", service.place())
    put = obstore.put

    def forgets(bucket: object, key: str, *args: object, **more: object) -> object:
        done = put(bucket, key, *args, **more)
        obstore.delete(bucket, key)
        return done

    def cuts(bucket: object, key: str, *args: object, **more: object) -> object:
        return put(bucket, key, b"short", **more)

    for lie in (forgets, cuts):
        monkeypatch.setattr(obstore, "put", lie)
        with pytest.raises(ArchiveUnwritable, match="Nothing is recorded as stored"):
            store(bench.store, SMALL)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"url": "s3://there-is-none/x"}, "no such bucket"),
        ({"endpoint": "http://127.0.0.1:9"}, "cannot be reached"),
        ({"allow_http": False}, "Set s3.allow_http"),
    ],
    ids=["bucket", "endpoint", "http"],
)
def test_what_is_wrong_is_told(
    tmp_path: Path, service: weed.Weed, wrong: dict[str, Any], words: str
) -> None:
    """A place that cannot be used is refused before anything is fetched, in an admin's words."""
    place = replace(service.place(), **wrong)
    found = S3Store(tmp_path, place, patience=1)
    with pytest.raises(ArchiveUnwritable, match=words) as told:
        found.prepare()
    assert "Debug" not in str(told.value)
    for ask in (found.open, found.size, lambda sha256: found.examine(sha256, 1)):
        with pytest.raises(ArchiveUnreachable, match=words):
            ask(sha(SMALL))
    with pytest.raises(ArchiveUnreachable, match=words):
        list(found.scan(lambda *_: None))
    with pytest.raises(ArchiveUnwritable, match=words):
        store(found, SMALL)


def test_an_archive_whose_bucket_is_empty_is_told_what_to_look_at(
    tmp_path: Path, service: weed.Weed
) -> None:
    """Nobody mounts a bucket; the files of the right one are still there."""
    root = tmp_path / "archive"
    choose(root, service.place())
    with open_archive(root, command="test") as archive:
        assert pull(Desk(3), archive).exit_code == 0
    move(root, service.place())
    with (
        pytest.raises(ArchiveDamaged, match="the bucket and the prefix") as told,
        open_archive(root, command="test"),
    ):
        pass
    assert "mount" not in str(told.value)


def test_an_archive_in_a_bucket_is_run_checked_handed_over_and_served(
    tmp_path: Path, service: weed.Weed
) -> None:
    """Commands find the bucket by the archive alone; what is damaged there is fetched again."""
    root, desk = tmp_path / "archive", Desk(3)
    choose(root, service.place())
    with open_archive(root, command="test") as archive:
        assert pull(desk, archive).exit_code == 0
        bench = in_bucket(tmp_path / "other", place_of(root) or service.place())
        bench.harm(sha(b"file 2"), b"damage")
        bench.harm(sha(b"file 3"), None)
        report = asyncio.run(verify(archive))
        assert (report.damaged, report.lost) == ([sha(b"file 2")], [sha(b"file 3")])
        asyncio.run(repair(archive, KayakoSource(desk, concurrency=1), report))
        assert asyncio.run(verify(archive)).exit_code == 0
        assert handed(archive, tmp_path / "handover").files == 3
    assert not (root / "blobs").exists()
    with open_archive(root, command="test") as archive:
        assert pull(desk, archive).exit_code == 0
        _, token = archive.access.create_token(
            "t", abilities=["tickets:read"], queues=None, is_staff=True, expires_at=None
        )
    with (
        open_beside(root) as archive,
        BackgroundServer(join_faces(load_faces(), lambda: archive, EndpointSettings())) as server,
        Visitor(base_url=server.url, timeout=20) as visitor,
    ):
        visitor.sign_in(token)
        whole = visitor.get("/attachments/2/download")
        part = visitor.get("/attachments/2/download", headers={"range": "bytes=2-"})
        assert (whole.content, part.content) == (b"file 2", b"le 2")
        body = {"ticket_number": "2", "response_attachment_id": 2, "intent": "review_ok"}
        bearer = {"authorization": f"Bearer {token}"}
        for more, data in (({}, b"file 2"), ({"offset": 1, "length": 3}, b"ile")):
            url = "/api/v1/tickets/attachment"
            answer = visitor.post(url, json=body | more, headers=bearer).json()
            assert base64.b64decode(answer["data"]["content_base64"]) == data
        assert visitor.get("/readyz").status_code == 200
    assert len(names(bench.store)) == 3


def test_the_place_of_an_archive_cannot_change_by_a_setting(tmp_path: Path) -> None:
    """Files on the disk stay there, and those of a bucket too; its address may change."""
    first, second = Place("s3://one/a"), Place("s3://two/b")
    choose(tmp_path / "new", first)
    choose(tmp_path / "new", replace(first, endpoint="https://s3.example.com"))
    assert place_of(tmp_path / "new") == replace(first, endpoint="https://s3.example.com")
    with pytest.raises(ConfigError, match="are in 's3://one/a'"):
        choose(tmp_path / "new", second)
    with open_archive(tmp_path / "old", command="test"):
        pass
    with pytest.raises(ConfigError, match=r"are in '.*blobs'"):
        choose(tmp_path / "old", first)
    assert place_of(tmp_path / "old") is None
