"""HTTP to one Kayako server, through a transport of httpx and without its client.

The conveniences of a client (redirects, cookies, authentication, a log line with each address)
must not happen here, and cost more time than the request. What the server sends may quote a
signed address, as a redirect does: it is scrubbed from every exception.
"""

from __future__ import annotations

import re
import ssl
import urllib.parse
import urllib.request
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator, Mapping
from contextlib import suppress

import httpx
import pybase64

from migrator import __version__
from migrator.errors import (
    ConfigError,
    SourceError,
    SourceRefused,
    SourceUnreachable,
    TooLarge,
    Truncated,
)
from migrator.sources.kayako import replies, signing
from migrator.sources.kayako.connections import Connections
from migrator.sources.kayako.signing import Credentials, KayakoSettings
from migrator.sources.pace import Pacer

OVERLOADED = frozenset({429, 502, 503, 504})
"""Statuses of an overloaded server, or of the proxy before it."""
LARGE = 1 << 20
"""Announced bytes beyond which a reply is slow for its size: PHP builds all of it first."""
CONNECT_TIMEOUT = 20.0
"""Longest wait for a connection, in seconds."""
AGENT = f"migrator/{__version__}"
"""Our name for servers and proxies."""
ERROR_BODY = 16 * 1024
"""Bytes read of an error's body: its text is short, a page is cut."""

BLOCK = 256 * 1024
"""Bytes of a body that are passed on at once: most attachments need one change of threads."""

Take = Callable[[bytes], Awaitable[None]]

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
        self._whole_address = not isinstance(self._inner, Connections)
        self._address: httpx.URL | None = None
        self._headers: dict[str, httpx.Headers] = {}
        self._api_key = urllib.parse.quote_plus(settings.credentials.api_key)
        connect = min(CONNECT_TIMEOUT, settings.timeout)
        self._waits = httpx.Timeout(settings.timeout, connect=connect, pool=None).as_dict()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()

    async def get(self, path: str, *, what: str, urgent: bool = False) -> bytes:
        """Return the whole body of a reply with status 200; an ``urgent`` one is let in first."""
        return await self._send(self._request("GET", path), what, path, urgent=urgent)

    async def stream(self, path: str, *, what: str, take: Take) -> bytes:
        """Pass on the body of a reply with status 200 as it arrives; return its last block.

        No compression is requested: base64 shrinks by a quarter at best, and costs the helpdesk's
        CPU time.
        """
        request = self._request("GET", path, encoding="identity")
        return await self._send(request, what, path, take=take)

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
        self, method: str, path: str, *, form: bytes | None = None, encoding: str = "gzip, deflate"
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
                headers = self._headers[encoding] = _headers(self._address, encoding)
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
    ) -> bytes:
        """Send a request in its turn; return its body, or pass all but the end of it on."""
        pacer, in_body = self._pacer, False
        async with pacer.slot(urgent=urgent) as slot:
            try:
                response = await self._inner.handle_async_request(request)
                stream = response.stream
                assert isinstance(stream, httpx.AsyncByteStream)  # noqa: S101 - so it is there
                try:
                    if response.status_code in OVERLOADED:
                        slot.overloaded()
                    if response.status_code != 200:
                        raise await self._refusal(response, what)
                    fields = {name.lower(): value for name, value in response.headers.raw}
                    length = fields.get(b"content-length", b"")
                    announced = int(length) if length.isdigit() else 0
                    slot.answered(_kind(path) if path and announced <= LARGE else None)
                    if announced > self._settings.max_body:
                        raise self._too_large(what)
                    in_body = True
                    packed = b"content-encoding" in fields
                    blocks = response.aiter_bytes() if packed else stream
                    return await self._receive(blocks, what, take)
                finally:
                    # By now the document has been judged, however the connection is hung up.
                    with suppress(httpx.HTTPError):
                        await stream.aclose()
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                failure = self._failure(error, what, in_body=in_body)
                if isinstance(failure, SourceUnreachable):  # in mid-body, too
                    slot.overloaded()
                raise failure from error

    async def _receive(self, blocks: AsyncIterable[bytes], what: str, take: Take | None) -> bytes:
        held: list[bytes] = []
        size = got = 0
        async for block in blocks:
            held.append(block)
            size += len(block)
            got += len(block)
            if got > self._settings.max_body:
                raise self._too_large(what)
            if take is not None and size >= BLOCK:
                await take(b"".join(held))
                held, size = [], 0
        return b"".join(held)

    async def _refusal(self, response: httpx.Response, what: str) -> SourceError:
        body = bytearray()
        try:
            async for block in response.aiter_bytes():
                body += block
                if len(body) >= ERROR_BODY:
                    break
        except httpx.HTTPError:
            pass  # the status says enough; a cut page is not worth a second error
        if response.status_code == 407:
            return _locked(signing.safe(self._settings.url))
        text = self._settings.credentials.scrub(body[:ERROR_BODY].decode("utf-8", "replace"))
        headers = dict(response.headers)
        return replies.error_for(response.status_code, headers, text.encode(), what=what)

    def _too_large(self, what: str) -> TooLarge:
        limit = self._settings.max_body
        return TooLarge(f"the reply for {what} is larger than {limit:,} bytes (kayako.max_body)")

    def _failure(self, error: Exception, what: str, *, in_body: bool) -> SourceError | ConfigError:
        """Return our error for one of httpx's, with secrets removed."""
        settings = self._settings
        _scrub(error, settings.credentials)
        if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
            return _no_address()
        where = signing.safe(settings.url)
        for link in _chain(error):
            if isinstance(link, ssl.SSLCertVerificationError):
                return SourceRefused(f"the certificate of {where} {_fault(link.verify_code)}")
        if isinstance(error, httpx.ProxyError) and "407" in str(error):
            return _locked(where)
        if isinstance(error, httpx.TimeoutException):
            waited = self._waits["connect" if isinstance(error, httpx.ConnectTimeout) else "read"]
            return SourceUnreachable(f"{where} was silent for {waited:g} s while asked for {what}")
        if isinstance(error, httpx.DecodingError) or (in_body and isinstance(error, _CUT)):
            return Truncated(f"the reply for {what} broke off before its end")
        reason = type(error).__name__
        return SourceUnreachable(f"no answer from {where} when asked for {what} ({reason})")


def _address(url: str) -> httpx.URL:
    address = httpx.URL(url)
    if not address.host:  # in its readable form, which IDNA may refuse to give
        raise httpx.InvalidURL("no host")
    return address


def _headers(address: httpx.URL, encoding: str) -> httpx.Headers:
    return httpx.Headers(
        [
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
            "the proxy that the environment names (HTTPS_PROXY, HTTP_PROXY or ALL_PROXY) cannot be "
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


def _locked(where: str) -> SourceRefused:
    return SourceRefused(
        f"the proxy before {where} wants a name and a password (HTTP 407); give them in the "
        "environment, as in HTTPS_PROXY=http://name:password@proxy.example.com:3128"
    )


def _fault(code: int) -> str:
    """Return what is wrong with a certificate, by OpenSSL's code, and what to do."""
    if code in {9, 10}:  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
        return "is not valid today; have it renewed there, or set the clock here"
    if code in {62, 64}:  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
        return "is for another host; give the name that it was made for in kayako.url"
    return "is not trusted; if the helpdesk uses its own authority, name its file in kayako.ca_file"


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
