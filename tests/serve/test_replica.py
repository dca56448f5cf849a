"""Servers that hold nothing: a bucket on a real SeaweedFS, and processes that serve from it."""

from __future__ import annotations

import base64
import contextlib
import functools
import gzip
import io
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import httpx
import pytest

from migrator.archive import Archive, open_archive, open_beside, open_read_only, snapshots
from migrator.blobs import CachedStore, Place, choose, in_bucket
from migrator.blobs.base import Store
from migrator.blobs.local import LocalStore
from migrator.serve.replica import Replica
from tests.archive.test_older_formats import made as older
from tests.blobs import weed
from tests.blobs.conformance import put, sha
from tests.pull.doubles import Desk, pull
from tests.web.desks import Visitor

KEPT = 800
LOOKS_EVERY = 1
FETCHES_IN = 9


@pytest.fixture
def files(tmp_path: Path) -> tuple[Store, Store]:
    """Give a store, and one that keeps 800 bytes of it, at most 100 of each."""
    store = LocalStore(tmp_path / "store")
    store.prepare()
    return store, CachedStore(store, tmp_path / "cache", KEPT)


def path_in(root: Path, sha256: str) -> Path:
    return root / "store" / "blobs" / sha256[:2] / sha256[2:4] / sha256


def read(store: Store, sha256: str) -> bytes | None:
    blob = store.open(sha256)
    if blob is None:
        return None
    with blob:
        return b"".join(blob.blocks())


def test_what_was_read_last_is_kept_and_no_more_than_may_be(
    files: tuple[Store, Store], tmp_path: Path
) -> None:
    """Kept files need no store; the oldest go first, one that was read again is not the oldest."""
    store, cached = files
    many = [bytes([n]) * 100 for n in range(10)]
    for data in many:
        put(store, data)
    for data in [*many[:8], many[0], many[8]]:
        assert read(cached, sha(data)) == data
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in kept) == KEPT
    for data in many[:9]:
        path_in(tmp_path, sha(data)).unlink()
    found = [read(cached, sha(data)) for data in many[:9]]
    assert found == [many[0], None, *many[2:9]]


def test_damaged_lost_and_large_files_are_not_kept(
    files: tuple[Store, Store], tmp_path: Path
) -> None:
    """They are answered as the store has them; who serves them sees the hash."""
    store, cached = files
    put(store, b"good")
    path = path_in(tmp_path, sha(b"good"))
    path.chmod(0o600)
    path.write_bytes(b"evil")
    put(store, b"x" * 101)
    assert read(cached, sha(b"good")) == b"evil"
    assert read(cached, sha(b"x" * 101)) == b"x" * 101
    assert read(cached, sha(b"none")) is None
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def service() -> Iterator[weed.Weed]:
    pytest.importorskip("obstore", reason="the extra [s3] is not installed")
    with weed.serving() as started:
        yield started


@pytest.fixture
def place(service: weed.Weed, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key")
    return service.place()


@pytest.fixture
def archive(tmp_path: Path, place: Place) -> Iterator[Archive]:
    """Pull three files into the bucket and publish them."""
    choose(tmp_path / "archive", place)
    with open_archive(tmp_path / "archive", command="test") as made:
        assert pull(Desk(3), made).exit_code == 0
        yield made


def token_of(archive: Archive) -> tuple[int, str]:
    made, token = archive.access.create_token(
        "t", abilities=["tickets:read"], queues=None, is_staff=True, expires_at=None
    )
    return made.id, token


def publish(archive: Archive) -> None:
    snapshots.publish(archive, keep=3, now=int(time.time()))


@contextlib.contextmanager
def serving(folder: Path, *args: str, ends_by: int = signal.SIGTERM) -> Iterator[str]:
    """Run ``migrator serve`` in a directory of its own, until a signal."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "migrator", *args, "--port", "0"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    with process:
        try:
            assert process.stderr is not None
            said, found = "", None
            while found is None:
                said += (line := process.stderr.readline())
                assert line, said
                found = re.search(r"at (http://\S+)", line)
            yield found[1]
        finally:
            process.send_signal(ends_by)
            assert process.wait(30) == (-ends_by if ends_by == signal.SIGKILL else 0)


def from_bucket(place: Place, *more: str) -> list[str]:
    where = ["--endpoint", str(place.endpoint), "--region", "us-east-1", "--allow-http"]
    return ["serve", "--from", place.url, *where, "--look-every", f"{LOOKS_EVERY}s", *more]


def ask(client: httpx.Client, url: str, token: str, attachment: int) -> httpx.Response:
    body = {
        "ticket_number": str(attachment),
        "response_attachment_id": attachment,
        "intent": "review_ok",
    }
    bearer = {"authorization": f"Bearer {token}"}
    return client.post(f"{url}/api/v1/tickets/attachment", json=body, headers=bearer)


def until(true: object, seconds: float = 15) -> bool:
    """Wait until a function returns True."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():  # type: ignore[operator]
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_servers_of_a_bucket_answer_as_the_archive_does(
    archive: Archive, place: Place, tmp_path: Path, workers: int
) -> None:
    """No configuration is needed; new files, tokens and revocations arrive; nothing is dropped."""
    number, token = token_of(archive)
    _, other = token_of(archive)
    publish(archive)
    config = tmp_path / "config.toml"
    config.write_text(f'[archive]\npath = "{tmp_path / "archive"}"\n')
    with (
        serving(tmp_path / "a", *from_bucket(place, "--workers", str(workers))) as one,
        serving(tmp_path / "b", *from_bucket(place, "--cache", "1B")) as two,
        serving(tmp_path, "-c", str(config), "serve", "--workers", "2") as local,
        httpx.Client(timeout=30) as client,
        contextlib.ExitStack() as staff,
    ):
        for n in (1, 2, 3):
            answers = [ask(client, url, token, n) for url in (local, one, two)]
            assert {answer.status_code for answer in answers} == {200}
            assert len({answer.content for answer in answers}) == 1
            content = answers[0].json()["data"]["content_base64"]
            assert base64.b64decode(content) == b"file %d" % n
        ready = client.get(f"{one}/readyz").json()
        assert ready["snapshot"]["name"].endswith(".db.gz")
        assert 0 <= ready["snapshot"]["checked"] <= ready["snapshot"]["age"] < 60

        said: list[set[tuple[int, bytes]]] = []
        ended = threading.Event()

        def hammer() -> None:
            with httpx.Client(timeout=30) as visitor:
                while not ended.is_set():
                    answers = [ask(visitor, url, other, 2) for url in (local, one, two)]
                    said.append({(answer.status_code, answer.content) for answer in answers})

        visitors = threading.Thread(target=hammer)
        visitors.start()
        try:
            assert pull(Desk(6), archive).exit_code == 0
            publish(archive)
            for url in (one, two):
                assert until(lambda url=url: ask(client, url, token, 6).status_code == 200)
            visitor = staff.enter_context(Visitor(base_url=one, timeout=30))
            visitor.sign_in(token)
            assert visitor.get("/").status_code == 200
            assert archive.access.revoke(number)
            publish(archive)
            stated = time.monotonic() + LOOKS_EVERY + FETCHES_IN
            for url in (one, two):
                left = stated - time.monotonic()
                assert until(lambda url=url: ask(client, url, token, 6).status_code == 401, left)
                assert [ask(client, url, token, 6).status_code for _ in range(8)] == [401] * 8
            assert visitor.get("/").status_code != 200  # those who are signed in, too
        finally:
            ended.set()
            visitors.join()
        assert len(said) > 20
        good = ask(client, local, other, 2)
        assert all(each == {(200, good.content)} for each in said)
    assert not list((tmp_path / "a").iterdir())


@pytest.mark.slow
def test_metrics_are_those_of_the_snapshot(
    archive: Archive, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process of a server without a configuration tells when its snapshot was made."""
    publish(archive)
    assert pull(Desk(6), archive).exit_code == 0
    secret = "0123456789abcdef"
    monkeypatch.setenv("MIGRATOR_METRICS_TOKEN", secret)
    with (
        serving(tmp_path / "a", *from_bucket(place, "--workers", "2")) as url,
        httpx.Client(headers={"Authorization": f"Bearer {secret}"}) as client,
    ):
        made = client.get(f"{url}/readyz").json()["snapshot"]["time"]
        said = {httpx.get(f"{url}/metrics", headers=client.headers).text for _ in range(10)}
        assert httpx.get(f"{url}/metrics").status_code == 401
    assert len(said) == 1
    found = dict(re.findall(r"^(\S+) (\S+)$", said.pop(), re.MULTILINE))
    assert float(found["migrator_snapshot_timestamp_seconds"]) == made
    assert float(found['migrator_attachments{kind="post",state="stored"}']) == 3


@pytest.mark.slow
def test_a_server_that_is_killed_is_missed_by_no_client_of_another(
    archive: Archive, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers go on, byte for byte; what the killed one left is removed at the next start."""
    _, token = token_of(archive)
    publish(archive)
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    (scratch / "migrator-copy-of-mine").symlink_to(tmp_path / "archive")
    monkeypatch.setenv("TMPDIR", str(scratch))
    copies = functools.partial(scratch.glob, "migrator-copy-*/checkpoint.db")
    said: list[tuple[int, bytes]] = []
    lost: list[Exception] = []
    ended = threading.Event()

    def hammer(url: str) -> None:
        with httpx.Client(timeout=30) as visitor:
            while not ended.is_set():
                try:
                    answer = ask(visitor, url, token, 2)
                except httpx.TransportError as error:
                    lost.append(error)
                    return
                if url == one:
                    said.append((answer.status_code, answer.content))

    with contextlib.ExitStack() as victims, serving(tmp_path / "a", *from_bucket(place)) as one:
        victim = serving(tmp_path / "b", *from_bucket(place), ends_by=signal.SIGKILL)
        two = victims.enter_context(victim)
        visitors = [threading.Thread(target=hammer, args=(url,)) for url in (one, one, two, two)]
        for visitor in visitors:
            visitor.start()
        try:
            assert until(lambda: len(said) > 20)
            victims.close()
            known = len(said)
            assert until(lambda: len(said) > known + 100)
        finally:
            ended.set()
            for visitor in visitors:
                visitor.join()
        assert len(lost) == 2
        assert {status for status, _ in said} == {200}
        assert len(set(said)) == 1
        left = set(copies())
        with serving(tmp_path / "c", *from_bucket(place)):
            assert len(left & set(copies())) == len(left) - 1 == 2
        with httpx.Client(timeout=30) as client:
            assert ask(client, one, token, 3).status_code == 200
    assert (tmp_path / "archive" / "checkpoint.db").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 5])
def test_a_snapshot_of_an_older_version_is_served(
    place: Place, tmp_path: Path, number: int
) -> None:
    """A server migrates its private copy; the bucket keeps the snapshot as it was."""
    old = older(tmp_path / "old", number) / "checkpoint.db"
    packed = gzip.compress(old.read_bytes())
    name = f"20260131T000000Z-{sha(packed)[:8]}.db.gz"
    made = snapshots.Snapshot(name, sha(packed), 1, len(packed), old.stat().st_size, number)
    bucket = in_bucket(tmp_path, place)
    for file in (tmp_path / "old" / "blobs").glob("*/*/*"):
        bucket.put_object(str(file.relative_to(tmp_path / "old")), io.BytesIO(b"abc"), 3)
    bucket.put_object(f"snapshots/{name}", io.BytesIO(packed), len(packed))
    latest = json.dumps(asdict(made)).encode()
    bucket.put_object("snapshots/latest", io.BytesIO(latest), len(latest))
    with (
        serving(tmp_path / "a", *from_bucket(place)) as one,
        httpx.Client(timeout=30) as client,
    ):
        ready = client.get(f"{one}/readyz")
        assert (ready.status_code, ready.json()["snapshot"]["name"]) == (200, name)
    (tmp_path / "copy").mkdir()
    replica = Replica(place, tmp_path / "copy", every=60, cache=0)
    replica.fetch()
    with (
        open_read_only(tmp_path / "copy", store=replica.bucket()) as served,
        open_beside(tmp_path / "old") as migrated,
    ):
        assert served.queries.counts() == migrated.queries.counts()
    assert b"".join(bucket.object_blocks(f"snapshots/{name}") or ()) == packed


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_bucket_without_snapshots_is_told(
    archive: Archive, place: Place, tmp_path: Path, workers: str
) -> None:
    """There is nothing to serve: the command ends at once, with what to do."""
    assert archive.queries.runs(1)
    command = [sys.executable, "-m", "migrator", *from_bucket(place, "--workers", workers)]
    (tmp_path / "empty").mkdir()
    done = subprocess.run(
        command, cwd=tmp_path / "empty", capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, "migrator publish" in done.stderr) == (2, True), done.stderr


@pytest.mark.slow
def test_a_server_goes_on_with_what_it_has(archive: Archive, place: Place, tmp_path: Path) -> None:
    """A snapshot that is damaged, or of a newer version, does not take the place of a good one."""
    _, token = token_of(archive)
    publish(archive)
    url = f"{place.endpoint}/{place.url.removeprefix('s3://')}/snapshots/latest"
    good = httpx.get(url).json()
    with (
        serving(tmp_path / "a", *from_bucket(place)) as one,
        httpx.Client(timeout=30) as client,
    ):
        for change in ({"sha256": "0" * 64}, {"format": 99, "sha256": "1" * 64}, {"name": "x"}):
            httpx.put(url, json=good | change).raise_for_status()
            assert until(lambda: client.get(f"{one}/readyz").json()["snapshot"]["checked"] >= 3)
            assert ask(client, one, token, 2).status_code == 200
        httpx.put(url, json=good).raise_for_status()
        assert until(lambda: client.get(f"{one}/readyz").json()["snapshot"]["checked"] <= 1)


@pytest.mark.slow
def test_without_its_bucket_a_server_is_not_ready_and_serves_what_it_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load balancer takes it out; files in the cache are whole all the same."""
    pytest.importorskip("obstore", reason="the extra [s3] is not installed")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key")
    with weed.serving() as service:
        place = service.place()
        choose(tmp_path / "archive", place)
        with open_archive(tmp_path / "archive", command="test") as archive:
            assert pull(Desk(2), archive).exit_code == 0
            _, token = token_of(archive)
            publish(archive)
        with (
            serving(tmp_path / "a", *from_bucket(place)) as one,
            httpx.Client(timeout=60) as client,
        ):
            before = ask(client, one, token, 1)
            assert client.get(f"{one}/readyz").status_code == 200
            service.kill()
            assert client.get(f"{one}/readyz").status_code == 503
            assert ask(client, one, token, 1).content == before.content
            absent = ask(client, one, token, 2)
            assert (absent.status_code, absent.json()["error"]) == (503, "not_ready")
            service.start()
            assert until(lambda: client.get(f"{one}/readyz").status_code == 200)
            assert until(lambda: ask(client, one, token, 2).status_code == 200)
