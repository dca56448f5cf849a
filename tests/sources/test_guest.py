"""What the transport tells the pacer about the server, and who may pass in an outage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from migrator.errors import NotXml, SourceError, SourceUnreachable, Throttled, UnexpectedReply
from migrator.events import Event, Notice, PaceChanged
from migrator.sources.kayako.client import Client
from migrator.sources.kayako.signing import Credentials, KayakoSettings
from migrator.sources.kayako.transport import BLOCK, LARGE, Transport
from migrator.sources.pace import MISSES_IN_A_ROW, Pacer, Slot

SETTINGS = KayakoSettings(
    "http://help.example.com/api/index.php", Credentials("key-of-the-api", "secret"), concurrency=4
)
STATUSES = b"<?xml version='1.0'?><ticketstatuses></ticketstatuses>"
Handler = Callable[[httpx.Request], httpx.Response]


class Told(Pacer):
    """A pacer that only remembers what it was told."""

    def __init__(self) -> None:
        super().__init__(4)
        self.told: list[str | None] = []

    def answered(self, started: float, kind: str | None) -> None:
        """Remember the kind of a good answer."""
        assert started > 0
        self.told.append(kind)

    def overloaded(self, started: float) -> None:
        """Remember trouble."""
        assert started > 0
        self.told.append("overloaded")


def told(handler: Handler, path: str = "/Base/Department") -> list[str | None]:
    """Make a request whose blocks nobody can use; gives what the pacer was told of it."""
    pacer = Told()

    async def refuse(_block: bytes) -> None:
        raise UnexpectedReply("of no use")

    async def main() -> None:
        transport = Transport(SETTINGS, pacer, inner=httpx.MockTransport(handler))
        try:
            await transport.stream(path, what="it", take=refuse)
        except SourceError:
            pass
        finally:
            await transport.aclose()

    asyncio.run(main())
    return pacer.told


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, ["/Base/Department"]),
        (404, []),
        (500, []),
        (429, ["overloaded"]),
        (502, ["overloaded"]),
        (503, ["overloaded"]),
        (504, ["overloaded"]),
        (408, ["overloaded"]),
        (508, ["overloaded"]),
        (509, ["overloaded"]),
        (521, ["overloaded"]),
        (530, ["overloaded"]),
        (403, []),
        (302, []),
    ],
)
def test_statuses_of_too_much_to_do(status: int, expected: list[str | None]) -> None:
    """A proxy's 502 or 504 tells of the load; a 500 tells of the one attachment, a 404 nothing."""
    assert told(lambda _: httpx.Response(status)) == expected


@pytest.mark.slow
@pytest.mark.parametrize("status", [200, 403, 500])
def test_words_of_too_much_to_do(status: int) -> None:
    """PHP that gets no connection to its database says so at any status: fewer requests at once."""
    line = Line()
    text = "Warning: mysqli::connect(): (HY000/1226): exceeded the 'max_user_connections' resource"

    async def main() -> None:
        inner = httpx.MockTransport(lambda _: httpx.Response(status, text=text))
        async with Client(
            SETTINGS, inner=inner, sleep=line.sleep, listener=line.heard.append
        ) as source:
            with pytest.raises(Throttled, match="max_user_connections"):
                await source.attachments(3)

    asyncio.run(main())
    assert PaceChanged(2, 4, "overloaded") in line.heard


def test_a_timeout_tells_of_the_load() -> None:
    """No answer at all, or none any more in the middle of a body; a cut does not."""

    def refused(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectTimeout("slow", request=request)

    assert told(refused) == ["overloaded"]

    def breaking(error: httpx.HTTPError) -> Handler:
        async def body() -> AsyncIterator[bytes]:
            yield b"<"
            raise error

        return lambda _: httpx.Response(200, content=body())

    kind = "/Base/Department"
    assert told(breaking(httpx.ReadTimeout("slow"))) == [kind, "overloaded"]
    assert told(breaking(httpx.ReadError("cut"))) == [kind]


def test_what_the_reader_makes_of_a_reply_is_no_load() -> None:
    """An answer counts with its head; whether somebody reads on does not matter."""
    assert told(lambda _: httpx.Response(200, content=b"x" * BLOCK)) == ["/Base/Department"]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/Tickets/TicketAttachment/12/34", "/Tickets/TicketAttachment"),
        ("/Tickets/TicketAttachment/ListAll/12", "/Tickets/TicketAttachment/ListAll"),
        ("/Tickets/Ticket/ListAll/1,2/-1/-1/-1/100/0/ticketid/ASC", "/Tickets/Ticket/ListAll"),
        ("/Tickets/Ticket/ListAll/-1/3", "/Tickets/Ticket/ListAll"),
    ],
)
def test_kinds_are_paths_without_their_numbers(path: str, kind: str) -> None:
    """All attachments are of one kind, all lists of another."""
    assert told(lambda _: httpx.Response(200), path) == [kind]


@pytest.mark.parametrize(("size", "kind"), [(LARGE, "/Base/Department"), (LARGE + 1, None)])
def test_large_replies_are_slow_for_their_size(size: int, kind: str | None) -> None:
    """They count as good answers, and not in what is slow."""
    headers = {"Content-Length": str(size)}
    assert told(lambda _: httpx.Response(200, headers=headers, content=b"")) == [kind]


def test_a_good_answer_without_a_kind_counts() -> None:
    """Large replies, too, give requests back that trouble had taken."""
    pacer = Pacer(2)
    pacer.overloaded(pacer.clock())
    for _ in range(16):
        pacer.answered(pacer.clock(), None)
    assert pacer.limit == 2


def test_an_urgent_request_passes_a_closed_gate() -> None:
    """Only Transport.get can ask for it, and only when told to."""
    slots: list[bool] = []

    class Watched(Pacer):
        def slot(self, what: str = "", *, urgent: bool = False) -> Slot:
            slots.append(urgent)
            return super().slot(what, urgent=urgent)

    async def main() -> None:
        inner = httpx.MockTransport(lambda _: httpx.Response(200))
        transport = Transport(SETTINGS, Watched(1), inner=inner)
        await transport.get("/a", what="it")
        await transport.get("/a", what="it", urgent=True)
        await transport.post("/a", {}, contents=b"", what="it")
        await transport.delete("/a", what="it")
        await transport.aclose()

    asyncio.run(main())
    assert slots == [False, True, False, False]


# A source in an outage


class Line:
    """A server behind a line that we can cut; counts what comes through to it and what does not."""

    def __init__(self) -> None:
        self.down: Exception | int | None = None
        self.asked: list[str] = []
        self.in_vain: list[str] = []
        self.slept: list[float] = []
        self.heard: list[Event] = []
        self.until = 0
        self.echo = b""
        self.waiting = asyncio.Event()

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer every question with a list of no statuses, or as a dead server does."""
        path = request.url.params["e"]
        if self.down is not None:
            self.in_vain.append(path)
            if isinstance(self.down, int):
                return httpx.Response(self.down)
            raise self.down
        self.asked.append(path)
        return httpx.Response(200, content=self.echo or STATUSES)

    async def sleep(self, seconds: float) -> None:
        """Wait between looks; the line comes back after so many waits."""
        if seconds >= 4:
            self.slept.append(seconds)
            self.waiting.set()
            if len(self.slept) == self.until:
                self.down = None
        await asyncio.sleep(0)

    def play(self, story: Callable[[Client], Awaitable[None]], *, patient: bool = True) -> None:
        """Let a story happen to a source at this line."""

        async def main() -> None:
            inner = httpx.MockTransport(self.answer)
            async with Client(
                SETTINGS,
                inner=inner,
                sleep=self.sleep,
                listener=self.heard.append,
                patient=patient,
            ) as source:
                await source.statuses()
                await story(source)

        asyncio.run(main())

    def said(self) -> list[str]:
        """Give the notices."""
        return [event.text for event in self.heard if isinstance(event, Notice)]


@pytest.mark.parametrize("down", [httpx.ConnectError("refused"), 503, 502], ids=str)
def test_a_source_sits_an_outage_out(down: Exception | int) -> None:
    """All calls get their answer, and while the server was away it got one request per look."""
    line = Line()
    line.until = 4

    async def story(source: Client) -> None:
        line.down = down
        await asyncio.gather(*(source.statuses() for _ in range(30)))

    line.play(story)
    assert len(line.said()) == 5
    assert len(line.in_vain) <= MISSES_IN_A_ROW + SETTINGS.concurrency + line.until
    assert PaceChanged(2, 4, "overloaded") in line.heard


def test_without_patience_calls_fail_by_themselves() -> None:
    """By hand nobody wants to wait: four tries, and the error is told."""
    line = Line()

    async def story(source: Client) -> None:
        line.down = httpx.ConnectError("refused")
        for _ in range(10):
            with pytest.raises(SourceUnreachable):
                await source.statuses()

    line.play(story, patient=False)
    assert (line.slept, len(line.in_vain)) == ([], 40)


def test_a_page_about_maintenance_is_no_sign_of_life() -> None:
    """A server whose every reply is a page with status 200 is waited for like one that is off."""
    line = Line()
    line.until = 2
    page = httpx.Response(200, html="<html><title>Back soon</title></html>")

    def answer(request: httpx.Request) -> httpx.Response:
        if line.down is None:
            return httpx.Response(200, content=STATUSES)
        line.in_vain.append(request.url.params["e"])
        return page

    line.answer = answer  # type: ignore[method-assign]

    async def story(source: Client) -> None:
        line.down = NotXml("a page")
        await source.statuses()

    line.play(story)
    assert line.said()[0].startswith("the source does not answer (not xml)")


def test_a_source_closed_in_an_outage_leaves_nothing_behind() -> None:
    """Whoever looks for the server is stopped before the connections are closed."""
    line = Line()

    async def main() -> None:
        inner = httpx.MockTransport(line.answer)
        async with Client(SETTINGS, inner=inner, sleep=line.sleep, patient=True) as source:
            await source.statuses()
            line.down = 503
            asked = asyncio.create_task(source.statuses())
            async with asyncio.timeout(5):
                await line.waiting.wait()
            asked.cancel()
        assert asyncio.all_tasks() <= {asyncio.current_task(), asked}

    asyncio.run(main())


def test_no_credentials_in_what_is_said_of_an_outage() -> None:
    """The reason may quote the server, which may quote us."""
    line = Line()

    async def story(source: Client) -> None:
        line.echo = b"You sent apikey=key-of-the-api"
        with pytest.raises(SourceUnreachable) as caught:
            await source.statuses()
        assert "key-of-the-api" not in str(caught.value)

    line.play(story)
    assert "key-of-the-api" not in " ".join(line.said())
