"""Large files, damaged files, slow clients and clients that leave."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import re
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import httpx
import pytest
from starlette.types import Message, Scope

from migrator.serve.catalog import EndpointSettings
from migrator.serve.content import Verdicts
from migrator.serve.tickiti import build_app

if TYPE_CHECKING:
    from migrator.blobs.base import Blob
    from tests.serve.conftest import Desk, OpenDesk

BIG = os.urandom(1_000_003)


def replace(path: Path, data: bytes) -> None:
    """Put other bytes in a blob's place."""
    path.unlink()
    path.write_bytes(data)


def test_truncated_blob_is_not_found(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """A blob of the wrong size is missing to clients, and the operator is told which one."""
    for data in (b"small", BIG):
        attachment = desk.attach("evil\nname.zip", data + b"to be cut")
        replace(desk.blob(attachment), data)
        answer = desk.get(attachment)
        assert (answer.status_code, answer.json()["error"]) == (404, "not_found")
        assert f"attachment {attachment} " in caplog.text
        assert "evil" not in caplog.text


def test_small_flipped_blob_is_not_found(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """One wrong bit in a small file is seen before anything is sent, each time."""
    attachment = desk.attach("a.zip", b"Right bytes")
    replace(desk.blob(attachment), b"right bytes")
    for _ in range(2):
        assert desk.get(attachment).status_code == 404
    assert "has another SHA-256" in caplog.text


def test_large_flipped_blob_is_never_a_complete_answer(desk: Desk) -> None:
    """One wrong bit in a large file ends the connection early; from then on it is missing."""
    attachment = desk.attach("a.zip", BIG)
    path = desk.blob(attachment)
    replace(path, BIG[:-1] + bytes([BIG[-1] ^ 1]))
    with pytest.raises(httpx.RemoteProtocolError):
        desk.get(attachment)
    assert desk.get(attachment).status_code == 404
    replace(path, BIG)
    answer = desk.get(attachment)
    assert base64.b64decode(answer.json()["data"]["content_base64"]) == BIG


def test_blob_changed_after_it_was_seen_is_read_again(desk: Desk) -> None:
    """What was right once is believed only as long as the file stays untouched."""
    attachment = desk.attach("a.zip", b"first bytes")
    assert desk.get(attachment).status_code == 200
    replace(desk.blob(attachment), b"other bytes")
    assert desk.get(attachment).status_code == 404


def test_directory_in_place_of_a_blob_is_not_found(desk: Desk) -> None:
    """Only a file is a file."""
    attachment = desk.attach("a.zip", b"soon a directory")
    path = desk.blob(attachment)
    path.unlink()
    path.mkdir()
    assert desk.get(attachment).status_code == 404
    path.rmdir()


def test_unreadable_blob_is_a_server_error(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that fails is told as our failure, without detail for the client."""
    attachment = desk.attach("a.zip", b"on a bad disk")

    def failing(self: object, sha256: str) -> None:
        raise OSError(5, "Input/output error\nforged line")

    monkeypatch.setattr("migrator.blobs.local.LocalStore.open", failing)
    answer = desk.get(attachment)
    assert (answer.status_code, answer.json()["error"]) == (500, "server_error")
    assert "Input" not in answer.text
    assert "Traceback" not in answer.text
    assert "Input/output error\\nforged" in caplog.text


def ask(attachment: int, token: str) -> tuple[Scope, Message]:
    """Return the scope and the body message of a request without a server."""
    body = {"ticket_number": "1", "response_attachment_id": attachment}
    headers = [
        (b"authorization", b"Bearer " + token.encode()),
        (b"content-type", b"application/json"),
    ]
    path = "/api/v1/tickets/attachment"
    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": headers,
        "root_path": "",
        "query_string": b"",
    }
    return scope, {"type": "http.request", "body": json.dumps(body).encode()}


def drive(desk: Desk, attachment: int, *, leave_after: int) -> list[Message]:
    """Run the application by hand; the client leaves after so many messages."""
    scope, request = ask(attachment, desk.staff)
    sent: list[Message] = []
    left = asyncio.Event()
    incoming: list[Message] = [{"type": "http.request"}, request]

    async def receive() -> Message:
        if incoming:
            return incoming.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)
        if len(sent) >= leave_after:
            left.set()

    asyncio.run(build_app(desk.archive, EndpointSettings())(scope, receive, send))
    return sent


def test_nothing_more_is_read_for_a_client_that_left(desk: Desk) -> None:
    """A closed connection stops the reading of a large file within a few blocks."""
    attachment = desk.attach("a.zip", BIG * 3)
    assert len(drive(desk, attachment, leave_after=1000)) > 20
    sent = drive(desk, attachment, leave_after=4)
    assert len(sent) < 8
    assert sent[-1]["more_body"] is True


def test_messages_stay_small(desk: Desk) -> None:
    """A large file goes out in pieces of at most 192 KiB, whose sum is the promised length."""
    sent = drive(desk, desk.attach("a.zip", BIG), leave_after=1000)
    pieces = [message["body"] for message in sent[1:]]
    assert max(map(len, pieces)) <= 192 * 1024
    assert dict(sent[0]["headers"])[b"content-length"] == b"%d" % sum(map(len, pieces))
    small = drive(desk, desk.attach("b.zip", b"small"), leave_after=1000)
    assert len(small) == 2


def test_file_cut_while_it_is_read_is_never_complete(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """A blob that shrinks under the reader ends the answer before its tail."""
    attachment = desk.attach("cut.zip", BIG[::-1])
    path = desk.blob(attachment)
    scope, request = ask(attachment, desk.staff)
    sent: list[Message] = []

    async def receive() -> Message:
        return request if not sent else await asyncio.Future()

    async def send(message: Message) -> None:
        sent.append(message)
        os.truncate(path, 200_000)

    asyncio.run(build_app(desk.archive, EndpointSettings())(scope, receive, send))
    assert sent[-1]["more_body"] is True
    assert "ends too early" in caplog.text
    path.unlink()


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_file_changed_while_it_is_sent_is_never_complete(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """Other bytes of the same size under the reader end the answer, known to be whole or not."""
    attachment = desk.attach("changed.zip", BIG + bytes([known]))
    path = desk.blob(attachment)
    before = path.stat()
    monkeypatch.setattr(time, "time_ns", lambda: before.st_ctime_ns + 10**10)  # long ago
    scope, request = ask(attachment, desk.staff)
    app = build_app(desk.archive, EndpointSettings())

    async def sent(*, change: bool) -> list[Message]:
        incoming, sent = [{"type": "http.request"}, request], []

        async def receive() -> Message:
            return incoming.pop() if incoming else await asyncio.Future()

        async def send(message: Message) -> None:
            sent.append(message)
            if change and len(sent) == 3:
                with path.open("r+b") as file:
                    file.seek(900_000)
                    file.write(b"x")
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

        await app(scope, receive, send)
        return sent

    async def answers() -> list[Message]:
        if known:
            assert not (await sent(change=False))[-1].get("more_body")
        return await sent(change=True)

    assert asyncio.run(answers())[-1]["more_body"] is True
    path.unlink()


def test_client_that_leaves_before_its_body_ends_is_no_error(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """A half request is dropped without an answer and without a word in the log."""
    address = httpx.URL(desk.base)
    with socket.create_connection((address.host, address.port or 80)) as client:
        client.sendall(
            b"POST /api/v1/tickets/attachment HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
            b"Content-Type: application/json\r\nExpect: 100-continue\r\n"
            + f"Authorization: Bearer {desk.staff}\r\n\r\n".encode()
        )
        assert client.recv(100).startswith(b"HTTP/1.1 100")
        client.sendall(b'{"ticket')
    assert desk.post({}).status_code == 422
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


def test_old_verdicts_are_forgotten() -> None:
    """What is remembered of files read is bounded, however many there are."""
    verdicts = Verdicts(most=2)
    blob = cast("Blob", SimpleNamespace(version=(1, 1, 1, 1), fresh=False))
    for name in "aabc":
        verdicts.put(name, blob, whole=True)
    assert [verdicts.get(name, (1, 1, 1, 1)) for name in "abc"] == [None, True, True]


SERVER = """
    import sys
    from pathlib import Path
    from migrator.archive import open_beside
    from migrator.serve.catalog import EndpointSettings
    from migrator.serve.server import serve
    from migrator.serve.tickiti import build_app

    with open_beside(Path(sys.argv[1])) as archive:
        app = build_app(archive, EndpointSettings(max_download=1 << 30))
        serve(app, host="127.0.0.1", port=0, on_ready=lambda url: print(url, flush=True))
    print("ended well")
"""


@contextlib.contextmanager
def running(desk: Desk) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a server process over the archive of a desk; yield it and its URL."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SERVER), str(desk.archive.path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def peak(process: subprocess.Popen[str]) -> int:
    """Return the largest resident size so far, in bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_does_not_grow_with_the_file_or_with_slow_readers(open_desk: OpenDesk) -> None:
    """30 MB files go to one reader and stall at eight others without being held in memory."""
    with open_desk() as desk:
        attachment = desk.attach("big.zip", BIG * 30)
        with running(desk) as (process, url), contextlib.ExitStack() as stack:
            desk.url = url + "/api/v1/tickets/attachment"
            assert desk.get("1").status_code == 404
            before = peak(process)
            for _ in range(8):
                body = {"ticket_number": 1, "response_attachment_id": attachment}
                headers = {"Authorization": f"Bearer {desk.staff}"}
                stack.enter_context(
                    desk.client.stream("POST", desk.url, json=body, headers=headers)
                )
            answer = desk.get(attachment)
            assert len(answer.content) == int(answer.headers["content-length"])
            assert json.loads(answer.content)["data"]["file_size"] == 30 * len(BIG)
            assert peak(process) - before < 12 * 1024 * 1024


def test_stop_lets_a_running_download_end(open_desk: OpenDesk) -> None:
    """SIGTERM while a file is on its way: the file arrives whole, then the process ends with 0."""
    with open_desk() as desk:
        attachment = desk.attach("big.zip", BIG * 10)
        with running(desk) as (process, url):
            body = {"ticket_number": 1, "response_attachment_id": attachment}
            headers = {"Authorization": f"Bearer {desk.staff}"}
            address = url + "/api/v1/tickets/attachment"
            with desk.client.stream("POST", address, json=body, headers=headers) as answer:
                process.terminate()
                content = b"".join(answer.iter_bytes())
            assert json.loads(content)["data"]["file_size"] == 10 * len(BIG)
            assert process.communicate(timeout=20)[0] == "ended well\n"
            assert process.returncode == 0
