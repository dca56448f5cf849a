"""Strangers get a share: floods are bounded, idle clients give way, and the others notice nothing.

All without a token, on real sockets. Clients of other addresses come from 127.0.0.2 and so on.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import resource
import shutil
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from migrator.serve.bounds import PRESSING, TAKEN, TAKEN_IN_ALL, Limits
from migrator.serve.guard import Turns
from migrator.serve.refusals import ErrorBorder, Refusal
from migrator.serve.server import BackgroundServer, ServerOptions, server_context
from migrator.serve.tickiti.app import read_object

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs 127.0.0.2 and /proc")

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

FLOODS = {
    "trailers": (CHUNKED + b"0\r\n", b"X-Trailer: yyyyyyyy\r\n"),
    "short trailers": (CHUNKED + b"2\r\n{}\r\n0\r\n", b"a:b\r\n"),
    "one trailer": (CHUNKED + b"0\r\nX: ", b"y"),
    "name of a trailer": (CHUNKED + b"0\r\n", b"y"),
    "one extension": (CHUNKED + b"1;", b"x"),
    "extensions": (CHUNKED, b"1;" + b"e" * 4096 + b"\r\nx\r\n"),
    "quoted extensions": (CHUNKED, b'1;a="' + b"e" * 900 + b'"\r\nx\r\n'),
    "size of a chunk": (CHUNKED, b"0"),
    "empty lines": (b"", b"\r\n"),
    "empty lines between requests": (GET.replace(b"GET", b"HEAD"), b"\r\n"),
    "headers": (b"GET / HTTP/1.1\r\n", b"X: y\r\n"),
    "one header": (b"GET / HTTP/1.1\r\nX: ", b"y"),
    "name of a header": (b"GET / HTTP/1.1\r\n", b"y"),
    "folded header": (b"GET / HTTP/1.1\r\nX: y\r\n", b" y\r\n"),
    "target": (b"GET /", b"y"),
    "method": (b"", b"Y"),
}


async def reader(scope: Scope, receive: Receive, send: Send) -> None:
    """Want a whole body."""
    raise Refusal(418, "read", str(await read_object(scope, receive)))


async def teapot(scope: Scope, receive: Receive, send: Send) -> None:
    """Want none."""
    raise Refusal(418, "teapot", "")


def connection(url: str, source: str = "127.0.0.1") -> socket.socket:
    """Connect from an address of this machine."""
    address = httpx.URL(url)
    return socket.create_connection(
        (address.host, address.port or 80), timeout=20, source_address=(source, 0)
    )


def everything(client: socket.socket) -> bytes:
    """Return all that comes until the server hangs up, in whichever way."""
    said = b""
    with contextlib.suppress(ConnectionError):
        while piece := client.recv(65536):
            said += piece
    return said


def times(drop: bytes, size: int) -> bytes:
    """Repeat up to a size."""
    return drop * (size // len(drop))


@pytest.mark.parametrize(("first", "drop"), FLOODS.values(), ids=FLOODS)
@pytest.mark.parametrize("app", [reader, teapot], ids=["read", "unread"])
def test_flood_of_what_is_no_content_ends(app: ASGIApp, first: bytes, drop: bytes) -> None:
    """What is neither head nor body has a bound, whether the application reads it or not."""
    patient = ServerOptions(limits=Limits(request=300, idle=300))
    with (
        BackgroundServer(ErrorBorder(app), options=patient) as server,
        connection(server.url) as client,
    ):
        with contextlib.suppress(ConnectionError):
            client.sendall(first + times(drop, 200_000))
        said = everything(client)
        assert b" 500 " not in said
        assert said.count(b"HTTP/1.1 ") <= 2
        assert httpx.get(server.url, headers={"Content-Type": "application/json"}).is_client_error


SERVER = """
    from migrator.serve.server import serve
    from migrator.serve.refusals import ErrorBorder
    from tests.serve.test_strangers import reader
    serve(
        ErrorBorder(reader), host="127.0.0.1", port=0, on_ready=lambda url: print(url, flush=True)
    )
"""
UNREAD = {
    "pipelined requests": (b"", GET),
    "pipelined bodies": (b"", HEAD + b"Content-Length: 3000\r\n\r\n" + b" " * 3000),
    "pipelined offers": (b"", GET[:-2] + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n"),
    "body": (HEAD + b"Content-Length: 99999999999\r\n\r\n", b" "),
    "chunks": (CHUNKED, b"1\r\n \r\n"),
}


@contextlib.contextmanager
def serving(*before: str) -> Iterator[tuple[int, str]]:
    """Run a server in a process of its own; give its id and URL."""
    command = [*before, sys.executable, "-c", textwrap.dedent(SERVER)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        yield started.pid, started.stdout.readline().strip()
        started.kill()


@pytest.fixture(scope="module")
def process() -> Iterator[tuple[int, str]]:
    """Run a server in a process of its own."""
    with serving() as started:
        yield started


def peak(pid: int) -> int:
    """Return the largest resident size so far, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


@pytest.mark.slow
@pytest.mark.parametrize(("first", "drop"), (FLOODS | UNREAD).values(), ids=FLOODS | UNREAD)
def test_flood_leaves_memory_flat(process: tuple[int, str], first: bytes, drop: bytes) -> None:
    """Eight megabytes of anything, whose sender reads nothing, cost less than four of memory."""
    pid, url = process
    assert httpx.get(url).status_code == 422
    before = peak(pid)
    with connection(url) as client:
        client.settimeout(1)
        with contextlib.suppress(OSError):  # it hangs up, or reads no further
            client.sendall(first + times(drop, 8_000_000))
        assert httpx.get(url).status_code == 422
    assert peak(pid) - before < 4_000_000


class Held:
    """An application whose answers begin at once and end when they may."""

    def __init__(self) -> None:
        self.release = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/quick":
            await Refusal(418, "quick", "")(scope, receive, send)
            return
        length = (b"content-length", b"8")
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        while not self.release.is_set():  # noqa: ASYNC110 - it is set by another thread
            await asyncio.sleep(0.01)
        await send({"type": "http.response.body", "body": b"full"})


class Crowd:
    """Clients of a server that are closed at the end of a test."""

    def __init__(self, url: str, stack: contextlib.ExitStack) -> None:
        self.url = url
        self._stack = stack

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        """Connect and say nothing."""
        return self._stack.enter_context(connection(self.url, source))

    def busy(self, source: str = "127.0.0.1") -> socket.socket:
        """Ask for an answer that goes on."""
        client = self.connect(source)
        client.sendall(GET)
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        return client

    def idle(self, source: str = "127.0.0.1") -> socket.socket:
        """Have an answer, and keep the connection."""
        client = self.connect(source)
        assert asks(client) == b"418"
        return client


def asks(client: socket.socket) -> bytes:
    """Ask on a connection; return the status, or nothing when the server hung up."""
    with contextlib.suppress(ConnectionError):
        client.sendall(GET.replace(b"/", b"/quick", 1))
        return client.recv(65536)[9:12]
    return b""


@contextlib.contextmanager
def crowded(connections: int, proxies: str = "") -> Iterator[tuple[Crowd, Held]]:
    """Serve so many clients; give the crowd and what they wait for."""
    app = Held()
    options = ServerOptions(
        limits=Limits(connections=connections, request=60, idle=60, grace=0.1),
        trusted_proxies=proxies,
    )
    with (
        BackgroundServer(app, options=options) as server,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(app.release.set)
        yield Crowd(server.url, stack), app


def test_too_many_busy_clients_are_told_so() -> None:
    """Beyond the share a client hears 503, far beyond it nothing; room is room again."""
    with crowded(4) as (crowd, app):
        held = [crowd.busy() for _ in range(2)]
        waiting = [crowd.connect() for _ in range(4)]
        assert everything(crowd.connect()) == b""
        for client in waiting:
            client.sendall(GET)
            said = everything(client)
            assert said.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 5\r\n" in said
            assert b"connection: close\r\n" in said
            assert b'"error":"too_busy"' in said
        app.release.set()
        for client in held:
            assert client.recv(100) == b"full"
        assert asks(crowd.connect()) == b"418"


def test_one_address_cannot_take_all_places() -> None:
    """Half of the places is for others, of the same network in IPv4, too."""
    with crowded(8) as (crowd, _):
        for _ in range(4):
            crowd.busy("127.0.0.2")
        assert asks(crowd.connect("127.0.0.2")) == b"503"
        for source in ("127.0.0.1", "127.0.0.3"):
            assert asks(crowd.connect(source)) == b"418"


def test_who_has_a_share_and_presses_on_is_closed_unanswered() -> None:
    """Connections beyond the share are answered a few times a second, which spares the others."""
    with crowded(160) as (crowd, _):
        for _ in range(80):
            crowd.busy("127.0.0.2")
        pressing = [crowd.connect("127.0.0.2") for _ in range(7 * PRESSING)]
        answers = [asks(each) for each in pressing]
        assert set(answers) == {b"503", b""}
        assert answers.count(b"503") <= 4 * PRESSING  # the second may change in between
        assert asks(crowd.connect()) == b"418"


def test_server_without_files_accepts_again_when_it_has_some() -> None:
    """A process that may open no more files waits, and goes on once clients have left."""
    with serving("sh", "-c", 'ulimit -n 40; exec "$@"', "sh") as (_, url):
        held: list[socket.socket] = []
        with contextlib.suppress(OSError):
            held += (connection(url) for _ in range(200))
        for each in held:
            each.close()
        assert httpx.get(url, timeout=30).status_code == 422


def test_trusted_proxy_stands_for_many_clients() -> None:
    """A proxy that is named may take all places; its neighbour may not."""
    with crowded(6, proxies="127.0.0.2") as (crowd, _):
        for _ in range(5):
            crowd.busy("127.0.0.2")
        assert asks(crowd.connect("127.0.0.2")) == b"418"
    with crowded(6, proxies="127.0.0.2") as (crowd, _):
        for _ in range(3):
            crowd.busy("127.0.0.3")
        assert asks(crowd.connect("127.0.0.3")) == b"503"


def test_silent_clients_give_way_first_and_busy_ones_never() -> None:
    """A newcomer replaces who has asked nothing, then who has its answers, the oldest first."""
    with crowded(8) as (crowd, app):
        busy, first, second = crowd.busy(), crowd.idle(), crowd.idle()
        silent = crowd.connect()
        third = crowd.idle()
        assert everything(silent) == b""
        assert asks(first) == b"418"  # so that the second has waited longest
        fourth = crowd.idle()
        assert asks(second) == b""
        fifth, sixth = crowd.idle(), crowd.idle()
        assert [asks(third), asks(first)] == [b"", b""]
        assert [asks(each) for each in (fourth, fifth, sixth)] == [b"418"] * 3
        app.release.set()
        assert busy.recv(100) == b"full"


def test_half_a_request_is_no_reason_to_stay() -> None:
    """Who has begun to ask gives way, too, and is told why."""
    with crowded(2) as (crowd, _):
        client = crowd.connect()
        client.sendall(HEAD + b"Content-Length: 9\r\n")
        assert asks(crowd.connect("127.0.0.2")) == b"418"
        newcomer = crowd.connect()
        assert everything(client).startswith(b"HTTP/1.1 503 ")
        assert asks(newcomer) == b"418"


def test_crowd_of_one_address_gives_way_to_others() -> None:
    """When all places are taken, the address with the most connections loses one."""
    with crowded(6) as (crowd, _):
        few = [crowd.connect("127.0.0.2"), crowd.connect("127.0.0.3"), crowd.connect("127.0.0.3")]
        many = [crowd.connect("127.0.0.4") for _ in range(3)]
        assert asks(crowd.connect("127.0.0.5")) == b"418"
        assert everything(many[0]) == b""
        assert [asks(client) for client in few] == [b"418"] * 3


STRANGERS = 2000
"""As one host held that was seen to lock all others out."""

HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a self-signed certificate with its key, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    more = ["-nodes", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(file), "-out", str(file.with_suffix(".crt"))]
    subprocess.run([*command, *more, *files], check=True, capture_output=True)
    file.write_bytes(file.with_suffix(".crt").read_bytes() + file.read_bytes())
    return file


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process have as many sockets as the test needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * STRANGERS:
        pytest.skip("too few files may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * STRANGERS), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("said", [b"", HELLO], ids=["silent", "begun"])
def test_handshakes_take_places(certificate: Path, said: bytes) -> None:
    """Who does not get as far as a request counts from the accept, and gives way like others."""
    limits = Limits(connections=6, request=60)
    options = ServerOptions(tls=server_context(certificate), limits=limits)
    trust = ssl.create_default_context(cafile=certificate)
    with (
        BackgroundServer(ErrorBorder(teapot), options=options) as server,
        contextlib.ExitStack() as stack,
    ):
        shaking = [
            stack.enter_context(connection(server.url, source))
            for source in ("127.0.0.2", "127.0.0.2", "127.0.0.2", "127.0.0.1", "127.0.0.1")
        ]
        for client in shaking:
            client.sendall(said)
        stack.enter_context(connection(server.url, "127.0.0.2"))
        assert everything(shaking[0]) == b""
        for _ in range(4):
            assert httpx.get(server.url, verify=trust).status_code == 418
        for client in shaking[1:3]:
            client.settimeout(0.1)
            with pytest.raises(TimeoutError):
                client.recv(1)


class Ordinary:
    """Clients that ask again and again, on new connections and kept ones, until the end."""

    def __init__(self, url: str, trust: ssl.SSLContext | None) -> None:
        self.failed: list[str] = []
        self._url = url
        self._verify = trust or True
        self._asked = [0] * 16
        self._done = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=[number]) for number in range(len(self._asked))
        ]

    def __enter__(self) -> Ordinary:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, more: int) -> None:
        """Wait until so many more requests are answered, or one has failed."""
        until = sum(self._asked) + more
        while sum(self._asked) < until and not self.failed:
            self._done.wait(0.05)

    def _run(self, number: int) -> None:
        try:
            while not self._done.is_set():
                with httpx.Client(verify=self._verify, timeout=20) as client:
                    for _ in range(1 + number % 3):
                        assert client.get(self._url).status_code == 418
                        self._asked[number] += 1
        except (httpx.HTTPError, AssertionError) as error:
            self.failed.append(repr(error))


@pytest.mark.slow
@pytest.mark.usefixtures("many_files")
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_stranger_with_thousands_of_connections_disturbs_nobody(
    secure: bool, request: pytest.FixtureRequest
) -> None:
    """2,000 connections, silent or amid a handshake or a request, and no ordinary one fails."""
    trust, options, begun = None, ServerOptions(), HEAD
    if secure:
        file = request.getfixturevalue("certificate")
        trust = ssl.create_default_context(cafile=file)
        options, begun = ServerOptions(tls=server_context(file)), HELLO
    with (
        BackgroundServer(ErrorBorder(teapot), options=options) as server,
        Ordinary(server.url, trust) as others,
        contextlib.ExitStack() as stack,
    ):
        for number in range(STRANGERS):
            stranger = stack.enter_context(connection(server.url, "127.0.0.2"))
            if number % 2:
                with contextlib.suppress(ConnectionError):
                    stranger.sendall(begun)
        others.wait_for(160)
    assert others.failed == []


class Sender:
    """A connection that has always more to handle."""

    def __init__(self, turns: Turns, origin: str, log: list[str], pieces: int) -> None:
        self.origin = origin
        self._turns, self._log, self._left = turns, log, pieces

    def go_on(self) -> None:
        """Handle pieces as long as that is allowed."""
        while self._left and self._turns.take(self):  # type: ignore[arg-type]
            self._left -= 1
            self._log.append(self.origin)


def test_flood_of_one_address_leaves_turns_to_others() -> None:
    """However many connections have something to handle: a newcomer's turn comes after few."""
    log: list[str] = []

    async def flood() -> None:
        turns = Turns()
        crowd = [Sender(turns, f"crowd {n % 5}", log, 100) for n in range(250)]
        for each in crowd:
            each.go_on()
        for _ in range(5):
            await asyncio.sleep(0)
        before = len(log)
        assert before < 250
        Sender(turns, "newcomer", log, 1).go_on()
        for _ in range(4):
            await asyncio.sleep(0)
        assert "newcomer" in log[before : before + 4 * TAKEN_IN_ALL]
        for _ in range(25_000 // TAKEN + 2):
            await asyncio.sleep(0)

    asyncio.run(flood())
    assert log.count("newcomer") == 1
    assert len(log) == 25_001
