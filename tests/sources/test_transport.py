"""What goes over the wire, what comes back broken, and what nobody may ever read in a text."""

from __future__ import annotations

import asyncio
import gzip
import logging
import socket
import ssl
import struct
import traceback
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest

from migrator.errors import (
    BadRequest,
    ConfigError,
    MemoryExhausted,
    NotFound,
    ServerFailed,
    SourceError,
    SourceRefused,
    SourceUnreachable,
    Throttled,
    TooLarge,
    Truncated,
)
from migrator.sources.kayako import transport as module
from migrator.sources.kayako.limits import ERROR_BODY
from migrator.sources.kayako.signing import Credentials, KayakoSettings, UrlForm, signature
from migrator.sources.kayako.transport import BLOCK, Transport
from migrator.sources.pace import Pacer, Throttle

API_KEY = "5a1c8f0e-1d7b-4c5e-9f53-8d0d6f6b2a11"
SECRET = "bm90LXJlYWxseS1hLXNlY3JldA+/=="
CREDENTIALS = Credentials(API_KEY, SECRET)
URL = "http://help.example.com/api/index.php"
PATH = "/Base/Department"
WHAT = "the departments"
OK = b"HTTP/1.1 200 OK\r\n"

Handler = Callable[[httpx.Request], httpx.Response]
Answer = Callable[[bytes], bytes]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the proxies of the machine that runs the tests out of them."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def settings(url: str = URL, **changes: Any) -> KayakoSettings:
    """Give the settings of a helpdesk."""
    return KayakoSettings(url, CREDENTIALS, **changes)


@asynccontextmanager
async def open_transport(
    using: KayakoSettings,
    handler: Handler | None = None,
    inner: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[Transport]:
    """Open a transport to the network, or to a function that answers."""
    if handler is not None:
        inner = httpx.MockTransport(handler)
    transport = Transport(using, Pacer(using.concurrency), inner=inner)
    try:
        yield transport
    finally:
        await transport.aclose()


def get(handler: Handler | None = None, using: KayakoSettings | None = None) -> bytes:
    """Ask for the departments."""

    async def main() -> bytes:
        async with open_transport(using or settings(), handler) as transport:
            return await transport.get(PATH, what=WHAT)

    return asyncio.run(main())


def replying(status: int = 200, **parts: Any) -> Handler:
    """Answer every request in the same way."""
    return lambda _request: httpx.Response(status, **parts)


class Wire:
    """A server that answers every request with bytes of our choice, then hangs up.

    With ``hold`` it waits until the client does.
    """

    def __init__(self, answer: Answer | bytes | None, *, hold: bool = False) -> None:
        self.answer = answer
        self.hold = hold
        self.heard: list[bytes] = []
        self.serving: set[asyncio.Task[Any] | None] = set()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one request and answer it; None is a reset."""
        self.serving.add(asyncio.current_task())
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            self.heard.append(request)
            if self.answer is None:
                linger = struct.pack("ii", 1, 0)  # closing now means RST
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, linger
                )
            else:
                reply = self.answer if isinstance(self.answer, bytes) else self.answer(request)
                writer.write(reply)
                await writer.drain()
            if self.hold:
                await reader.read()
        except (OSError, asyncio.IncompleteReadError):
            pass  # clients that go away are what some tests are about
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def serving(
    answer: Answer | bytes | None, *, tls: ssl.SSLContext | None = None, hold: bool = False
) -> AsyncIterator[Wire]:
    """Serve on a real socket of this machine."""
    wire = Wire(answer, hold=hold)
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    wire.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/api/index.php"
    async with server:
        try:
            yield wire
        finally:
            await asyncio.gather(*filter(None, wire.serving))


def over_the_wire(answer: Answer | bytes | None, **changes: Any) -> tuple[bytes, list[bytes]]:
    """Ask a real server for the departments; gives the body and the requests it heard."""

    async def main() -> tuple[bytes, list[bytes]]:
        async with (
            serving(answer) as wire,
            open_transport(settings(wire.url, **changes)) as transport,
        ):
            return await transport.get(PATH, what=WHAT), wire.heard

    return asyncio.run(main())


def everything_said(error: BaseException) -> str:
    """Give all that any log of an exception could show."""
    texts = ["".join(traceback.format_exception(error))]
    link: BaseException | None = error
    while link is not None:
        texts += [str(link), repr(link)]
        link = link.__cause__ or link.__context__
    return "\n".join(texts)


def assert_clean(text: str) -> None:
    """Neither key nor a signature is in a text, however it is written."""
    lowered = text.lower()
    for secret in (API_KEY, SECRET, quote(SECRET, safe="")):
        assert secret.lower() not in lowered
    assert "signature=" not in lowered.replace("signature=***", "")
    assert "salt=" not in lowered.replace("salt=***", "")


# The border: nothing of httpx passes


def subclasses(of: type[BaseException]) -> Iterator[type[BaseException]]:
    """Give a class and all that inherit from it."""
    yield of
    for one in of.__subclasses__():
        yield from subclasses(one)


FROM_SERVERS = sorted(
    {one for one in subclasses(httpx.HTTPError) if one.__module__.startswith("httpx")}
    | {httpx.InvalidURL},
    key=lambda one: one.__name__,
)
LEAK = f"broke at {URL}?e=/Base/Department&apikey={API_KEY}&salt=abc&signature=def%3D"


def made(kind: type[BaseException]) -> BaseException:
    """Make an exception of httpx with a text that it must never show."""
    request = httpx.Request("GET", URL)
    if kind is httpx.HTTPStatusError:
        return httpx.HTTPStatusError(LEAK, request=request, response=httpx.Response(500))
    return kind(LEAK)


def test_all_exceptions_of_httpx_are_known() -> None:
    """Every exception of httpx is translated, but for those that only our own mistakes raise."""
    ours = {
        "CookieConflict",
        "StreamError",
        "StreamConsumed",
        "StreamClosed",
        "ResponseNotRead",
        "RequestNotRead",
    }
    public = {name for name in dir(httpx) if isinstance(getattr(httpx, name), type)}
    errors = {name for name in public if issubclass(getattr(httpx, name), Exception)}
    assert errors - {one.__name__ for one in FROM_SERVERS} == ours


@pytest.mark.parametrize("kind", FROM_SERVERS, ids=lambda kind: kind.__name__)
def test_an_exception_while_asking(kind: type[BaseException]) -> None:
    """Whatever httpx raises before a reply is ours, for people, and shows no query."""

    def handler(_request: httpx.Request) -> httpx.Response:
        raise made(kind)

    with pytest.raises((SourceError, ConfigError)) as caught:
        get(handler)
    assert "?" not in str(caught.value)
    assert_clean(everything_said(caught.value))


class Stream(httpx.AsyncByteStream):
    """A body in pieces, which may end in an exception, in reading or in closing."""

    def __init__(
        self, *pieces: bytes, then: BaseException | None = None, close: Exception | None = None
    ) -> None:
        self.pieces, self.then, self.close = pieces, then, close
        self.given = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Give the pieces."""
        for piece in self.pieces:
            self.given += 1
            yield piece
        if self.then is not None:
            raise self.then

    async def aclose(self) -> None:
        """Hang up."""
        if self.close is not None:
            raise self.close


@pytest.mark.parametrize("kind", FROM_SERVERS, ids=lambda kind: kind.__name__)
def test_an_exception_in_the_body(kind: type[BaseException]) -> None:
    """Whatever httpx raises within a body is ours, for people, and shows no query."""
    with pytest.raises((SourceError, ConfigError)) as caught:
        get(replying(stream=Stream(b"half", then=made(kind))))
    assert "?" not in str(caught.value)
    assert_clean(everything_said(caught.value))


@pytest.mark.parametrize(
    "kind", [httpx.ReadError, httpx.RemoteProtocolError, httpx.CloseError, httpx.DecodingError]
)
def test_a_broken_body_is_truncated(kind: type[BaseException]) -> None:
    """A body that breaks off is a truncated reply, not a server that cannot be reached."""
    with pytest.raises(Truncated, match="the departments broke off before its end"):
        get(replying(stream=Stream(b"half", then=made(kind))))


def test_an_exception_in_hanging_up() -> None:
    """How a connection is hung up changes neither an error nor a document that is judged."""
    hang_up = httpx.CloseError("gone")
    with pytest.raises(TooLarge):
        get(replying(stream=Stream(b"12345", close=hang_up)), settings(max_body=4))
    assert get(replying(stream=Stream(b"12345", close=hang_up))) == b"12345"


@pytest.mark.parametrize(
    "url",
    ["help.example.com/api", "ftp://help.example.com/", "http://xn--a.example/", "http://\t/"],
)
def test_an_address_that_is_none(url: str) -> None:
    """An address that cannot be asked is a mistake in the configuration."""
    with pytest.raises(ConfigError, match=r"kayako\.url is not an address"):
        get(using=settings(url))


# Connections that fail


def test_refused() -> None:
    """A port where nobody listens is a server that cannot be reached."""
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/api/index.php"
        with pytest.raises(SourceUnreachable) as caught:
            get(using=settings(url))
    assert str(caught.value).startswith(
        f"no answer from {url} when asked for {WHAT}: it refuses connections"
    )


def test_reset() -> None:
    """A connection that is reset before any reply is a server that cannot be reached."""
    with pytest.raises(SourceUnreachable, match="no answer from http://127"):
        over_the_wire(None)


def test_nothing_said() -> None:
    """A connection that is closed without a reply is a server that cannot be reached."""
    with pytest.raises(SourceUnreachable, match="hung up without a reply"):
        over_the_wire(b"")


@pytest.mark.parametrize(
    "begun", [b"", OK + b"Content-Length: 100\r\n\r\nhalf"], ids=["no reply", "half a body"]
)
def test_silence(begun: bytes) -> None:
    """A server that falls silent is given up after the timeout."""

    async def main() -> None:
        async with (
            serving(begun, hold=True) as wire,
            open_transport(settings(wire.url, timeout=0.1)) as transport,
        ):
            await transport.get(PATH, what=WHAT)

    with pytest.raises(SourceUnreachable, match=r"was silent for 0\.1 s while asked for the dep"):
        asyncio.run(main())


def test_silence_before_a_connection() -> None:
    """The time that is told is the time that was waited: connecting has a limit of its own."""

    def handler(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectTimeout("")

    with pytest.raises(SourceUnreachable, match="was silent for 20 s"):
        get(handler, settings(timeout=60))


# Bodies that fail


@pytest.mark.parametrize(
    "reply",
    [
        OK + b"Content-Length: 100\r\n\r\n<?xml",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n<?xml\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n64\r\n<?xml",
        OK + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nplain",
    ],
    ids=["content-length", "between chunks", "within a chunk", "not gzip"],
)
def test_cut(reply: bytes) -> None:
    """A body that ends before its announced end is never accepted."""
    with pytest.raises(Truncated):
        over_the_wire(reply)


def test_cut_in_a_stream() -> None:
    """A streamed body that breaks off raises, after what came before was passed on."""
    passed: list[bytes] = []

    async def take(block: bytes) -> None:
        passed.append(block)

    async def main() -> None:
        reply = OK + f"Content-Length: {3 * BLOCK}\r\n\r\n".encode() + b"x" * (2 * BLOCK)
        async with serving(reply) as wire, open_transport(settings(wire.url)) as transport:
            with pytest.raises(Truncated):
                await transport.stream(PATH, what=WHAT, take=take)

    asyncio.run(main())
    assert passed
    assert all(len(block) >= BLOCK for block in passed)


def test_whole_in_pieces() -> None:
    """A chunked body is given whole."""
    reply = OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n<a\r\n3\r\n />\r\n0\r\n\r\n"
    assert over_the_wire(reply)[0] == b"<a />"


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (OK, b"x" * 5000),
        (OK + b"Content-Encoding: gzip\r\n", gzip.compress(b"<a>" * 1_000_000)),
        (b"HTTP/1.1 500 Oops\r\n", b"x" * 5000),
    ],
    ids=["plain", "gzip", "error"],
)
def test_a_rate_is_that_of_the_wire(head: bytes, body: bytes) -> None:
    """Bytes count as they come, packed or not, and those of an error as well."""
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    async def main() -> None:
        pacer = Pacer(1)
        pacer.throttle = Throttle(lambda: 100.0, clock=lambda: now, sleep=sleep)
        reply = head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
        async with serving(reply) as wire:
            transport = Transport(settings(wire.url), pacer)
            with suppress(ServerFailed):
                await transport.get(PATH, what=WHAT)
            await transport.aclose()

    asyncio.run(main())
    assert now == pytest.approx(len(body) / 100, abs=0.2)


@pytest.mark.slow
def test_a_wait_for_the_rate_is_no_silence() -> None:
    """However long nobody reads, the server is not blamed for it."""
    now = 0.0

    async def sleep(_seconds: float) -> None:
        nonlocal now
        now += 3600.0
        await asyncio.sleep(0.6)

    async def main() -> bytes:
        pacer = Pacer(1, clock=lambda: now)
        pacer.throttle = Throttle(lambda: 100.0, clock=lambda: now, sleep=sleep)
        reply = OK + f"Content-Length: {BLOCK}\r\n\r\n".encode() + b"x" * BLOCK
        async with serving(reply) as wire:
            transport = Transport(settings(wire.url, timeout=0.5), pacer)
            body = await transport.get(PATH, what=WHAT)
            await transport.aclose()
        return body

    assert len(asyncio.run(main())) == BLOCK
    assert now >= 3600.0


def test_too_large_by_announcement() -> None:
    """A reply that announces more than max_body is not even read."""
    stream = Stream(b"12345")
    with pytest.raises(TooLarge, match=r"larger than 4 bytes \(kayako\.max_body\)"):
        get(replying(headers={"Content-Length": "5"}, stream=stream), settings(max_body=4))
    assert stream.given == 0


def test_too_large_by_counting() -> None:
    """A reply that announces nothing is read up to max_body, and no further."""
    stream = Stream(b"123", b"45", b"never")
    with pytest.raises(TooLarge):
        get(replying(stream=stream), settings(max_body=4))
    assert stream.given == 2


def test_too_large_when_unpacked() -> None:
    """What counts is the size of a body after decompression."""
    packed = gzip.compress(b"0" * 10_000)
    with pytest.raises(TooLarge):
        get(
            replying(headers={"Content-Encoding": "gzip"}, content=packed), settings(max_body=9_999)
        )


def test_as_large_as_allowed() -> None:
    """A reply of exactly max_body is no reason to complain."""
    assert get(replying(content=b"1234"), settings(max_body=4)) == b"1234"


def test_a_failure_frees_its_connection() -> None:
    """Connections of replies that were given up are free again for the next requests."""

    async def main() -> None:
        reply = OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n"
        async with (
            serving(reply) as wire,
            open_transport(settings(wire.url, max_body=4, concurrency=1)) as transport,
        ):
            for _ in range(5):
                with pytest.raises(TooLarge):
                    await transport.get(PATH, what=WHAT)
            assert len(wire.heard) == 5

    asyncio.run(main())


def test_requests_at_once() -> None:
    """There are never more requests at once than the pacer allows, each to the end of its body."""
    running, most = 0, 0

    async def take(_block: bytes) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(5):
            await asyncio.sleep(0)
        running -= 1

    async def main() -> None:
        handler = replying(content=b"x" * BLOCK)
        async with open_transport(settings(concurrency=2), handler) as transport:
            asking = (transport.stream(PATH, what=WHAT, take=take) for _ in range(6))
            await asyncio.gather(*asking)

    asyncio.run(main())
    assert most == 2


# Statuses


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, b"No Ticket ID Specified", BadRequest),
        (401, b"FAILED TO AUTHENTICATE", SourceRefused),
        (403, b"", SourceRefused),
        (404, b"Ticket not Found", NotFound),
        (429, b"", Throttled),
        (500, b"", ServerFailed),
        (500, b"Fatal error: Allowed memory size of 134217728 bytes exhausted", MemoryExhausted),
        (502, b"<html><title>502</title></html>", ServerFailed),
    ],
)
def test_statuses(status: int, body: bytes, kind: type[SourceError]) -> None:
    """Any status but 200 becomes the error that its status and text stand for."""
    with pytest.raises(kind, match=WHAT) as caught:
        get(replying(status, content=body))
    assert type(caught.value) is kind


def test_retry_after_is_read() -> None:
    """The time that a busy server names reaches the error."""
    with pytest.raises(Throttled) as caught:
        get(replying(503, headers={"Retry-After": "17"}))
    assert caught.value.retry_after == 17


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(status: int) -> None:
    """A redirect is told, without its query, and never followed: it would get our signature."""
    asked: list[httpx.URL] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        return httpx.Response(status, headers={"Location": f"https://other.example/login?{LEAK}"})

    with pytest.raises(SourceRefused) as caught:
        get(handler)
    assert "redirects to https://other.example/login (HTTP" in str(caught.value)
    assert_clean(everything_said(caught.value))
    assert len(asked) == 1


def test_a_long_error_is_not_read_to_its_end() -> None:
    """Of a page that explains an error only the beginning is read."""
    stream = Stream(*[b"x" * 1024] * 100)
    with pytest.raises(ServerFailed):
        get(replying(500, stream=stream))
    assert stream.given == ERROR_BODY // 1024


def test_a_broken_error_is_still_that_error() -> None:
    """An error whose text breaks off is told by its status."""
    broken = Stream(b"half", then=httpx.ReadError("reset"))
    with pytest.raises(ServerFailed, match=r"HTTP 500.*half"):
        get(replying(500, stream=broken))


# Credentials


def signed(form: dict[str, list[str]]) -> bool:
    """Whether a form or query holds our key and a signature that fits its salt."""
    (salt,) = form["salt"]
    return form["apikey"] == [API_KEY] and form["signature"] == [signature(SECRET, salt)]


def send(call: Callable[[Transport], Awaitable[object]], **changes: Any) -> list[httpx.Request]:
    """Make calls; gives the requests that they made."""
    heard: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        heard.append(request)
        return httpx.Response(200)

    async def main() -> None:
        async with open_transport(settings(**changes), handler) as transport:
            await call(transport)

    asyncio.run(main())
    return heard


@pytest.mark.parametrize("method", ["get", "delete"])
@pytest.mark.parametrize(
    ("form", "start"),
    [(UrlForm.QUERY, "e=/Base/Department&"), (UrlForm.STANDARD, "/Base/Department&")],
)
def test_credentials_in_the_query(method: str, form: UrlForm, start: str) -> None:
    """GET and DELETE carry the credentials at the end of the query, in both forms of address."""
    (request,) = send(lambda t: getattr(t, method)(PATH, what=WHAT), url_form=form)
    query = request.url.query.decode()
    assert request.method == method.upper()
    assert query.startswith(start)
    assert signed(parse_qs(query.removeprefix(start), strict_parsing=True))
    assert request.content == b""


def test_credentials_in_the_form() -> None:
    """POST carries credentials and escaped contents in its form, and none in its query."""
    contents = bytes(range(256)) + b"\xfb\xff\xfe"
    (request,) = send(lambda t: t.post(PATH, {"filename": "a+b.txt"}, contents=contents, what=WHAT))
    assert request.url.query == b"e=/Base/Department"
    form = parse_qs(request.content.decode(), strict_parsing=True)
    assert form.pop("filename") == ["a+b.txt"]
    assert b64decode(form.pop("contents")[0], validate=True) == contents
    assert signed(form)
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"


def test_a_fresh_salt_for_every_request() -> None:
    """No two requests share a salt."""

    async def call(transport: Transport) -> None:
        for _ in range(3):
            await transport.get(PATH, what=WHAT)
            await transport.post(PATH, {}, contents=b"", what=WHAT)

    requests = send(call)
    salts = {parse_qs(r.content.decode() or r.url.query.decode())["salt"][0] for r in requests}
    assert len(salts) == 6


def test_contents_are_asked_for_uncompressed() -> None:
    """Streams ask for no compression; lists are free to use it."""

    async def no_take(_block: bytes) -> None:
        raise AssertionError("there is nothing to take")

    async def call(transport: Transport) -> None:
        assert await transport.stream(PATH, what=WHAT, take=no_take) == b""
        await transport.get(PATH, what=WHAT)

    streamed, listed = send(call)
    assert streamed.headers["Accept-Encoding"] == "identity"
    assert "gzip" in listed.headers["Accept-Encoding"]


def test_no_cookies() -> None:
    """A session cookie is not kept: PHP serves the requests of a session one by one."""
    cookies: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        cookies.append(request.headers.get("Cookie"))
        return httpx.Response(200, headers={"Set-Cookie": "SWIFT_sessionid40=abc; path=/"})

    async def main() -> None:
        async with open_transport(settings(), handler) as transport:
            for _ in range(2):
                await transport.get(PATH, what=WHAT)

    asyncio.run(main())
    assert cookies == [None, None]


def test_an_error_that_quotes_our_request() -> None:
    """A server that shows us our own request does not get the keys into an error."""

    def handler(request: httpx.Request) -> httpx.Response:
        given = parse_qs(request.url.query.decode())
        return httpx.Response(500, text=f"VARS: {request.url.query!r} Array([0] => {given})")

    with pytest.raises(ServerFailed, match="VARS") as caught:
        get(handler)
    assert_clean(everything_said(caught.value))


def echo_in_a_redirect(request: bytes) -> bytes:
    """Send the signed address back, as a server does that moved to TLS."""
    target = request.split()[1]
    return b"HTTP/1.1 301 Moved\r\nLocation: https://127.0.0.1" + target + b"\r\n\r\n"


def echo_in_a_broken_header(request: bytes) -> bytes:
    """Send the signed address back in a line that is no header."""
    return OK + b"See " + request.split()[1] + b"\r\n\r\n"


def echo_in_a_broken_chunk(request: bytes) -> bytes:
    """Send the signed address back where the size of a chunk belongs."""
    return OK + b"Transfer-Encoding: chunked\r\n\r\n" + request.split()[1] + b"\r\n"


@pytest.mark.parametrize(
    "answer", [echo_in_a_redirect, echo_in_a_broken_header, echo_in_a_broken_chunk]
)
def test_no_credentials_in_logs_and_exceptions(
    answer: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a log at its most talkative nor an exception's whole chain shows a signature."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(SourceError) as caught:
        over_the_wire(answer)
    assert_clean(caplog.text)
    assert_clean(everything_said(caught.value))


def test_the_wire_does_carry_them() -> None:
    """The tests above would see the credentials: they are in what the server hears."""
    _, heard = over_the_wire(OK + b"Content-Length: 2\r\n\r\nok")
    assert API_KEY.encode() in heard[0]


def test_settings_hide_the_keys() -> None:
    """Settings may be shown: their keys are not."""
    assert_clean(repr(settings()))


# TLS


def over_tls(authority: tuple[Path, Path], ca_file: Path | None) -> bytes:
    """Ask a server with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority)

    async def main() -> bytes:
        reply = OK + b"Content-Length: 2\r\n\r\nok"
        async with (
            serving(reply, tls=context) as wire,
            open_transport(settings(wire.url, ca_file=ca_file)) as transport,
        ):
            return await transport.get(PATH, what=WHAT)

    return asyncio.run(main())


def test_an_untrusted_certificate(authority: tuple[Path, Path]) -> None:
    """A certificate of an unknown authority stops everything and names the setting that helps."""
    with pytest.raises(SourceRefused, match=r"is not trusted.*kayako\.ca_file"):
        over_tls(authority, None)


def test_a_certificate_for_another_host(certify: Callable[..., tuple[Path, Path]]) -> None:
    """A trusted certificate of another host is not blamed on its authority."""
    certificate, key = certify(name="DNS:other.example")
    with pytest.raises(SourceRefused, match=r"is for another host.*kayako\.url"):
        over_tls((certificate, key), certificate)


def test_a_certificate_that_has_expired(certify: Callable[..., tuple[Path, Path]]) -> None:
    """A trusted certificate that has expired is told as that."""
    certificate, key = certify(days=-1)
    with pytest.raises(SourceRefused, match="is not valid today; have it renewed"):
        over_tls((certificate, key), certificate)


@pytest.mark.parametrize("code", [9, 10])
def test_a_certificate_of_another_time(code: int) -> None:
    """One that has expired, or is not valid yet, is told as that."""

    def handler(_request: httpx.Request) -> httpx.Response:
        error = ssl.SSLCertVerificationError("no")
        error.verify_code = code
        raise httpx.ConnectError("no") from error

    with pytest.raises(SourceRefused, match="is not valid today; have it renewed"):
        get(handler)


def test_an_authority_of_their_own(authority: tuple[Path, Path]) -> None:
    """The helpdesk's own authority is trusted once its file is named."""
    assert over_tls(authority, authority[0]) == b"ok"


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_ca_file_that_is_none(tmp_path: Path, content: bytes | None) -> None:
    """A ca_file that is absent, empty or something else is a mistake in the configuration."""
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"kayako\.ca_file: .*ca\.pem holds no certificates"):
        get(using=settings(ca_file=ca_file))


def test_an_environment_without_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_CERT_FILE that names nothing is told as what it is."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "absent.pem"))
    with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
        get(using=settings(url=HTTPS_URL))


def test_plain_http_waits_for_no_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the authorities takes a tenth of a second, which only https is in need of."""
    read: list[bool] = []

    def make() -> ssl.SSLContext:
        read.append(True)
        return ssl.create_default_context()

    monkeypatch.setattr(httpx, "create_ssl_context", make)
    Transport(settings(url="HTTP://help.example.com/api/"), Pacer(1))
    assert read == []
    Transport(settings(url=HTTPS_URL), Pacer(1))
    assert read == [True]


# Proxies

HTTPS_URL = "https://help.example.com/api/index.php"


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, URL, None),
        ({"HTTP_PROXY": "http://p.example:3128"}, URL, "http://p.example:3128"),
        ({"http_proxy": "http://p.example:3128"}, URL, "http://p.example:3128"),
        ({"HTTPS_PROXY": "http://p.example:3128"}, HTTPS_URL, "http://p.example:3128"),
        ({"HTTPS_PROXY": "http://p.example:3128"}, URL, None),
        ({"HTTPS_PROXY": "p.example:3128"}, HTTPS_URL, "http://p.example:3128"),
        ({"ALL_PROXY": "http://p.example:3128"}, HTTPS_URL, "http://p.example:3128"),
        ({"HTTP_PROXY": "http://p.example:3128", "NO_PROXY": "example.com"}, URL, None),
        ({"HTTP_PROXY": "http://p.example:3128", "NO_PROXY": "*"}, URL, None),
        ({"HTTP_PROXY": "http://p.example:1", "NO_PROXY": "x.org"}, URL, "http://p.example:1"),
        ({"HTTPS_PROXY": "http://p.example:3128"}, "https:///api", None),
    ],
)
def test_the_proxy_of_the_environment(
    environment: dict[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy for the scheme is used, with or without http://, and NO_PROXY wins."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert module.proxy_for(url) == proxy


def test_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request for a server behind a proxy is sent to the proxy, signed as ever."""

    async def main() -> bytes:
        async with serving(OK + b"Content-Length: 2\r\n\r\nok") as proxy:
            monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{urlsplit(proxy.url).port}")
            async with open_transport(settings()) as transport:
                assert await transport.get(PATH, what=WHAT) == b"ok"
        return proxy.heard[0]

    heard = asyncio.run(main())
    assert heard.startswith(f"GET {URL}?e=/Base/Department&apikey={API_KEY}&".encode())


@pytest.mark.parametrize("url", [URL, HTTPS_URL])
def test_a_proxy_that_wants_a_password(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that asks who we are is told as that, with the place where to say it."""

    async def main() -> None:
        async with serving(b"HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n\r\n") as proxy:
            monkeypatch.setenv("ALL_PROXY", f"127.0.0.1:{urlsplit(proxy.url).port}")
            async with open_transport(settings(url)) as transport:
                await transport.get(PATH, what=WHAT)

    with pytest.raises(SourceRefused, match=r"the proxy before http.* wants a name and a password"):
        asyncio.run(main())


def test_a_proxy_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that cannot be reached is a server that cannot be, and is named as the reason."""
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{bound.getsockname()[1]}")
        with pytest.raises(SourceUnreachable, match=r"the proxy http://127.* refuses connections"):
            get(using=settings(HTTPS_URL))


@pytest.mark.parametrize("proxy", ["socks5://u:hidden@p.example:1080", "gopher://u:hidden@p"])
def test_a_proxy_that_cannot_be_used(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of another kind is a mistake in the environment; its password is not shown."""
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(ConfigError, match="HTTPS_PROXY, HTTP_PROXY or ALL_PROXY") as caught:
        get(using=settings())
    assert "hidden" not in everything_said(caught.value)


@pytest.mark.parametrize("status", [200, 302, 400, 404, 429, 500, 503])
@pytest.mark.parametrize("spell", [str, quote, lambda text: quote(text, safe="")])
def test_a_server_that_echoes_our_request_leaks_nothing(
    status: int, spell: Callable[[str], str]
) -> None:
    """What a server repeats of a request, in an address, a header or a page, is hidden."""
    sent: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        signed = parse_qs(urlsplit(str(request.url)).query)
        sent[:] = [signed["signature"][0], signed["apikey"][0]]
        echo = "/".join(map(spell, sent)) + f" {request.url} "
        headers = {
            "Location": f"https://else.example.com/{spell(sent[0])}/{spell(sent[1])}",
            "Retry-After": spell(sent[0]),
            "WWW-Authenticate": f'Basic realm="{spell(sent[0])}"',
        }
        return httpx.Response(status, headers=headers, content=f"<html><p>{echo}</p>".encode())

    try:
        said = get(handler).decode()
    except SourceError as error:
        said = everything_said(error)
    assert_clean(said)
    for secret in sent:
        for text in (secret, quote(secret), quote(secret, safe="")):
            assert text not in said
