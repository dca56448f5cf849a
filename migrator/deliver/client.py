"""Tickiti's API as far as a delivery needs it. All that may go wrong there is sorted here.

Success is a status of 2xx with JSON that says ``ok``. Redirects are never followed, and the token
is in no text. Reads and uploads are made again where that may help; :meth:`Client.write` is not:
whoever calls it first reads what stands there.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
import secrets
import ssl
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import httpx

from migrator import __version__
from migrator.errors import (
    ConfigError,
    Declined,
    ServerFailed,
    SourceRefused,
    SourceUnreachable,
    Throttled,
    TooLarge,
    UnexpectedReply,
)
from migrator.events import Listener
from migrator.hours import Halted
from migrator.sources.pace import (
    Breaker,
    Pacer,
    Retrier,
    Sleep,
    asked_for,
    for_file,
    retry_after,
)
from migrator.text import brief, why_unreachable

Facts = dict[str, Any]

ATTEMPTS: Final = 4
CHUNK: Final = 8 << 20
"""Bytes of a file that are read back at once, as Tickiti's own client does."""
LARGEST: Final = 64 << 20
"""Bytes of a reply at most: 25 MiB in base64, or a long thread, is less."""
CONNECT_TIMEOUT: Final = 10.0
WHOM: Final = "Tickiti"


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes to upload; ``blocks`` yields them from the beginning each time it is called."""

    size: int
    blocks: Callable[[], Generator[bytes]]


class Client:
    """One Tickiti, seen with one token. All methods raise SourceError; see :func:`connect`.

    ``requests`` counts what was sent.
    """

    def __init__(self, http: httpx.AsyncClient, token: str, pacer: Pacer) -> None:
        self._http = http
        self._secrets = [part for part in (token, token.rpartition("|")[2]) if part]
        self._pacer = pacer
        self.retrier = Retrier(ATTEMPTS, pacer)
        self.requests = 0

    async def ask(self, path: str, facts: Mapping[str, object], *, what: str) -> Facts:
        """Return the ``data`` of a call that changes nothing, made again where that may help."""
        body = json.dumps(facts).encode()
        return _data(await self._again(what, lambda: self._json(path, body, what)), what)

    async def rows(self, path: str, facts: Mapping[str, object], *, what: str) -> object:
        """Return all of the answer of a call whose envelope nobody has documented."""
        body = json.dumps(facts).encode()
        return await self._again(what, lambda: self._json(path, body, what))

    async def write(self, path: str, body: bytes, *, what: str, key: str = "") -> Facts:
        """Make a call that changes something, once; return its ``data``."""
        headers = {"Idempotency-Key": key} if key else {}
        try:
            return _data(
                await self.retrier.once(what, lambda: self._json(path, body, what, headers)), what
            )
        except Throttled as error:
            self._pacer.hold(asked_for(error))  # it applies to all others, too
            raise

    async def pauses(self) -> int:
        """Wait for the end of a pause, if one holds; return how many there were so far."""
        await self._pacer.wait_out_halt()
        return self._pacer.halts

    async def hello(self) -> None:
        """Make a call that every Tickiti answers; raise SourceError unless it does."""
        try:
            found = await self._json("tickets/show", b"{}", "a first call", urgent=True)
        except Declined as error:
            if error.status not in (400, 422):
                raise
        else:
            if not isinstance(found, dict) or "ok" not in found:
                raise UnexpectedReply("a first call: HTTP 200 with JSON that is not Tickiti's")

    async def upload(self, name: str, content: Content, *, what: str) -> Facts:
        """Store bytes, which no ticket shows yet; return what Tickiti says it got."""

        async def once() -> Facts:
            boundary = secrets.token_hex(16)
            quoted = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
            head = (
                f'--{boundary}\r\nContent-Disposition: form-data; name="file"; '
                f'filename="{quoted}"\r\nContent-Type: application/octet-stream\r\n\r\n'
            ).encode()
            tail = f"\r\n--{boundary}--\r\n".encode()
            headers = {
                "Content-Type": f"multipart/form-data; boundary={boundary}",
                "Content-Length": str(len(head) + content.size + len(tail)),
            }
            path, parts = "tickets/attachment-upload", _parts(head, content, tail)
            return _data(await self._json(path, parts, what, headers), what)

        with for_file(name):
            data: Facts = await self._again(what, once)
        return data

    async def digest(
        self, number: str, attachment: str, *, most: int, what: str
    ) -> tuple[str, int]:
        """Return SHA-256 and size of an attachment's bytes, read in ranges where those exist.

        Stops when there are more than ``most``.
        """
        hashed, at = hashlib.sha256(), 0
        while True:
            asked = {
                "ticket_number": number,
                "response_attachment_id": attachment,
                "intent": "review_ok",
                "offset": at,
                "length": CHUNK,
            }
            data = await self.ask("tickets/attachment", asked, what=what)
            try:
                block = base64.b64decode(data["content_base64"], validate=True)
                size = int(data["file_size"])
            except (KeyError, TypeError, ValueError, binascii.Error):
                raise UnexpectedReply(f"{what}: Tickiti sent no contents") from None
            hashed.update(block)
            at += len(block)
            # An older server ignores the range and sends all of it.
            if data.get("eof") or at >= size or at > most or not block:
                return hashed.hexdigest(), at

    async def _again(self, what: str, call: Callable[[], Any]) -> Any:
        return (await self.retrier(what, call))[0]

    async def _json(
        self,
        path: str,
        body: bytes | AsyncIterator[bytes],
        what: str,
        headers: Mapping[str, str] | None = None,
        *,
        urgent: bool = False,
    ) -> object:
        """Make one call and return its JSON; the one place where httpx's errors become ours."""
        given = {"Content-Type": "application/json", **(headers or {})}
        async with self._pacer.slot(what, urgent=urgent) as slot:
            self.requests += 1
            try:
                async with self._http.stream(
                    "POST", f"api/v1/{path}", content=body, headers=given
                ) as reply:
                    text = await _read(reply, what)
            except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
                raise ConfigError("deliver.url is not an address") from error
            except httpx.TimeoutException:
                slot.overloaded()
                raise SourceUnreachable(f"{what}: Tickiti did not answer in time") from None
            except httpx.HTTPError as error:
                why = self._said(why_unreachable(error))
                raise SourceUnreachable(f"{what}: no answer from Tickiti: {why}") from None
            try:
                found = self._judge(reply, text, what)
            except (ServerFailed, Throttled):
                slot.overloaded()
                raise
            slot.answered(path)
            return found

    def _judge(self, reply: httpx.Response, text: bytes, what: str) -> object:
        """Return the JSON of a good reply; raise what another one means."""
        status, found = reply.status_code, _parsed(text)
        ours = isinstance(found, dict)
        said = f"{what}: HTTP {status}{self._reason(found) if ours else ''}"
        if 200 <= status < 300:
            if found is None:
                raise UnexpectedReply(f"{what}: HTTP {status} without JSON")
            return found
        if status == 401:
            refused = SourceRefused(f"{said}. Tickiti does not know the token: see TICKITI_TOKEN")
            refused.shared = not ours
            raise refused
        if 300 <= status < 400:
            raise SourceRefused(
                f"{what}: deliver.url redirects (HTTP {status}), which is not followed. "
                "Is the address right, and https?"
            )
        wait = retry_after(reply.headers.get("retry-after", ""))
        if status in (408, 425, 429) or (status == 503 and wait is not None):
            raise Throttled(said, retry_after=wait)
        if status >= 500 or status < 200:
            failed = ServerFailed(said)
            failed.status = status
            raise failed
        code = found.get("error") if isinstance(found, dict) else ""
        declined = Declined(said, status=status, code=code if isinstance(code, str) else "")
        # A page is no word of Tickiti's: something in front of it may turn everybody away.
        declined.shared = not ours and status != 413
        raise declined

    def _reason(self, found: object) -> str:
        assert isinstance(found, dict)  # noqa: S101 - so it was called
        code, message, errors = (found.get(name) for name in ("error", "message", "errors"))
        parts = [part for part in (code, message) if isinstance(part, str) and part]
        if isinstance(errors, dict):
            parts += [str(value) for value in list(errors.values())[:3]]
        told = self._said("; ".join(dict.fromkeys(parts)))
        return f" ({told})" if told else ""

    def _said(self, text: str) -> str:
        """Return a foreign text without the token, as one harmless line."""
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return brief(text, 300)


def _data(found: object, what: str) -> Facts:
    if not isinstance(found, dict) or found.get("ok") is not True:
        raise UnexpectedReply(f"{what}: the answer does not say that it worked")
    data = found.get("data")
    if not isinstance(data, dict):
        raise UnexpectedReply(f"{what}: the answer has no data")
    return data


def _parsed(text: bytes) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


async def _read(reply: httpx.Response, what: str) -> bytes:
    held = bytearray()
    async for block in reply.aiter_bytes():
        held += block
        if len(held) > LARGEST:
            raise TooLarge(f"{what}: the answer is larger than {LARGEST >> 20} MiB")
    return bytes(held)


def _tls() -> ssl.SSLContext:
    """Return a context that trusts httpx's authorities and the system's, or SSL_CERT_FILE's."""
    context = httpx.create_ssl_context()
    context.load_default_certs()
    return context


async def _parts(head: bytes, content: Content, tail: bytes) -> AsyncIterator[bytes]:
    yield head
    blocks = await asyncio.to_thread(content.blocks)
    try:
        while block := await asyncio.to_thread(next, blocks, b""):
            yield block
    finally:
        with suppress(ValueError):  # a thread may still read, after an interrupt
            blocks.close()
    yield tail


@dataclass(frozen=True, slots=True)
class Server:
    """What a Tickiti can do: ``keeps_status`` since October 2026, ``uploads`` since July.

    ``may_write`` is None where the server does not tell what the token may do.
    """

    keeps_status: bool
    uploads: bool
    may_write: bool | None

    def told(self) -> str:
        """Return that in a sentence."""
        if not self.uploads:
            return "It is of June 2026 or older: its API takes no files."
        may = {True: "The token may write.", False: "The token may not write (tickets:write)."}
        known = may.get(self.may_write) if self.may_write is not None else None
        if self.keeps_status:
            age = "It is of October 2026 or newer: notes leave status and hold dates alone."
        else:
            age = (
                "It is older than October 2026: a note would reopen a ticket that is not open, so "
                "only open tickets get one."
            )
        return f"{age} {known or 'What the token may do is not told; the first file shows it.'}"

    def refuse(self) -> None:
        """Raise SourceRefused where nothing can be delivered."""
        if not self.uploads or self.may_write is False:
            raise SourceRefused(f"Nothing can be delivered to this Tickiti. {self.told()}")


async def look(client: Client) -> Server:
    """Return what a Tickiti can do, by calls that change nothing; SourceRefused: it is none."""
    try:
        # A read that all know comes first: a wrong address is not taken for an old server.
        await client.retrier("a first call", client.hello)
    except (Declined, UnexpectedReply) as error:
        hint = "Is deliver.url the address of a Tickiti?"
        if isinstance(error, Declined) and error.status == 403:
            hint = "Its API key needs the abilities tickets:read and tickets:write."
            if error.shared:
                hint = "That is no answer of Tickiti: something in front of it turns us away."
        raise SourceRefused(f"{str(error).rstrip('.')}. {hint}") from None
    may_write: bool | None = None
    try:
        found = _abilities(await client.rows("token", {}, what="the token"))
        may_write = bool(found & {"*", "tickets:write"}) if found else None
        keeps_status = True
    except Declined as error:
        keeps_status = error.status not in (404, 405)
    try:
        await client.ask("tickets/attachment-upload", {}, what="an upload without a file")
        uploads = True
    except UnexpectedReply:
        uploads = True
    except Declined as error:
        uploads = error.status not in (404, 405)
        may_write = False if error.status == 403 else may_write
    return Server(keeps_status, uploads, may_write)


def _abilities(found: object, family: str = "") -> set[str]:
    """Return all abilities such as ``tickets:write`` in an answer of unknown shape."""
    if isinstance(found, str):
        if found in ("read", "write") and family:
            return {f"{family}:{found}"}
        return {found} if found == "*" or found.endswith((":read", ":write")) else set()
    if isinstance(found, list):
        return set().union(*(_abilities(one, family) for one in found))
    if isinstance(found, dict):
        parts = set[str]()
        for name, value in found.items():
            if value is True:
                parts |= _abilities(name, family)
            else:
                parts |= _abilities(value, str(name))
        return parts
    return set()


@asynccontextmanager
async def connect(
    url: str,
    token: str,
    *,
    concurrency: int,
    per_second: float,
    timeout: float,  # noqa: ASYNC109 - of each request
    patience: float,
    listener: Listener,
    sleep: Sleep,
    halted: Halted | None = None,
) -> AsyncIterator[Client]:
    """Yield a client of the Tickiti at ``url`` that waits between two tries with ``sleep``.

    While ``halted`` returns anything, it starts no request.

    Its errors: SourceRefused stops everything, :class:`Declined` concerns one ticket or file, the
    others were tried again. After ``patience`` seconds without a server SourceDown is raised.
    """
    headers = {
        "Accept": "application/json",
        "Authorization": f"Bearer {token}",
        "User-Agent": f"migrator/{__version__}",
    }
    waits = httpx.Timeout(timeout, connect=min(CONNECT_TIMEOUT, timeout), pool=None)
    pacer = Pacer(concurrency, per_second, sleep=sleep, listener=listener, whom=WHOM, halted=halted)
    try:
        http = httpx.AsyncClient(
            base_url=f"{url}/",
            headers=headers,
            timeout=waits,
            follow_redirects=False,
            verify=_tls() if url.startswith("https") else True,
        )
    except (ValueError, ImportError, OSError, httpx.InvalidURL) as error:
        raise ConfigError(
            f"deliver.url, or the proxy or certificates that the environment names: {error}"
        ) from None
    async with http:
        client = Client(http, token, pacer)
        breaker = Breaker(
            client.hello, pacer, patience=patience, listener=listener, sleep=sleep, whom=WHOM
        )
        client.retrier = Retrier(ATTEMPTS, pacer, listener=listener, sleep=sleep, breaker=breaker)
        try:
            yield client
        finally:
            await breaker.aclose()
