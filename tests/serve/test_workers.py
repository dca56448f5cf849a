"""Several processes on one address: they share the work, stop together and replace the dead."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from migrator.errors import ConfigError, MigratorError
from migrator.serve.workers import listen_together, serve_workers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()"),
]

SERVER = """
    import os, sys, time
    from migrator.serve.server import ServerOptions, serve_on
    from migrator.serve.workers import serve_workers
    from migrator.serve.refusals import Refusal

    async def pid(scope, receive, send):
        if scope["path"] == "/slow":
            head = [(b"content-length", b"2")]
            await send({"type": "http.response.start", "status": 200, "headers": head})
            await send({"type": "http.response.body", "body": b"1", "more_body": True})
            import asyncio
            await asyncio.sleep(1)
            await send({"type": "http.response.body", "body": b"2"})
            return
        if scope["path"] == "/die":
            os._exit(7)
        await Refusal(418, str(os.getpid()), "")(scope, receive, send)

    options = ServerOptions(parent=os.getpid())
    def work(listener):
        serve_on(listener, pid, options=options)
    serve_workers(
        work,
        workers=2,
        host="127.0.0.1",
        port=0,
        soon=float(sys.argv[1]),
        on_ready=lambda url: print(url, flush=True),
    )
    print("ended well")
"""


@pytest.fixture
def start() -> Iterator[Callable[..., tuple[subprocess.Popen[str], str]]]:
    """Return what starts two workers that tell their process ids; all end with the test."""
    started: list[subprocess.Popen[str]] = []

    def run(soon: float = 0) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SERVER), str(soon)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    yield run
    for process in started:
        with process:
            process.kill()


def answering(url: str) -> int:
    """Return the process id of the worker that answers a new connection."""
    return int(httpx.get(url).json()["error"])


def both(url: str) -> set[int]:
    """Return the process ids of both workers."""
    found: set[int] = set()
    until = time.monotonic() + 20
    while len(found) < 2 and time.monotonic() < until:
        found.add(answering(url))
    return found


def gone(pid: int) -> bool:
    """Tell, after a generous wait, whether a process has ended."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


Start = Callable[..., tuple[subprocess.Popen[str], str]]


def test_workers_share_the_clients_and_stop_together(start: Start) -> None:
    """Both answer; at SIGTERM an answer under way is completed, and no process is left."""
    process, url = start()
    workers = both(url)
    assert len(workers) == 2
    assert process.pid not in workers
    with httpx.stream("GET", url + "/slow") as answer:
        pieces = answer.iter_raw()
        assert next(pieces) == b"1"
        process.terminate()
        assert b"".join(pieces) == b"2"
    assert process.communicate(timeout=20)[0] == "ended well\n"
    assert process.returncode == 0
    assert all(map(gone, workers))


def test_a_second_signal_is_passed_on(start: Start) -> None:
    """Who asks twice does not wait for an answer under way."""
    process, url = start()
    with httpx.stream("GET", url + "/slow") as answer:
        assert next(answer.iter_raw()) == b"1"
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_worker_that_dies_is_replaced(start: Start) -> None:
    """Another takes its place and its socket; the one beside it goes on."""
    process, url = start()
    before = both(url)
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(url + "/die")
    after = both(url)
    assert len(after) == 2
    assert len(before & after) == 1
    process.terminate()
    _, said = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "A worker ended with 7; another one takes its place." in said


def test_worker_that_cannot_begin_ends_all(start: Start) -> None:
    """One that ends as soon as it begins would do so for ever: all end, with the reason."""
    process, url = start(soon=1000)
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(url + "/die")
    _, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "A worker ended with 7 as soon as it had begun" in said


def test_workers_end_with_their_parent(start: Start) -> None:
    """After a kill of the parent nobody serves on."""
    process, url = start()
    workers = both(url)
    process.kill()
    process.wait(20)
    assert all(map(gone, workers))


def test_address_of_another_server_is_refused() -> None:
    """Sockets that share an address must not share it with a stranger's server."""
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ConfigError, match="in use"),
    ):
        listen_together("127.0.0.1", taken.getsockname()[1], 2)
    listeners = listen_together("127.0.0.1", 0, 3)
    try:
        assert len({each.getsockname() for each in listeners}) == 1
        with pytest.raises(ConfigError, match="in use"):
            listen_together("127.0.0.1", listeners[0].getsockname()[1], 2)
    finally:
        for each in listeners:
            each.close()


def test_elsewhere_than_on_linux_one_socket_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel does not spread clients over sockets, all workers have the same one."""
    monkeypatch.setattr("migrator.serve.workers.sys.platform", "darwin")
    listeners = listen_together("127.0.0.1", 0, 2)
    assert len({os.fstat(each.fileno()).st_ino for each in listeners}) == 1
    for each in listeners:
        each.close()


class Child(BaseException):
    """Stands for the end of a child process."""


@pytest.mark.parametrize(
    ("error", "code"),
    [(None, 0), (KeyboardInterrupt(), 130), (ConfigError("no"), 2), (ZeroDivisionError("x\n"), 1)],
)
def test_a_worker_ends_with_the_code_of_its_error(
    monkeypatch: pytest.MonkeyPatch, error: BaseException | None, code: int
) -> None:
    """Whatever happens in a child ends there, with the exit code that stands for it."""
    ended: list[int] = []

    def leave(code: int) -> None:
        ended.append(code)
        raise Child

    def work(listener: socket.socket) -> None:
        if error is not None:
            raise error

    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(os, "fork", lambda: 0)
    monkeypatch.setattr(os, "setpgid", lambda *_: None)
    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(Child):
        serve_workers(work, workers=2, host="127.0.0.1", port=0)
    assert ended == [code]
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def in_parent(monkeypatch: pytest.MonkeyPatch, ends: list[tuple[int, int]]) -> list[Any]:
    """Let processes be numbers, which end in the order given; return what is sent to them."""
    pids = iter(range(1, 100))
    sent: list[Any] = []
    monkeypatch.setattr(os, "fork", lambda: next(pids))
    monkeypatch.setattr(os, "wait", lambda: ends.pop(0))
    monkeypatch.setattr(os, "kill", lambda pid, signum: sent.append((pid, signum)))
    return sent


def test_parent_minds_its_workers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Strangers' ends are nothing to it; a killed worker is replaced; a hopeless one ends all."""
    sent = in_parent(monkeypatch, [(77, 0), (1, 9), (3, 2 << 8), (2, 0)])
    ages = iter([0.0, 0.0, 10.0, 10.0, 10.5, 99.0])
    monkeypatch.setattr("migrator.serve.workers.time.monotonic", lambda: next(ages))
    urls: list[str] = []
    with pytest.raises(MigratorError, match="ended with 2 as soon as it had begun"):
        serve_workers(
            lambda _: None,
            workers=2,
            host="127.0.0.1",
            port=0,
            secure=True,
            on_ready=urls.append,
        )
    assert urls[0].startswith("https://127.0.0.1:")
    assert "was ended by signal 9; another one takes its place" in caplog.text
    assert sent == [(2, signal.SIGTERM)]


def test_no_worker_is_begun_once_the_stop_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal while the workers are started stops those there are, and starts no more."""
    sent = in_parent(monkeypatch, [(1, 0)])
    pids = iter(range(1, 9))

    def fork() -> int:
        handler = signal.getsignal(signal.SIGTERM)
        assert callable(handler)
        handler(signal.SIGTERM, None)
        return next(pids)

    monkeypatch.setattr(os, "fork", fork)
    serve_workers(lambda _: None, workers=3, host="127.0.0.1", port=0)
    assert sent == []


def test_serve_with_workers_answers_from_each(tmp_path: Path) -> None:
    """`serve --workers 2`: revoking ends a token for all, downloads of all are in one audit log."""
    from migrator.archive import open_archive

    with open_archive(tmp_path / "archive", command="test") as archive:
        _, token = archive.access.create_token(
            "t", abilities=["tickets:read"], queues=None, is_staff=True, expires_at=None
        )
        config = tmp_path / "config.toml"
        config.write_text(f'[archive]\npath = "{tmp_path / "archive"}"\n')
        command = [sys.executable, "-m", "migrator", "-c", str(config), "serve", "--port", "0"]
        log = tmp_path / "audit.jsonl"
        process = subprocess.Popen(
            [*command, "--workers", "2", "--audit-log", str(log)], stderr=subprocess.PIPE, text=True
        )
        with process:
            assert process.stderr is not None
            found = re.search(r"http://\S+", process.stderr.readline())
            assert found
            url, bearer = (
                f"{found[0]}/api/v1/tickets/attachment",
                {"Authorization": f"Bearer {token}"},
            )
            said = [httpx.post(url, headers=bearer, json={}).status_code for _ in range(12)]
            assert archive.access.revoke(1)
            said += [httpx.post(url, headers=bearer, json={}).status_code for _ in range(12)]
            process.terminate()
            assert process.wait(20) == 0
    assert said == [422] * 12 + [401] * 12
    assert len([json.loads(line) for line in log.read_text().splitlines()]) == 24
