"""Listening, stopping, and what is answered to bytes that are no request."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from ipaddress import ip_address
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from migrator.errors import ConfigError, MigratorError
from migrator.serve.refusals import ErrorBorder, Refusal
from migrator.serve.server import BackgroundServer, listen, serve, url_of, urls_of
from migrator.serve.tickiti.app import read_object


async def teapot(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer every request alike."""
    raise Refusal(418, "teapot", "Short and stout.")


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    """Have a bug, before an answer or after its beginning."""
    if scope["path"] == "/late":
        await send({"type": "http.response.start", "status": 200, "headers": []})
    raise ZeroDivisionError("a secret\nof ours")


def connection(url: str) -> socket.socket:
    """Connect to a server without speaking HTTP."""
    address = httpx.URL(url)
    return socket.create_connection((address.host, address.port or 80), timeout=10)


def everything(client: socket.socket) -> bytes:
    """Return all that comes until the server hangs up."""
    return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_serve_answers_until_it_is_told_to_stop(stop: signal.Signals) -> None:
    """It says when it is ready, answers, ends on either signal and gives the handlers back."""
    seen: list[int] = []
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]

    def visit(url: str) -> None:
        seen.append(httpx.get(url).status_code)
        os.kill(os.getpid(), stop)

    def on_ready(url: str) -> None:
        threading.Thread(target=visit, args=[url]).start()

    serve(ErrorBorder(teapot), host="127.0.0.1", port=0, on_ready=on_ready)
    assert seen == [418]
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_background_server_ends_with_its_block() -> None:
    """Inside the block the URL answers, after it nobody listens."""
    with BackgroundServer(ErrorBorder(teapot)) as server:
        url = server.url
        assert httpx.post(url).json()["error"] == "teapot"
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_ipv6_addresses_make_a_valid_url() -> None:
    """An address with colons stands in brackets."""
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        with BackgroundServer(ErrorBorder(teapot), host="::1") as server:
            assert server.url.startswith("http://[::1]:")
            assert httpx.get(server.url).status_code == 418
    except ConfigError:
        pytest.skip("no IPv6 here")


def test_port_in_use_is_told_with_advice() -> None:
    """A taken port is the user's to change: exit 2 and a text that says where."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for start in (
            lambda: serve(ErrorBorder(teapot), host="127.0.0.1", port=port),
            lambda: BackgroundServer(ErrorBorder(teapot), port=port).__enter__(),
        ):
            with pytest.raises(ConfigError, match=f"port {port}: .*in use.*--port") as caught:
                start()
            assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("host", "port"), [("no.such.host.invalid", 0), ("127.0.0.1", 70_000), ("x" * 80, 0)]
)
def test_impossible_addresses_are_told(host: str, port: int) -> None:
    """A name that does not resolve and a port that cannot be are mistakes of the configuration."""
    with pytest.raises(ConfigError, match="Cannot listen on"):
        serve(ErrorBorder(teapot), host=host, port=port)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "127.0.0.1"])
def test_every_address_told_can_be_opened(host: str) -> None:
    """A server on all addresses tells real ones, and this machine's first."""
    with contextlib.closing(listen(host, 0)) as listener:
        urls = urls_of(url_of(listener, "http"))
        assert urls
        assert urls[0].startswith("http://127.0.0.1:")
        for url in urls:
            parts = urlsplit(url)
            assert not ip_address(parts.hostname or "").is_unspecified
            socket.create_connection((parts.hostname, parts.port), timeout=10).close()


def test_server_that_cannot_start_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that dies while starting gives control back."""

    def failing(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("uvicorn.Server.startup", failing)
    monkeypatch.setattr("threading.excepthook", lambda _: None)
    with pytest.raises(MigratorError, match="did not start"), BackgroundServer(teapot):
        pass


NO_REQUESTS = {
    "no request": b"nonsense\r\n\r\n",
    "endless head": b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000,
    "TLS": b"\x16\x03\x01\r\n\r\n",
    "bad length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
}


@pytest.mark.parametrize("what", NO_REQUESTS)
def test_bytes_that_are_no_request_get_json(what: str) -> None:
    """Even a request that cannot be parsed is answered with an envelope."""
    with BackgroundServer(ErrorBorder(teapot)) as server, connection(server.url) as client:
        client.sendall(NO_REQUESTS[what])
        head, _, body = everything(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-type: application/json" in head
    assert b'"error":"bad_request"' in body


def test_garbage_after_an_answer_has_begun_only_hangs_up() -> None:
    """An answer on its way is never mixed with another one."""
    begun = threading.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        begun.set()
        while (await receive())["type"] != "http.disconnect":
            pass

    start = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with BackgroundServer(slow) as server, connection(server.url) as client:
        client.sendall(start)
        assert begun.wait(10)
        client.sendall(b"no chunk\r\n\r\n")
        answer = everything(client)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"400" not in answer


def test_bug_is_a_bare_500(caplog: pytest.LogCaptureFixture) -> None:
    """A client learns that the server failed, the log learns why, on one escaped line."""
    with BackgroundServer(ErrorBorder(broken)) as server:
        answer = httpx.get(server.url)
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(server.url + "/late")
    assert (answer.status_code, answer.json()["error"]) == (500, "server_error")
    assert "ZeroDivision" not in answer.text
    assert "secret" not in answer.text
    assert r"ZeroDivisionError: 'a secret\nof ours'" in caplog.text


def test_bug_amid_an_answer_adds_nothing_to_it() -> None:
    """What has begun as a success does not go on as a 500."""
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/late"}
    asyncio.run(ErrorBorder(broken)(scope, receive, send))
    assert [message.get("status") for message in sent] == [200]


def test_client_that_leaves_gets_no_answer() -> None:
    """A request that never becomes complete is not answered."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def reader(scope: Scope, receive: Receive, send: Send) -> None:
        await read_object(scope, receive)

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(ErrorBorder(reader)({"type": "http", "headers": []}, receive, send))
    assert sent == []


def test_garbage_within_a_body_gets_json() -> None:
    """A body that breaks its framing is answered while nothing else was."""

    async def patient(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            begun.set()

    begun = threading.Event()
    start = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
    with BackgroundServer(patient) as server, connection(server.url) as client:
        client.sendall(start)
        assert begun.wait(10)
        client.sendall(b"no chunk\r\n\r\n")
        assert everything(client).startswith(b"HTTP/1.1 400 ")


def test_answers_do_not_wait_for_acknowledgements() -> None:
    """Asyncio sends small writes at once only on sockets that name TCP as their protocol."""
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


HEADS = {
    "one piece": [b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n"],
    "many headers": [b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5_000 + b"\r\n"],
    "two pieces": [b"GET / HTTP/1.1\r\nX: " + b"x" * 15_000, b"x" * 5_000 + b"\r\n\r\n"],
}


@pytest.mark.parametrize("pieces", HEADS.values(), ids=HEADS)
def test_a_head_has_a_bound(pieces: list[bytes]) -> None:
    """A head of over 16 KiB is no request, in however many packets it comes."""
    with BackgroundServer(ErrorBorder(teapot)) as server, connection(server.url) as client:
        for piece in pieces:
            client.sendall(piece)
            time.sleep(0.2)
        assert everything(client).startswith(b"HTTP/1.1 400 ")


def test_a_large_body_does_not_count_as_a_head() -> None:
    """What follows a head in the same packets may be longer than heads may."""

    async def reader(scope: Scope, receive: Receive, send: Send) -> None:
        raise Refusal(418, str(len((await read_object(scope, receive))["x"])), "")  # type: ignore[arg-type]

    body = {"x": "y" * 30_000}
    with BackgroundServer(ErrorBorder(reader)) as server:
        assert httpx.post(server.url, json=body).json()["error"] == "30000"
        body["x"] += "z"
        assert httpx.post(server.url, json=body).json()["error"] == "30001"


def test_pipelined_requests_are_answered_in_order() -> None:
    """Several requests in one packet get as many answers, in their order."""
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(3))

    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        raise Refusal(418, scope["path"], "")

    with BackgroundServer(ErrorBorder(echo)) as server, connection(server.url) as client:
        client.sendall(requests + b"GET /3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        said = everything(client)
    assert [said.find(b'"error":"/%d"' % number) > 0 for number in range(4)] == [True] * 4
    assert said.index(b'"/0"') < said.index(b'"/1"') < said.index(b'"/2"') < said.index(b'"/3"')


OFFERS = {
    "HTTP/2": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n",
    "websocket": b"Connection: keep-alive, upgrade\r\nUPGRADE: websocket\r\n",
    "TLS": b"Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n",
    "several": b"Upgrade: h2c\r\nUpgrade: foo/2, bar\r\nConnection: upgrade\r\n",
}
BODIES = {
    "none": (b"\r\n", b"{}"),
    "length": (b'Content-Length: 12\r\n\r\n{"limit": 3}', b"{'limit': 3}"),
    "chunks": (
        b'Transfer-Encoding: chunked\r\n\r\nc\r\n{"limit": 3}\r\n0\r\n\r\n',
        b"{'limit': 3}",
    ),
}


async def reader(scope: Scope, receive: Receive, send: Send) -> None:
    """Tell which body was read."""
    raise Refusal(418, "read", str(await read_object(scope, receive)))


JSON = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
@pytest.mark.parametrize(("sent", "read"), BODIES.values(), ids=BODIES)
def test_offer_of_another_protocol_is_ignored(offer: bytes, sent: bytes, read: bytes) -> None:
    """RFC 9110 (7.8): the body is read, the answer is ours, and the connection goes on."""
    with BackgroundServer(ErrorBorder(reader)) as server, connection(server.url) as client:
        request = JSON + offer + sent
        client.sendall(request + request[:40])
        time.sleep(0.1)
        client.sendall(request[40:] + LAST)
        said = everything(client)
    assert said.count(b"HTTP/1.1 418 ") == 3
    assert said.count(b'"message":"' + read) >= 2


@pytest.mark.parametrize(
    "header", [b"Transfer-Encoding: gzip", b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked, y"]
)
def test_offer_makes_no_invalid_head_valid(
    header: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """What cannot be read without the offer is refused, as it is without."""
    for offer in (b"", OFFERS["websocket"]):
        with BackgroundServer(ErrorBorder(reader)) as server, connection(server.url) as client:
            client.sendall(JSON + offer + header + b"\r\n\r\n{}")
            assert everything(client).startswith(b"HTTP/1.1 400 ")
    assert capfd.readouterr().err == ""


def test_offer_of_another_protocol_in_http_1_0_is_ignored() -> None:
    """An old client may offer what it likes, too."""
    request = JSON.replace(b"1.1", b"1.0") + OFFERS["HTTP/2"] + BODIES["length"][0]
    with BackgroundServer(ErrorBorder(reader)) as server, connection(server.url) as client:
        client.sendall(request)
        assert BODIES["length"][1] in everything(client)


def test_long_head_with_an_offer_has_the_same_bound() -> None:
    """The bound of a head holds with and without an offer in it."""
    head = JSON + OFFERS["HTTP/2"]
    with BackgroundServer(ErrorBorder(reader)) as server:
        for length, status in ((15_000, b" 418 "), (20_000, b" 400 ")):
            with connection(server.url) as client:
                client.sendall(head + b"Connection: close\r\nX: " + b"x" * length + b"\r\n\r\n")
                assert status in everything(client)


@pytest.mark.parametrize(
    "request_line",
    [b"CONNECT help.example:443 HTTP/1.1", b"PRI * HTTP/2.0"],
    ids=["CONNECT", "PRI"],
)
def test_request_for_a_tunnel_is_refused(request_line: bytes) -> None:
    """What follows would be no HTTP/1.1: it is answered with an envelope and a hang-up."""
    with BackgroundServer(ErrorBorder(reader)) as server, connection(server.url) as client:
        client.sendall(request_line + b"\r\nHost: x\r\n\r\nSM\r\n\r\n")
        said = everything(client)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.count(b"HTTP/1.1") == 1


def test_trailers_are_dropped() -> None:
    """Some trailers are fine and say nothing: none becomes a header of this request or the next."""

    async def headers(scope: Scope, receive: Receive, send: Send) -> None:
        await read_object(scope, receive)
        raise Refusal(418, "x", b", ".join(name for name, _ in scope["headers"]).decode())

    chunked = JSON + b"Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n2\r\n{}\r\n0\r\n"
    trailers = b"Authorization: Bearer x\r\nContent-Type: text/html\r\nHost: y\r\n\r\n"
    with BackgroundServer(ErrorBorder(headers)) as server, connection(server.url) as client:
        client.sendall(chunked + trailers[:30])
        time.sleep(0.1)
        client.sendall(trailers[30:] + chunked + trailers + LAST)
        said = everything(client)
    assert said.count(b'"message":"host, content-type, transfer-encoding, trailer"') == 2
    assert said.count(b'"message":"host, content-type, connection"') == 1


@pytest.mark.parametrize("trailer", [b"Content-Length: 5", b"Transfer-Encoding: gzip"])
def test_trailer_that_would_frame_the_body_is_refused(trailer: bytes) -> None:
    """A trailer that contradicts how its body came is no request of anybody honest."""
    chunked = JSON + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    with BackgroundServer(ErrorBorder(reader)) as server, connection(server.url) as client:
        client.sendall(chunked + trailer + b"\r\n\r\n" + LAST)
        assert everything(client).startswith(b"HTTP/1.1 400 ")


def one_by_one(body: bytes) -> bytes:
    """Return a body in chunks of one byte."""
    chunks = [b"1\r\n%c\r\n" % byte for byte in body]
    return b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(chunks) + b"0\r\n\r\n"


QUESTION = b'{"limit": 3}'
WHOLE = b"Content-Length: 12\r\n\r\n" + QUESTION
WAYS = {
    "HTTP/1.1": [JSON + b"Connection: close\r\n" + WHOLE],
    "HTTP/1.0": [JSON.replace(b"1.1", b"1.0") + WHOLE],
    "HTTP/1.0, keep-alive": [JSON.replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\n" + WHOLE],
    "no host": [JSON.replace(b"Host: x\r\n", b"Connection: close\r\n") + WHOLE],
    "chunks of one byte": [JSON + b"Connection: close\r\n" + one_by_one(QUESTION)],
    "chunk extensions": [
        JSON + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        b'C;a=b;c="d"\r\n' + QUESTION + b"\r\n000;e\r\n\r\n"
    ],
    "offer of HTTP/2": [JSON + b"Connection: Upgrade, close\r\nUpgrade: h2c\r\n" + WHOLE],
    "empty lines before": [b"\r\n\r\n" + JSON + b"Connection: close\r\n" + WHOLE],
    "packets of one byte": [b"%c" % byte for byte in JSON + b"Connection: close\r\n" + WHOLE],
}


@pytest.mark.parametrize("pieces", WAYS.values(), ids=WAYS)
def test_every_way_to_send_a_request_gets_the_same_answer(pieces: list[bytes]) -> None:
    """The body is read however it is framed; without a wish to go on the server hangs up."""
    with BackgroundServer(ErrorBorder(reader)) as server, connection(server.url) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            client.sendall(piece)
        said = everything(client)
    assert said.startswith(b"HTTP/1.1 418 ")
    assert b"connection: close\r\n" in said
    assert b'"message":"{\'limit\': 3}"' in said


def test_body_in_chunks_of_one_byte_may_be_as_long_as_any() -> None:
    """What frames a body is bounded by the body, not by itself."""
    body = b'{"x": "' + b"y" * 60_000 + b'"}'
    with BackgroundServer(ErrorBorder(reader)) as server, connection(server.url) as client:
        client.sendall(JSON + b"Connection: close\r\n" + one_by_one(body))
        assert b"yyy" in everything(client)


def test_client_that_left_before_its_answer_is_noticed() -> None:
    """Work that nobody waits for any more can stop."""
    left, begun = threading.Event(), threading.Event()

    async def patient(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    with BackgroundServer(patient) as server:
        with connection(server.url) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert begun.wait(20)
        assert left.wait(20)


def test_requests_before_garbage_are_answered() -> None:
    """What is no request does not take the answers to those before it."""
    with BackgroundServer(ErrorBorder(reader)) as server:
        for garbage in (b"no request\r\n\r\n", b"GET / HTTP/1.1\r\nbad header\r\n\r\n"):
            with connection(server.url) as client:
                client.sendall(JSON + WHOLE + garbage)
                said = everything(client)
            assert said.startswith(b"HTTP/1.1 418 ")
            assert said.count(b"HTTP/1.1 400 ") == 1
            assert said.count(b"HTTP/1.1 ") == 2


def test_what_follows_the_last_request_is_nobodys() -> None:
    """After a wish to end the connection nothing more is a request."""
    with BackgroundServer(ErrorBorder(reader)) as server, connection(server.url) as client:
        client.sendall(LAST + JSON + WHOLE)
        assert everything(client).count(b"HTTP/1.1") == 1


def test_body_that_was_not_wanted_does_not_hold_the_next_request_up() -> None:
    """Who is answered before its body is read gets its next answer on the same connection."""

    async def hasty(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.3)  # until more than a server would keep has come
        raise Refusal(418, "hasty", "")

    length = 300_000
    with BackgroundServer(ErrorBorder(hasty)) as server, connection(server.url) as client:
        client.sendall(JSON + b"Content-Length: %d\r\n\r\n" % length + b"x" * length + LAST)
        assert everything(client).count(b"HTTP/1.1 418 ") == 2


def test_client_that_waits_to_send_its_body_is_told_to() -> None:
    """Expect: a wanted body is asked for, one that nobody reads is not."""
    head = JSON + b"Expect: 100-Continue\r\nContent-Length: 12\r\n\r\n"
    with BackgroundServer(ErrorBorder(reader)) as server, connection(server.url) as client:
        client.sendall(head)
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(QUESTION + LAST)
        assert everything(client).count(b"HTTP/1.1 418 ") == 2
    with BackgroundServer(ErrorBorder(teapot)) as server, connection(server.url) as client:
        client.sendall(head)
        assert client.recv(100).startswith(b"HTTP/1.1 418 ")


@pytest.mark.parametrize("name", ["x-name\r\nx", "x\n"])
def test_header_of_an_answer_cannot_begin_another_one(name: str) -> None:
    """A line break in a header is our bug: nothing is sent, rather than a second header."""

    async def split(scope: Scope, receive: Receive, send: Send) -> None:
        raise Refusal(418, "x", "", headers=[(b"x-file", name.encode())])

    with BackgroundServer(ErrorBorder(split)) as server, connection(server.url) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert everything(client) == b""


@pytest.mark.parametrize("body", [b"too short", b"longer than its head says"])
def test_answer_of_another_length_than_told_ends_the_connection(body: bytes) -> None:
    """No client takes the beginning of the next answer for the end of this one."""

    async def liar(scope: Scope, receive: Receive, send: Send) -> None:
        length = (b"content-length", b"12")
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})

    with BackgroundServer(ErrorBorder(liar)) as server, pytest.raises(httpx.RemoteProtocolError):
        httpx.get(server.url)


def test_head_of_an_answer_does_not_wait_for_its_body() -> None:
    """An answer whose body takes its time is begun at once."""
    begun = threading.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.to_thread(begun.wait, 20)
        await send({"type": "http.response.body", "body": b"late"})

    with BackgroundServer(slow) as server, connection(server.url) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        begun.set()
        assert b"late" in everything(client)


def test_head_request_gets_a_head() -> None:
    """HEAD is answered as GET is, without the body."""
    with BackgroundServer(ErrorBorder(teapot)) as server:
        answer = httpx.head(server.url)
    assert (answer.status_code, answer.content) == (418, b"")
    assert int(answer.headers["content-length"]) > 0
