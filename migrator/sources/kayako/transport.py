"""HTTP to one Kayako server, through a transport of httpx and without its client.

The conveniences of a client (redirects, cookies, authentication, a log line with each address)
must not happen here, and cost more time than the request. What the server sends may quote a
signed address, as a redirect does: it is scrubbed from every exception.
"""

from __future__ import annotations

import asyncio
import io
import re
import ssl
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress

import httpx
import pybase64

from migrator import __version__
from migrator.errors import (
    ConfigError,
    SourceError,
    SourceUnreachable,
)
from migrator.sources.kayako import replies, signing
from migrator.sources.kayako.connections import NOT_HTTP, Connections
from migrator.sources.kayako.limits import (
    ERROR_BODY,
    LINKED_BYTES,
    LIST_ALONE,
    LIST_BYTES,
    Body,
    Turn,
)
from migrator.sources.kayako.outages import (
    NEAREST,
    PROXIES,
    Asked,
    Failure,
    failed,
    failure_of,
    locked,
)
from migrator.sources.kayako.signing import Credentials, KayakoSettings, Veil
from migrator.sources.pace import Pacer, Slot

LARGE = 1 << 20
"""Announced bytes beyond which a reply is slow for its size: PHP builds all of it first."""
CONNECT_TIMEOUT = 20.0
"""Longest wait for a connection, in seconds."""
AGENT = f"migrator/{__version__}"
"""Our name for servers and proxies."""

BLOCK = 256 * 1024
"""Bytes of a body that are passed on at once: most attachments need one change of threads."""

Take = Callable[[bytes], Awaitable[None]]
See = Callable[[int, Mapping[str, str]], None]

_PROXY_SAYS = re.compile(r"HTTP ([0-9]{3})\b ?(.*)", re.DOTALL)
_CUT = (httpx.ReadError, httpx.RemoteProtocolError, httpx.CloseError)
_NUMBERS = re.compile(r"/-?[0-9]")


class Transport:
    """Signed requests to one server, bounded in number, pace and size.

    All methods raise SourceError for anything that goes wrong between us and the document.
    """

    def __init__(
        self,
        settings: KayakoSettings,
        pacer: Pacer,
        *,
        inner: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._settings = settings
        self._pacer = pacer
        self._inner = _network(settings) if inner is None else inner
        signed_in = bool(settings.credentials.http_user)
        self._asked = Asked(settings.url, proxy_for(settings.url) or "", signed_in)
        self._whole_address = not isinstance(self._inner, Connections)
        self._address: httpx.URL | None = None
        self._headers: dict[str, httpx.Headers] = {}
        self._room = asyncio.Lock()
        self._api_key = urllib.parse.quote_plus(settings.credentials.api_key)
        connect = min(CONNECT_TIMEOUT, settings.timeout)
        self._waits = httpx.Timeout(settings.timeout, connect=connect, pool=None).as_dict()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()

    async def get(self, path: str, *, what: str, urgent: bool = False) -> bytes:
        """Return the whole body of a reply with status 200; an ``urgent`` one is let in first."""
        async with self.listed(path, what=what, urgent=urgent) as body:
            return body

    @asynccontextmanager
    async def listed(self, path: str, *, what: str, urgent: bool = False) -> AsyncIterator[bytes]:
        """Yield what :meth:`get` returns; no other large list is received in the block."""
        turn = Turn(self._room)
        try:
            request = self._request("GET", path)
            body = await self._send(request, what, path, urgent=urgent, turn=turn)
            yield self._settings.credentials.hide(body, request.extensions["target"])
        finally:
            turn.leave()

    async def stream(self, path: str, *, what: str, take: Take, veil: Veil | None = None) -> bytes:
        """Pass on the body of a reply with status 200 as it arrives; return its last block.

        ``veil`` is told first what of the request must not be shown. No compression is requested:
        base64 shrinks by a quarter at best, and costs the helpdesk's CPU time.
        """
        request = self._request("GET", path, encoding="identity")
        if veil is not None:
            veil.begin(request.extensions["target"])
        return await self._send(request, what, path, take=take)

    @property
    def url(self) -> str:
        """The address of the API."""
        return self._settings.url

    async def public(self, target: str, *, what: str, see: See, take: Take) -> bytes:
        """Do as :meth:`stream` does with what anybody may get at a path of this server.

        Nothing in the request says who asks. ``see`` is shown each head first.
        """
        address = httpx.URL(urllib.parse.urljoin(self._settings.url, "/"))
        headers = _headers(address, "identity", None)
        extensions = {"timeout": self._waits, "target": target.encode("ascii")}
        if self._whole_address:
            address = address.copy_with(raw_path=extensions["target"])
        stream = httpx.ByteStream(b"")
        request = httpx.Request(
            "GET", address, headers=headers, stream=stream, extensions=extensions
        )
        return await self._send(request, what, take=take, see=see)

    async def delete(self, path: str, *, what: str) -> bytes:
        """Send a DELETE; return the body of the reply, which Kayako leaves empty."""
        return await self._send(self._request("DELETE", path), what)

    async def post(
        self, path: str, form: Mapping[str, str], *, contents: bytes, what: str
    ) -> bytes:
        """Send a form with ``contents`` in base64; return the body of the reply.

        Kayako reads the credentials of a POST from its form, and only from there. A ``+`` that
        is not escaped would arrive as a space, which its decoder skips.
        """
        signed = {**form, **self._settings.credentials.sign()}
        encoded = _escaped(pybase64.b64encode(contents))
        body = urllib.parse.urlencode(signed).encode("ascii") + b"&contents=" + encoded
        return await self._send(self._request("POST", path, form=body), what)

    def _request(
        self, method: str, path: str, *, form: bytes | None = None, encoding: str = "gzip"
    ) -> httpx.Request:
        settings = self._settings
        url = signing.build(settings.url, path, settings.url_form)
        if form is None:
            url += f"&apikey={self._api_key}&{self._signature()}"
        try:
            # Parsing an address takes longer than sending the request, so it is done once.
            if self._address is None:
                self._address = _address(url.partition("?")[0])
            if (headers := self._headers.get(encoding)) is None:
                headers = _headers(self._address, encoding, settings.credentials)
                self._headers[encoding] = headers
            query = url.partition("?")[2].encode("ascii")
            target = self._address.raw_path + b"?" + query
            address = httpx.URL(url) if self._whole_address else self._address
        except (httpx.InvalidURL, UnicodeError) as error:  # the latter: a host that IDNA refuses
            _scrub(error, settings.credentials)
            raise _no_address() from error
        extensions = {"timeout": self._waits, "target": target}
        if form is None:  # a stream is taken as it is, which is quick
            stream = httpx.ByteStream(b"")
            return httpx.Request(
                method, address, headers=headers, stream=stream, extensions=extensions
            )
        headers = httpx.Headers(headers)
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        return httpx.Request(method, address, headers=headers, content=form, extensions=extensions)

    def _signature(self) -> str:
        signed = self._settings.credentials.sign()
        signature = _escaped(signed["signature"].encode()).decode()
        return f"salt={signed['salt']}&signature={signature}"

    async def _send(
        self,
        request: httpx.Request,
        what: str,
        path: str | None = None,
        *,
        urgent: bool = False,
        take: Take | None = None,
        turn: Turn | None = None,
        see: See | None = None,
    ) -> bytes:
        """Send a request in its turn; return its body, or pass all but the end of it on."""
        pacer, in_body = self._pacer, False
        async with pacer.slot(what, urgent=urgent) as slot:
            try:
                response = await self._inner.handle_async_request(request)
                stream = response.stream
                assert isinstance(stream, httpx.AsyncByteStream)  # noqa: S101 - so it is there
                try:
                    if see is not None:
                        see(response.status_code, response.headers)
                    if response.status_code != 200:
                        refusal = await self._refusal(response, what)
                        if refusal.overload:
                            slot.overloaded()
                        raise refusal
                    fields = {name.lower(): value for name, value in response.headers.raw}
                    length = fields.get(b"content-length", b"")
                    announced = int(length) if length.isdigit() and len(length) < 20 else 0
                    slot.answered(_kind(path) if path and announced <= LARGE else None)
                    most = LINKED_BYTES if see is not None else None
                    body = self._body(response, what, contents=take is not None, most=most)
                    body.expect(announced)
                    slot.size, in_body = announced, True
                    return await self._receive(stream, body, take, turn, slot)
                finally:
                    # By now the document has been judged, however the connection is hung up.
                    with suppress(httpx.HTTPError):
                        await stream.aclose()
            except SourceUnreachable:
                if in_body:  # it came too slowly
                    slot.overloaded()
                raise
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                failure = self._failure(error, what, in_body=in_body)
                if isinstance(failure, SourceUnreachable):  # in mid-body, too
                    slot.overloaded()
                raise failure from error

    def _body(
        self, response: httpx.Response, what: str, *, contents: bool, most: int | None = None
    ) -> Body:
        encoding = response.headers.get("content-encoding", "")
        clock = self._pacer.clock
        if most is not None and most < self._settings.max_body:
            told = "the most that is read of a linked file"
            return Body(encoding, most=most, what=what, clock=clock, bound=told)
        most = self._settings.max_body
        if contents or most <= LIST_BYTES:
            return Body(encoding, most=most, what=what, clock=clock, bound="kayako.max_body")
        return Body(encoding, most=LIST_BYTES, what=what, clock=clock)

    async def _receive(
        self,
        stream: httpx.AsyncByteStream,
        body: Body,
        take: Take | None,
        turn: Turn | None,
        slot: Slot,
    ) -> bytes:
        held = io.BytesIO()  # which gives its bytes without a copy
        throttle = self._pacer.throttle
        try:
            body.wait()
            async for block in stream:
                slot.received = (slot.received or 0) + len(block)
                for piece in body.pieces(block):
                    held.write(piece)
                    if take is not None and held.tell() >= BLOCK:
                        await take(held.getvalue())
                        held = io.BytesIO()
                    elif turn is not None and held.tell() > LIST_ALONE:
                        await turn.take()
                if throttle is not None:
                    await throttle.spend(len(block))
                body.wait()
            return held.getvalue()
        finally:
            held.close()  # an error would keep it, and may live for long

    async def _refusal(self, response: httpx.Response, what: str) -> SourceError:
        stream, text = response.stream, bytearray()
        assert isinstance(stream, httpx.AsyncByteStream)  # noqa: S101 - so it is there
        try:
            body = self._body(response, what, contents=False)
            async for block in stream:
                for piece in body.pieces(block):
                    text += piece[: ERROR_BODY - len(text)]
                if self._pacer.throttle is not None:
                    await self._pacer.throttle.spend(len(block))
                if len(text) >= ERROR_BODY:
                    break
                body.wait()
        except (httpx.HTTPError, SourceError):
            pass  # the status says enough; a cut page is not worth a second error
        said = self._settings.credentials.scrub(text.decode("utf-8", "replace"))
        headers = dict(response.headers)
        error = replies.error_for(
            response.status_code, headers, said.encode(), what=what, asked=self._asked
        )
        _scrub(error, self._settings.credentials)  # headers are quoted, too
        return error

    def _failure(self, error: Exception, what: str, *, in_body: bool) -> SourceError | ConfigError:
        """Return our error for one of httpx's, with secrets removed."""
        settings = self._settings
        _scrub(error, settings.credentials)
        if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
            return _no_address()
        if isinstance(error, httpx.ProxyError) and (status := _PROXY_SAYS.match(str(error))):
            return _not_let_through(int(status[1]), status[2], self._asked, what)
        failure, link = _named(error, in_body=in_body)
        of_proxy = isinstance(error, httpx.ProxyError) or failure in NEAREST
        connecting = failure is Failure.NO_CONNECTION
        detail = getattr(link, "verify_message", None) or getattr(link, "reason", None) or ""
        return failed(
            failure,
            self._asked,
            what=what,
            waited=self._waits["connect" if connecting else "read"] or 0.0,
            detail=replies.excerpt(str(detail).encode()).replace("_", " ").lower(),
            of_proxy=of_proxy and bool(self._asked.proxy),
        )


def _named(error: Exception, *, in_body: bool) -> tuple[Failure, BaseException]:
    """Return how a failure is called, and the exception that tells it."""
    if isinstance(error, httpx.TimeoutException):
        connecting = isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout)
        return (Failure.NO_CONNECTION if connecting else Failure.SILENT), error
    if isinstance(error, httpx.DecodingError) or (in_body and isinstance(error, _CUT)):
        return Failure.CUT, error
    for link in _chain(error):
        if (failure := failure_of(link)) is not None:
            # What is reset before a connection is made was agreeing on TLS.
            early = failure is Failure.RESET and isinstance(error, httpx.ConnectError)
            return (Failure.TLS_CUT if early else failure), link
    if isinstance(error, httpx.RemoteProtocolError):
        return (Failure.NOT_HTTP if str(error) == NOT_HTTP else Failure.HUNG_UP), error
    return (Failure.PROXY_ODD if isinstance(error, httpx.ProxyError) else Failure.LOST), error


def _not_let_through(status: int, offered: str, asked: Asked, what: str) -> SourceError:
    """Return the error of a proxy that opens no tunnel."""
    if status == 407:
        return locked(offered, asked, what=what)
    failure = Failure.PROXY_FAILS if status >= 500 or status == 429 else Failure.PROXY_REFUSES
    return failed(failure, asked, what=what, detail=f"HTTP {status}")


def _address(url: str) -> httpx.URL:
    address = httpx.URL(url)
    if not address.host:  # in its readable form, which IDNA may refuse to give
        raise httpx.InvalidURL("no host")
    return address


def _headers(address: httpx.URL, encoding: str, credentials: Credentials | None) -> httpx.Headers:
    basic = credentials.basic() if credentials is not None else b""
    return httpx.Headers(
        [
            *([(b"Authorization", basic)] if basic else ()),
            (b"Host", address.netloc),
            (b"Accept", b"*/*"),
            (b"Accept-Encoding", encoding.encode()),
            (b"Connection", b"keep-alive"),
            (b"User-Agent", AGENT.encode()),
        ]
    )


def _escaped(encoded: bytes) -> bytes:
    """Escape base64 for a query or a form, in which only these three characters are special."""
    return encoded.replace(b"+", b"%2B").replace(b"/", b"%2F").replace(b"=", b"%3D")


def _kind(path: str) -> str:
    """Return what a path requests without its ids: the part before any number."""
    number = _NUMBERS.search(path)
    return path[: number.start()] if number else path


def _network(settings: KayakoSettings) -> Connections:
    """Return a transport to the server, through the environment's proxy, if any."""
    name = proxy_for(settings.url)
    try:
        proxy = None if name is None else httpx.Proxy(name, headers={"User-Agent": AGENT})
        # Reading all authorities takes a tenth of a second, which plain HTTP does not need.
        plain = settings.url.lower().startswith("http:") and settings.ca_file is None
        if proxy is not None and proxy.url.scheme == "https":
            plain = False
        return Connections(None if plain else _tls(settings), proxy=proxy)
    except (httpx.InvalidURL, ValueError) as error:
        raise ConfigError(
            f"the proxy that the environment names ({PROXIES}) cannot be "
            "used: give the address of an HTTP proxy, such as http://proxy.example.com:3128"
        ) from error


def _tls(settings: KayakoSettings) -> ssl.SSLContext:
    """Return a TLS context that trusts httpx's, the system's and the helpdesk's own authorities."""
    try:
        context = httpx.create_ssl_context()
        context.load_default_certs()
    except OSError as error:
        raise ConfigError(
            "the certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read"
        ) from error
    if settings.ca_file is not None:
        try:
            context.load_verify_locations(settings.ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError(
                f"kayako.ca_file: {settings.ca_file} holds no certificates in PEM form"
            ) from error
        # Since Python 3.13 the rules of RFC 5280 are checked, which home-made authorities break.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def proxy_for(url: str) -> str | None:
    """Return the proxy that the environment (HTTPS_PROXY, NO_PROXY, …) names for this server."""
    parts = urllib.parse.urlsplit(url)
    if not parts.hostname or urllib.request.proxy_bypass(parts.hostname):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def _no_address() -> ConfigError:
    return ConfigError("kayako.url is not an address; give the API URL of Kayako")


def _scrub(error: BaseException, credentials: Credentials) -> None:
    """Hide the keys in a whole chain of exceptions: some quote what they cannot read."""
    for link in _chain(error):
        link.args = tuple(
            credentials.scrub(arg) if isinstance(arg, str) else arg for arg in link.args
        )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and all its causes."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__
