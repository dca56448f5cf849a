"""The ways out: a ping address, a webhook and a command.

Each attempt, and all of them together, take a bounded time. Redirects are never followed. A reply
is read for its status, and of a ping for its first words. Addresses are secrets: texts name the
channel only.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import math
import os
import signal
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

import httpx

from migrator import __version__
from migrator.archive.notices import Notice
from migrator.errors import (
    ConfigError,
    Declined,
    ServerFailed,
    SourceError,
    SourceRefused,
    SourceUnreachable,
    Throttled,
)
from migrator.sources.pace import Pacer, Retrier, retry_after
from migrator.text import brief, iso_time, why_unreachable

ATTEMPTS: Final = 4
CONNECT: Final = 10.0
"""Seconds for a connection."""
ONE_TRY: Final = 15.0
"""Seconds for one attempt, where the configuration leaves as much."""
HEAD: Final = 200
"""Bytes of an answer to a ping that are read."""
LARGEST_PING: Final = 90_000
"""Bytes of a ping's body: healthchecks.io keeps 100 kB."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to tell, as ``[notify]`` of the configuration has it; "" and () are nowhere.

    ``timeout`` is in seconds, for all of it. ``hidden`` are variables of the environment that the
    command does not get.
    """

    ping: str = ""
    ping_exit_code: bool = False
    webhook: str = ""
    webhook_key: bytes = b""
    command: tuple[str, ...] = ()
    timeout: float = 30.0
    hidden: frozenset[str] = frozenset()

    @property
    def keeping(self) -> tuple[str, ...]:
        """The channels that get every notice, if not now then later."""
        given = {"webhook": self.webhook, "command": self.command}
        return tuple(name for name, value in given.items() if value)

    def pings(self, command: str) -> bool:
        """Return whether start and success of a command are pinged.

        One address for all commands is for pulls alone: a verify must not cover up that no sync
        takes place any more.
        """
        return bool(self.ping) and ("{command}" in self.ping or command in ("run", "sync"))


class Channels:
    """Sends, each thing a few times if need be, until its time is over; for one event loop.

    ``clock`` returns Unix seconds. No method raises for what goes wrong outside: they return the
    reason, or None.
    """

    def __init__(self, settings: Settings, *, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._ends = asyncio.get_running_loop().time() + settings.timeout

    async def ping(self, command: str, what: str, run: uuid.UUID, text: str = "") -> str | None:
        """Ping: ``what`` is "start", "fail", an exit code, or "" for success."""
        url = ping_address(self._settings.ping, command, what, run)
        body = text.encode(errors="backslashreplace")[:LARGEST_PING]
        headers = {"Content-Type": "text/plain; charset=utf-8"}

        async def once() -> None:
            head = await self._post(url, body, headers)
            if head.startswith(b"OK ("):  # healthchecks.io says so with status 200
                raise Declined(f"it answered {brief(head.decode(errors='replace'))}")

        return await self._again(once)

    async def send(self, channel: str, notice: Notice) -> str | None:
        """Send a notice to the webhook or the command."""
        body = payload(notice)
        if channel == "webhook":
            return await self._again(lambda: self._webhook(notice.id, body))
        return await self._again(lambda: self._command(notice, body), longest=math.inf)

    async def _webhook(self, key: str, body: bytes) -> None:
        at = str(int(self._clock()))  # of this attempt: receivers refuse old ones
        headers = {"Content-Type": "application/json", "webhook-id": key, "webhook-timestamp": at}
        if self._settings.webhook_key:
            headers["webhook-signature"] = signature(self._settings.webhook_key, key, at, body)
        await self._post(self._settings.webhook, body, headers)

    async def _command(self, notice: Notice, body: bytes) -> None:
        inherited = {k: v for k, v in os.environ.items() if k not in self._settings.hidden}
        try:
            process = await asyncio.create_subprocess_exec(
                *self._settings.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env=inherited | environment(notice),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it is no command"
            raise Declined(f"it cannot be run: {why}") from None
        try:
            await process.communicate(body)
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await asyncio.shield(process.wait())
        if code := process.returncode:
            how = f"exit code {code}" if code > 0 else f"signal {-code}"
            raise ServerFailed(f"it ended with {how}")

    async def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Send a request; return the first bytes of a good answer, raise for another one."""
        given = {
            "User-Agent": f"migrator/{__version__}",
            "Accept-Encoding": "identity",
            **headers,
        }
        timeout = httpx.Timeout(ONE_TRY, connect=CONNECT)
        try:
            async with (
                httpx.AsyncClient(timeout=timeout, follow_redirects=False) as http,
                http.stream("POST", url, content=body, headers=given) as reply,
            ):
                _judge(reply)
                head = b""
                async for part in reply.aiter_raw():
                    head += part
                    if len(head) >= HEAD:
                        break
                return head[:HEAD]
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise SourceRefused("its address cannot be used") from None
        except httpx.TimeoutException:
            raise SourceUnreachable("no answer in time") from None
        except httpx.HTTPError as error:
            raise SourceUnreachable(f"no answer ({why_unreachable(error)})") from None

    async def _again(
        self, once: Callable[[], Awaitable[None]], *, longest: float = ONE_TRY
    ) -> str | None:
        """Make a call until it succeeds, cannot, or time is over; return why it did not."""
        loop, last = asyncio.get_running_loop(), "no time was left"

        async def tried() -> None:
            nonlocal last
            try:
                async with asyncio.timeout(min(longest, self._ends - loop.time())):
                    await once()
            except TimeoutError:
                last = "no answer in time"
                raise SourceUnreachable(last) from None
            except SourceError as error:
                last = str(error)
                raise

        async def sleep(seconds: float) -> None:
            if seconds >= self._ends - loop.time():
                raise TimeoutError
            await asyncio.sleep(seconds)

        if loop.time() >= self._ends:
            return last
        try:
            await Retrier(ATTEMPTS, Pacer(1), sleep=sleep)("a message", tried)
        except (SourceError, ConfigError, TimeoutError):
            return last
        return None


def ping_address(url: str, command: str, what: str, run: uuid.UUID) -> str:
    """Return the address for one ping: ``what`` goes behind the path, the run into the query."""
    parts = urlsplit(url.replace("{command}", quote(command, safe="")))
    path = parts.path.rstrip("/") + (f"/{what}" if what else "")
    query = "&".join(filter(None, (parts.query, f"rid={run}")))
    return urlunsplit((parts.scheme, parts.netloc, path, query, ""))


def payload(notice: Notice) -> bytes:
    """Return a notice as JSON, the same bytes each time."""
    message = {"type": notice.event, "timestamp": iso_time(notice.at), "data": notice.body}
    return json.dumps(message).encode()


def signature(key: bytes, message: str, at: str, body: bytes) -> str:
    """Return the signature of a message as Standard Webhooks has it."""
    signed = b".".join((message.encode(), at.encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def environment(notice: Notice) -> dict[str, str]:
    """Return the variables that a command gets: short, and each one harmless line."""
    run = notice.body.get("run")
    return {
        "MIGRATOR_EVENT": notice.event,
        "MIGRATOR_EVENT_ID": notice.id,
        "MIGRATOR_EVENT_TIME": iso_time(notice.at),
        "MIGRATOR_COMMAND": notice.command,
        "MIGRATOR_EXIT_CODE": str(notice.body.get("exit_code", "")),
        "MIGRATOR_RUN": "" if run is None else str(run),
        "MIGRATOR_TITLE": str(notice.body.get("title", "")).replace("\0", ""),
    }


def _judge(reply: httpx.Response) -> None:
    """Raise what a reply means that is no success."""
    status = reply.status_code
    said = f"it answered HTTP {status}"
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        raise SourceRefused(f"{said}: it redirects, which is not followed")
    wait = retry_after(reply.headers.get("retry-after", ""))
    if status in (408, 425, 429) or (status == 503 and wait is not None):
        raise Throttled(said, retry_after=wait)
    raise ServerFailed(said) if status >= 500 else Declined(said)
