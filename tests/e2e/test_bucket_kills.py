"""A bucket whose service dies or lies, and pullers that are killed: no row ever says too much."""

from __future__ import annotations

import contextlib
import io
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from migrator.archive import Archive, open_archive, open_beside, snapshots
from migrator.blobs import Place, choose, in_bucket
from migrator.blobs.base import Examined, Verdict
from migrator.errors import ArchiveUnwritable
from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer
from tests.blobs import weed
from tests.pull.doubles import Desk, pull

pytest.importorskip("obstore", reason="the extra [s3] is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

KILLS = 30
STORE_KILLS = 10


@pytest.fixture(scope="module")
def service() -> Iterator[weed.Weed]:
    with weed.serving() as started:
        yield started


@pytest.fixture
def place(service: weed.Weed, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key")
    return service.place()


def untrue(archive: Archive) -> dict[str, Examined]:
    """Give the files that rows say are stored and that are not whole in the bucket."""
    return {
        sha256: found
        for sha256, size in archive.queries.expected_blobs()
        if (found := archive.blobs.examine(sha256, size)).verdict is not Verdict.OK
    }


class Liar:
    """Stands before a service and does to some requests to write what ``lies`` says.

    They are those whose path has ``about`` in it. ``locked`` refuses to remove. After ``left``
    requests of any kind to them it is dead.
    """

    def __init__(self, there: str) -> None:  # noqa: C901 - a list of lies
        self.lies: list[str] = []
        self.told = 0
        self.about = ""
        self.left: int | None = None
        liar = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def _pass(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                lie = ""
                if liar.left is not None and liar.about in self.path:
                    liar.left -= 1
                    if liar.left < 0:
                        self.close_connection = True
                        return
                verbs = ("DELETE", "POST") if "locked" in liar.lies else ("PUT", "POST")
                if self.command in verbs and liar.lies and liar.about in self.path:
                    liar.told += 1
                    lie = liar.lies[liar.told % len(liar.lies)]
                if lie == "cut":
                    self.close_connection = True
                    return
                if lie == "503":
                    self._say(503, [], b"<Error><Code>SlowDown</Code></Error>")
                    return
                if lie == "forget":
                    self._say(200, [("ETag", '"d41d8cd98f00b204e9800998ecf8427e"')], b"")
                    return
                if lie == "locked":
                    why = b"Access Denied because object protected by object lock."
                    said = b"<Error><Code>AccessDenied</Code><Message>%b</Message></Error>" % why
                    self._say(403, [], said)
                    return
                if lie == "403":
                    self._say(403, [], b"<Error><Code>AccessDenied</Code></Error>")
                    return
                headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
                if lie == "spoil" and body:
                    body = body[:-1] + bytes([body[-1] ^ 1])
                    headers = {k: v for k, v in headers.items() if k.lower()[:6] != "x-amz-"}
                answer = httpx.request(
                    self.command, f"{there}{self.path}", headers=headers, content=body, timeout=30
                )
                kept = [
                    (name, value)
                    for name, value in answer.headers.items()
                    if name.lower() not in ("content-length", "connection", "transfer-encoding")
                ]
                length = answer.headers.get("content-length") if self.command == "HEAD" else None
                self._say(answer.status_code, kept, answer.content, length)

            def _say(
                self,
                status: int,
                headers: list[tuple[str, str]],
                body: bytes,
                length: str | None = None,
            ) -> None:
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("content-length", length or str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass  # noqa: N815 - as http.server

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Liar:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.mark.parametrize(
    "lies",
    [["503", ""], ["cut", ""], ["forget"], ["forget", ""], ["503", "cut", "forget", ""]],
    ids="-".join,
)
def test_a_service_that_lies_never_leads_to_a_false_row(
    tmp_path: Path, place: Place, lies: list[str]
) -> None:
    """What it refuses, cuts or forgets is not stored; once it is honest, a run ends whole."""
    with Liar(str(place.endpoint)) as liar:
        choose(tmp_path / "archive", Place(place.url, liar.url, place.region, allow_http=True))
        liar.lies = lies
        for _ in range(3):
            with open_archive(tmp_path / "archive", command="test") as archive:
                with contextlib.suppress(ArchiveUnwritable):
                    pull(Desk(8), archive)
                assert untrue(archive) == {}
        assert liar.told
        with open_archive(tmp_path / "archive", command="test") as archive:
            if "forget" in lies:
                liar.lies = ["forget"]
                with pytest.raises(ArchiveUnwritable):
                    snapshots.publish(archive, keep=3, now=int(time.time()))
            liar.lies = []
            assert pull(Desk(8), archive).exit_code == 0
            assert archive.queries.kept_blobs()[0] == 8
            assert untrue(archive) == {}
            snapshots.publish(archive, keep=3, now=int(time.time()))
    snapshots.restore(place, tmp_path / "back")
    with open_beside(tmp_path / "back") as back:
        assert untrue(back) == {}


@pytest.fixture
def desk(request: pytest.FixtureRequest) -> Iterator[SandboxServer]:
    bare = {"links": 0, "articles": 0, "steps": 0, "field_files": 0}
    tickets, latency = getattr(request, "param", (60, 0.0))
    options = SandboxOptions(seed=3, tickets=tickets, latency=latency, **bare)  # type: ignore[arg-type]
    server = SandboxServer(Helpdesk.build(options))
    server.start()
    yield server
    server.stop()


def configured(root: Path, desk: SandboxServer, place: Place) -> list[str]:
    config = root / "config.toml"
    config.write_text(
        f'[kayako]\nurl = "{desk.url}"\napi_key = "{desk.api_key}"\n'
        f'secret_key = "{desk.secret_key}"\n'
        f'[archive]\npath = "archive"\nblobs = "{place.url}"\npublish = true\n'
        f'[s3]\nendpoint = "{place.endpoint}"\nregion = "us-east-1"\nallow_http = true\n'
    )
    config.chmod(0o600)
    return [sys.executable, "-m", "migrator", "-c", str(config), "run"]


SLOW_DESK = pytest.mark.parametrize("desk", [(300, 0.1)], indirect=True, ids=["slow"])
"""One that keeps a run at work until it is killed."""


@SLOW_DESK
def test_a_puller_that_is_killed_again_and_again_loses_nothing(
    tmp_path: Path, desk: SandboxServer, place: Place
) -> None:
    """At any moment every row is true, and so is every snapshot; the last run ends whole."""
    command, chance = configured(tmp_path, desk, place), random.Random(1)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    for _ in range(KILLS):
        process = subprocess.Popen(command, **quiet)  # type: ignore[call-overload]
        time.sleep(0.6 + chance.random() * 1.6)
        assert process.poll() is None, "it was to be killed at work"
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    with open_beside(tmp_path / "archive") as archive:
        assert untrue(archive) == {}
        total = archive.queries.kept_blobs()
    snapshots.restore(place, tmp_path / "back")
    with open_beside(tmp_path / "back") as back:
        assert back.queries.kept_blobs() == total
        assert untrue(back) == {}


@SLOW_DESK
def test_a_store_that_is_killed_again_and_again_loses_nothing(
    tmp_path: Path, desk: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run waits for it or ends and says so; all that it took is whole, without a repair."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key")
    chance = random.Random(2)
    with weed.serving() as service:
        place = service.place()
        command = configured(tmp_path, desk, place)
        for _ in range(STORE_KILLS):
            with (tmp_path / "said").open("w") as said:
                process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
                time.sleep(0.7 + chance.random())
                assert process.poll() is None, "it was to be at work"
                service.kill()
                service.start()
                code = process.wait(200)
            assert code in (0, 3, 4, 7), (tmp_path / "said").read_text()
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr
        verify = [*command[:-1], "verify"]
        done = subprocess.run(verify, capture_output=True, text=True, timeout=500, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        with open_beside(tmp_path / "archive") as archive:
            assert untrue(archive) == {}
        assert in_bucket(tmp_path, place).objects("snapshots")


@pytest.mark.parametrize("desk", [(6, 0.0)], indirect=True, ids=["small"])
@pytest.mark.parametrize(
    ("lie", "words"),
    [("403", "have no right"), ("forget", "shows nothing"), ("spoil", "gives back other bytes")],
    ids=["403", "forget", "spoil"],
)
def test_a_run_whose_snapshot_cannot_be_published_says_so_and_loses_nothing(
    tmp_path: Path, desk: SandboxServer, place: Place, lie: str, words: str
) -> None:
    """The ledger is printed, the exit code is that of writing, and ``publish`` mends it."""
    with Liar(str(place.endpoint)) as liar:
        liar.about, liar.lies = "/snapshots/", [lie]
        through = Place(place.url, liar.url, place.region, allow_http=True)
        command = configured(tmp_path, desk, through)
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, words in done.stderr) == (7, True), done.stderr
        assert "concerns the snapshot alone" in done.stderr
        assert "stored" in done.stdout
        assert in_bucket(tmp_path, place).object_blocks("snapshots/latest") is None
        with open_beside(tmp_path / "archive") as archive:
            total = archive.queries.kept_blobs()
            assert total[0]
            assert untrue(archive) == {}
        liar.lies = []
        assert subprocess.run([*command[:-1], "publish"], timeout=120, check=False).returncode == 0
    snapshots.restore(place, tmp_path / "back")
    with open_beside(tmp_path / "back") as back:
        assert back.queries.kept_blobs() == total
        assert untrue(back) == {}


@pytest.mark.parametrize("desk", [(6, 0.0)], indirect=True, ids=["small"])
def test_what_a_lock_protects_stays_and_that_is_said(
    tmp_path: Path, desk: SandboxServer, place: Place
) -> None:
    """A prune that is refused says why and claims nothing; a snapshot is published all the same."""
    with Liar(str(place.endpoint)) as liar:
        through = Place(place.url, liar.url, place.region, allow_http=True)
        command = configured(tmp_path, desk, through)
        config = tmp_path / "config.toml"
        config.write_text(config.read_text().replace("[s3]", "keep_snapshots = 1\n[s3]"))
        assert subprocess.run(command, timeout=120, check=False).returncode == 0
        in_bucket(tmp_path, place).put_object(f"blobs/ab/cd/abcd{'0' * 60}", io.BytesIO(b"x"), 1)
        liar.lies = ["locked"]
        for args, code, words in (
            (["verify", "--prune", "--yes"], 7, "object lock protects it"),
            (["publish"], 0, "Older snapshots stay in the bucket: "),
        ):
            done = subprocess.run(
                [*command[:-1], *args], capture_output=True, text=True, timeout=60, check=False
            )
            assert (done.returncode, words in done.stderr) == (code, True), done.stderr
            assert "Removed" not in done.stdout


def test_a_copy_between_buckets_resumes_after_ctrl_c(
    tmp_path: Path, desk: SandboxServer, service: weed.Weed, place: Place
) -> None:
    """It ends with 130 and no snapshot; the same command goes on and makes a whole mirror."""
    command, mirror = configured(tmp_path, desk, place), service.place()
    choose(tmp_path / "archive", place)
    with open_archive(tmp_path / "archive", command="test") as archive:
        assert pull(Desk(300), archive).exit_code == 0
    command[-1:] = ["archive", "copy", mirror.url]
    there = in_bucket(tmp_path, mirror)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not any(there.scan()) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert (process.returncode, "Run the same command again" in said) == (130, True), said
    assert there.objects("snapshots") == []
    begun = sum(1 for _ in there.scan())
    assert 0 < begun < 300
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"^copied +{300 - begun} ", done.stdout, re.MULTILINE), done.stdout
    snapshots.restore(mirror, tmp_path / "back")
    with open_beside(tmp_path / "back") as back:
        assert back.queries.kept_blobs()[0] == 300
        assert untrue(back) == {}
