"""Clients that do not move are cut, moving ones are not; the stop waits for nobody for ever.

All on real sockets, with bounds of a fraction of a second.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from migrator.errors import ConfigError
from migrator.serve.bounds import Limits
from migrator.serve.refusals import ErrorBorder, Refusal
from migrator.serve.server import (
    BackgroundServer,
    ServerOptions,
    serve,
    server_context,
    trusted_proxies,
)
from migrator.serve.tickiti.app import read_object

BLOCK = bytes(256 * 1024)
SIZE = 64 * len(BLOCK)


def quick(**limits: float) -> ServerOptions:
    facts: dict[str, Any] = {"request": 0.5, "stall": 0.5, "grace": 20} | limits
    return ServerOptions(limits=Limits(**facts))


async def teapot(scope: Scope, receive: Receive, send: Send) -> None:
    """Tell what the application sees of a request."""
    client = scope["client"][0]
    raise Refusal(
        418, "teapot", f"{scope['path']} {scope['raw_path']!r} {scope['scheme']} {client}"
    )


async def reader(scope: Scope, receive: Receive, send: Send) -> None:
    """Want a whole body."""
    raise Refusal(418, "teapot", str(await read_object(scope, receive)))


class Watched:
    """An application that tells when an answer of another one has ended, in whichever way."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.ended = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        finally:
            self.ended.set()


async def large(scope: Scope, receive: Receive, send: Send) -> None:
    """Send 16 MB, block by block."""
    length = (b"content-length", b"%d" % SIZE)
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    for _ in range(SIZE // len(BLOCK)):
        await send({"type": "http.response.body", "body": BLOCK, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def connection(url: str, *, window: int | None = None) -> socket.socket:
    """Connect; a small receive window keeps the kernel from taking an answer by itself."""
    address = httpx.URL(url)
    client = socket.socket()
    if window is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    client.settimeout(20)
    try:
        client.connect((address.host, address.port or 80))
    except OSError:
        client.close()
        raise
    return client


def everything(client: socket.socket) -> bytes:
    """Return all that comes until the server hangs up."""
    return b"".join(iter(lambda: client.recv(65536), b""))


def eventually(true: Callable[[], bool]) -> bool:
    """Wait for a condition, generously."""
    until = time.monotonic() + 20
    while not true() and time.monotonic() < until:
        time.sleep(0.02)
    return true()


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "begun", [b"", b"GET / HTT", POST + b"Content-Length: 9\r\n\r\n{"], ids=["none", "head", "body"]
)
def test_request_that_never_comes_is_answered_with_408(begun: bytes) -> None:
    """Silence before, amid the head and amid the body ends with an envelope and a hang-up."""
    with (
        BackgroundServer(ErrorBorder(reader), options=quick()) as server,
        connection(server.url) as client,
    ):
        client.sendall(begun)
        answer = everything(client)
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b'"error":"request_timeout"' in answer


def trickle(client: socket.socket, first: bytes, drop: bytes) -> bytes:
    """Send drop by drop until the server hangs up; return what it said."""
    client.sendall(first)
    client.settimeout(0.1)
    for _ in range(200):
        try:
            client.sendall(drop)
            return everything(client)
        except TimeoutError:
            continue
        except OSError:
            return b"(reset)"
    return b"(never)"


@pytest.mark.parametrize(
    ("first", "drop"),
    [(b"GET / HTTP/1.1\r\nX: ", b"x"), (POST + b"Content-Length: 60000\r\n\r\n", b" ")],
    ids=["head", "body"],
)
def test_trickle_does_not_count_as_moving(first: bytes, drop: bytes) -> None:
    """A client that sends a byte now and then gets no more time than a silent one."""
    with (
        BackgroundServer(ErrorBorder(reader), options=quick()) as server,
        connection(server.url) as client,
    ):
        answer = trickle(client, first, drop)
    assert b" 408 " in answer or answer == b"(reset)"


def test_body_after_its_answer_is_cut_as_well() -> None:
    """Who is refused early cannot go on sending for ever, and gets no second answer."""
    with (
        BackgroundServer(ErrorBorder(teapot), options=quick()) as server,
        connection(server.url) as client,
    ):
        client.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        said = b""
        for _ in range(200):
            try:
                client.sendall(b"1\r\nx\r\n")
                client.settimeout(0.1)
                piece = client.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                piece = b""
            said += piece
            if not piece:
                break
        else:
            pytest.fail("the server never hung up")
    assert said.count(b"HTTP/1.1") == 1
    assert said.startswith(b"HTTP/1.1 418")


@pytest.mark.slow
def test_kept_connection_may_ask_again_after_the_time_for_one_request() -> None:
    """The time for a request begins with its first byte, not with the connection."""
    with (
        BackgroundServer(ErrorBorder(reader), options=quick(request=1)) as server,
        connection(server.url) as client,
    ):
        for _ in range(3):
            client.sendall(POST + b"Content-Length: 4\r\n\r\n{")
            time.sleep(0.8)
            client.sendall(b"} \n")
            said = b""
            while not said.endswith(b'"{}"}'):
                piece = client.recv(65536)
                assert piece, said
                said += piece
            assert said.startswith(b"HTTP/1.1 418")


def test_client_that_takes_nothing_is_cut() -> None:
    """An answer that nobody reads does not keep its connection."""
    app = Watched(large)
    with (
        BackgroundServer(app, options=quick()) as server,
        connection(server.url, window=4096) as client,
    ):
        client.sendall(GET)
        assert app.ended.wait(20)
        with pytest.raises(OSError, match="reset"):
            raise_unless_whole(client)


def raise_unless_whole(client: socket.socket) -> None:
    if len(everything(client)) < SIZE:
        raise OSError("reset: the answer ends early")


@pytest.mark.slow
def test_slow_but_moving_download_is_not_cut() -> None:
    """A client may take many times the bound as long as it takes something."""
    with (
        BackgroundServer(large, options=quick(stall=1.5)) as server,
        connection(server.url, window=256 * 1024) as client,
    ):
        client.sendall(GET)
        got, begun = 0, time.monotonic()
        while got < SIZE:
            piece = client.recv(400_000)
            assert piece, "cut"
            got += len(piece)
            if time.monotonic() - begun < 4:
                time.sleep(0.1)
        assert time.monotonic() - begun > 2


def stopped_by(act: Callable[[str], None], options: ServerOptions) -> float:
    """Serve, let ``act`` loose in a thread, and return the seconds from its end to the stop."""
    ended: list[float] = []

    def run(url: str) -> None:
        act(url)
        ended.append(time.monotonic())

    def on_ready(url: str) -> None:
        threading.Thread(target=run, args=[url]).start()

    serve(large, host="127.0.0.1", port=0, options=options, on_ready=on_ready)
    done = time.monotonic()
    assert eventually(lambda: bool(ended))
    return done - ended[0]


def test_download_under_way_ends_whole_before_the_stop() -> None:
    """A graceful stop lets an answer end, and takes nobody else."""
    got: list[int] = []

    def act(url: str) -> None:
        with connection(url, window=65536) as client:
            client.sendall(GET)
            assert client.recv(1)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)
            with pytest.raises(OSError, match=r"refused|reset"):
                connection(url).close()
            got.append(len(everything(client)))

    stopped_by(act, quick(stall=20))
    assert got[0] > SIZE


def test_download_that_does_not_end_is_cut_with_the_grace() -> None:
    """The stop has a bound, whatever a client does."""
    clients: list[socket.socket] = []

    def act(url: str) -> None:
        clients.append(connection(url, window=4096))
        clients[0].sendall(GET)
        assert clients[0].recv(1)
        os.kill(os.getpid(), signal.SIGTERM)

    assert stopped_by(act, quick(grace=0.5, stall=60)) < 10
    clients[0].close()


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_ends_at_once(second: signal.Signals) -> None:
    """Who asks twice, in whichever way, does not wait for the grace."""
    clients: list[socket.socket] = []

    def act(url: str) -> None:
        clients.append(connection(url, window=4096))
        clients[0].sendall(GET)
        assert clients[0].recv(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)
        os.kill(os.getpid(), second)

    assert stopped_by(act, quick(grace=60, stall=60)) < 20
    clients[0].close()


def test_connection_made_while_stopping_does_not_delay_the_stop() -> None:
    """A client accepted in the very moment of the signal is hung up on."""
    clients: list[socket.socket] = []

    def act(url: str) -> None:
        first = connection(url, window=4096)
        first.sendall(GET)
        assert first.recv(1)
        clients.append(connection(url))
        first.close()
        os.kill(os.getpid(), signal.SIGTERM)
        clients.append(connection(url))

    assert stopped_by(act, quick(grace=60, request=60)) < 20
    for client in clients:
        client.close()


def test_stop_waits_for_nobody_without_an_answer() -> None:
    """Clients that are idle, silent, refused or amid a head are hung up on at once."""
    options = quick(request=300, grace=300)
    with (
        contextlib.ExitStack() as stack,
        BackgroundServer(ErrorBorder(reader), options=options) as server,
    ):
        clients = [stack.enter_context(connection(server.url)) for _ in range(5)]
        said = [b"", b"no request\r\n\r\n", POST, GET, POST + b"Content-Length: 999999\r\n\r\n{"]
        for client, words in zip(clients, said, strict=True):
            client.sendall(words)
        for number, status in ((1, b" 400 "), (3, b" 422 "), (4, b" 413 ")):
            assert status in clients[number].recv(65536)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("http://help.example/api/v1/x?y=1", "/api/v1/x"),
        ("HTTPS://help.example:8480/a%2Fb", "/a/b"),
        ("http://help.example", "/"),
        ("/plain", "/plain"),
    ],
)
def test_absolute_targets_are_requests_for_their_path(target: str, path: str) -> None:
    """A target with scheme and host means the path after them."""
    with (
        BackgroundServer(ErrorBorder(teapot)) as server,
        connection(server.url) as client,
    ):
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = everything(client)
    assert f'"message":"{path} '.encode() in answer
    assert b"b'/" in answer


def forwarded(options: ServerOptions) -> str:
    headers = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
    with BackgroundServer(ErrorBorder(teapot), options=options) as server:
        return str(httpx.get(server.url, headers=headers).json()["message"])


def test_forwarded_headers_are_believed_from_trusted_proxies_only() -> None:
    """By default nobody can lie about the client's address; a proxy that is named is believed."""
    assert forwarded(ServerOptions()).endswith("http 127.0.0.1")
    assert forwarded(ServerOptions(trusted_proxies="10.0.0.1")).endswith("http 127.0.0.1")
    for trusted in ("127.0.0.0/8", "10.0.0.1, 127.0.0.1", "*"):
        options = ServerOptions(trusted_proxies=trusted_proxies(trusted))
        assert forwarded(options).endswith("https 203.0.113.9")


@pytest.mark.parametrize(
    ("told", "client"),
    [
        (["203.0.113.9, 10.0.0.8"], "203.0.113.9"),
        (["192.0.2.1, 203.0.113.9, 10.0.0.8"], "203.0.113.9"),
        (["192.0.2.1", "203.0.113.9"], "203.0.113.9"),
        (["203.0.113.9:4711"], "203.0.113.9"),
        (["[2001:db8::7]:4711"], "2001:db8::7"),
        (["2001:db8::7"], "2001:db8::7"),
        (["10.0.0.8, 10.0.0.9"], "10.0.0.8"),
        (["unknown"], "unknown"),
        ([","], "127.0.0.1"),
        ([], "127.0.0.1"),
    ],
)
def test_client_is_the_last_one_that_is_no_proxy(told: list[str], client: str) -> None:
    """What a client writes before its own address does not count, in one header or several."""
    options = ServerOptions(trusted_proxies="127.0.0.1, 10.0.0.0/8")
    headers = [("X-Forwarded-For", one) for one in told] + [("X-Forwarded-Proto", "gopher")]
    with BackgroundServer(ErrorBorder(teapot), options=options) as server:
        answer = httpx.get(server.url, headers=headers)
    assert answer.json()["message"].endswith(f" http {client}")


def test_address_in_a_trailer_is_nobodys() -> None:
    """A trailer never beats the header of the proxy, nor stands for a missing one."""
    options = ServerOptions(trusted_proxies="127.0.0.1")
    head = POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n"
    trailer = b"\r\n0\r\nX-Forwarded-For: 192.0.2.66\r\n\r\n"
    with BackgroundServer(ErrorBorder(teapot), options=options) as server:
        for proxy, client in (
            (b"", b"127.0.0.1"),
            (b"X-Forwarded-For: 203.0.113.9\r\n", b"203.0.113.9"),
        ):
            with connection(server.url) as sock:
                sock.sendall(head + proxy + trailer)
                assert b" http " + client + b'"' in everything(sock)


@pytest.mark.parametrize("text", ["proxy.example", "10.0.0.1,x", "10.0.0.1/8", "*,10.0.0.1"])
def test_proxies_are_addresses(text: str) -> None:
    """What is no address and no network would never match; that is told."""
    with pytest.raises(ConfigError, match="not the address or network of a proxy"):
        trusted_proxies(text)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with two self-signed certificates and a key with a password."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    for name in ("one", "two"):
        openssl = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ]
        more = ["-nodes", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
        files = ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")]
        subprocess.run([*openssl, *more, *files], check=True, capture_output=True)
    locked = ["openssl", "pkey", "-aes256", "-passout", "pass:x", "-in", str(folder / "one.key")]
    subprocess.run([*locked, "-out", str(folder / "locked.key")], check=True, capture_output=True)
    both = (folder / "one.pem").read_bytes() + (folder / "one.key").read_bytes()
    (folder / "both.pem").write_bytes(both)
    return folder


@pytest.mark.parametrize("files", [("one.pem", "one.key"), ("both.pem", None)])
def test_tls_is_served(certificates: Path, files: tuple[str, str | None]) -> None:
    """The URL says https, the certificate is ours, and the application knows of it."""
    key = certificates / files[1] if files[1] else None
    options = ServerOptions(tls=server_context(certificates / files[0], key))
    trust = ssl.create_default_context(cafile=certificates / "one.pem")
    with BackgroundServer(ErrorBorder(teapot), options=options) as server:
        assert server.url.startswith("https://")
        answer = httpx.get(server.url, verify=trust)
    assert " https " in answer.json()["message"]


@pytest.mark.slow
def test_download_over_tls_that_nobody_takes_is_cut(certificates: Path) -> None:
    """The bounds hold under TLS, where the bytes wait in other buffers."""
    context = server_context(certificates / "one.pem", certificates / "one.key")
    options = ServerOptions(tls=context, limits=quick().limits)
    trust = ssl.create_default_context(cafile=certificates / "one.pem")
    app = Watched(large)
    with (
        BackgroundServer(app, options=options) as server,
        connection(server.url, window=4096) as plain,
        trust.wrap_socket(plain, server_hostname="127.0.0.1") as client,
    ):
        client.sendall(GET)
        assert app.ended.wait(20)


def test_client_that_never_greets_is_cut_under_tls(certificates: Path) -> None:
    """A connection without a handshake ends as one without a request does."""
    context = server_context(certificates / "one.pem", certificates / "one.key")
    options = ServerOptions(tls=context, limits=quick().limits)
    with BackgroundServer(large, options=options) as server, connection(server.url) as client:
        assert everything(client) == b""


@pytest.mark.slow
def test_handshake_and_request_share_the_time_from_the_accept(certificates: Path) -> None:
    """Who takes most of its time for the handshake has the rest for its request, and no more."""
    context = server_context(certificates / "one.pem", certificates / "one.key")
    options = ServerOptions(tls=context, limits=quick(request=2).limits)
    trust = ssl.create_default_context(cafile=certificates / "one.pem")
    with (
        BackgroundServer(ErrorBorder(teapot), options=options) as server,
        connection(server.url) as plain,
    ):
        time.sleep(1.5)
        with trust.wrap_socket(plain, server_hostname="127.0.0.1") as client:
            begun = time.monotonic()
            assert b" 408 " in everything(client)
            assert time.monotonic() - begun < 1.9


@pytest.mark.parametrize(
    ("certificate", "key", "words"),
    [
        ("one.pem", "two.key", "does not belong to it"),
        ("absent.pem", None, "Cannot read .*absent.pem.*No such file"),
        ("one.pem", "absent.key", "Cannot read .*absent.key"),
        ("one.pem", "one.pem", "must be PEM files"),
        ("one.key", "one.key", "must be PEM files"),
        ("one.pem", None, "must be PEM files"),
        ("one.pem", "locked.key", "has a password"),
    ],
)
def test_unusable_certificates_are_told(
    certificates: Path, certificate: str, key: str | None, words: str
) -> None:
    """Each way in which the files can be wrong has its text, and none asks on the terminal."""
    with pytest.raises(ConfigError, match=words):
        server_context(certificates / certificate, certificates / key if key else None)
