"""Runs against a server that goes away, comes back, stays away, or is slow for a while."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from migrator.archive import Archive
from migrator.errors import SourceDown
from migrator.events import AttachmentSettled, Event, Notice, PaceChanged
from migrator.pull.fetch import Fetcher
from migrator.pull.options import RunOptions, RunResult, Stop
from migrator.pull.run import run
from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer
from migrator.sources.kayako.client import Client
from migrator.sources.kayako.connections import Connections
from migrator.sources.kayako.signing import Credentials, KayakoSettings
from migrator.sources.kayako.source import KayakoSource
from migrator.sources.pace import MISSES_IN_A_ROW, waits
from tests.pull.doubles import Ear, states

pytestmark = pytest.mark.slow

ATTEMPTS = 4
FETCH = re.compile(r"/Tickets/TicketAttachment/\d+/(\d+)$")
STATUSES = "/Tickets/TicketStatus"
Wrong = Callable[[str], httpx.Response | None]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the proxies of the machine that runs the tests out of them."""
    monkeypatch.setenv("NO_PROXY", "*")


class Clock:
    """Time that passes only when we say so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Line(httpx.AsyncBaseTransport):
    """The network, in which each request takes ``slow`` seconds of our clock.

    ``wrong`` may answer a path in place of the server.
    """

    def __init__(self, clock: Clock, wrong: Wrong = lambda _path: None) -> None:
        self.inner = Connections(None)
        self.clock = clock
        self.wrong = wrong
        self.slow = 0.1
        self.asked: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = str(request.url.params["e"])
        self.asked.append(path)
        self.clock.now += self.slow
        return self.wrong(path) or await self.inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self.inner.aclose()

    def fetches(self) -> dict[int, int]:
        """Count the requests for each attachment."""
        found: dict[int, int] = {}
        for path in self.asked:
            if match := FETCH.search(path):
                found[int(match[1])] = found.get(int(match[1]), 0) + 1
        return found


class World:
    """A helpdesk, its server, an archive, and a run between them.

    ``waited`` are the waits between two looks for a server that is gone; at each ``then`` is
    called with their number so far.
    """

    def __init__(
        self,
        archive: Archive,
        *,
        tickets: int = 24,
        concurrency: int = 8,
        wrong: Wrong = lambda _path: None,
    ) -> None:
        self.archive = archive
        self.desk = Helpdesk.build(SandboxOptions(seed=3, tickets=tickets))
        self.server = SandboxServer(self.desk)
        self.concurrency = concurrency
        self.wrong = wrong
        self.waited: list[float] = []
        self.then: Callable[[int], object] = lambda _count: None
        self.on: Callable[[Event], object] = lambda _event: None
        self.stop = Stop()
        self.ear = Ear(self.hear)
        self.clock = Clock()
        self.line = Line(self.clock, wrong)

    def hear(self, event: Event) -> None:
        """Do what a test wants done at an event."""
        self.on(event)

    async def sleep(self, seconds: float) -> None:
        """Wait as a run does, but only for a moment of real time."""
        if seconds >= 4:
            self.waited.append(seconds)
            self.then(len(self.waited))
        self.clock.now += seconds
        await self.stop.sleep(0.001)

    def pull(
        self,
        url: str | None = None,
        *,
        recheck: bool = False,
        posts: bool = False,
        between: Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport] = lambda line: line,
    ) -> RunResult:
        """Do one run, with something ``between`` us and the network."""
        keys = Credentials(self.server.api_key, self.server.secret_key)
        settings = KayakoSettings(
            url or self.server.url,
            keys,
            concurrency=self.concurrency,
            timeout=20,
            attempts=ATTEMPTS,
            page_size=20,
        )
        options = RunOptions("x", concurrency=self.concurrency, recheck=recheck, posts=posts)
        self.line = Line(self.clock, self.wrong)
        self.ear.heard.clear()
        self.stop = Stop()  # one is good for one event loop

        async def main(pool: ThreadPoolExecutor) -> RunResult:
            async with Client(
                settings,
                pool=pool,
                inner=between(self.line),
                listener=self.ear,
                sleep=self.sleep,
                clock=self.clock,
                patient=True,
            ) as client:
                source = KayakoSource(client, page_size=20, concurrency=self.concurrency)
                fetcher = Fetcher(source, self.archive.blobs, pool)
                return await run(
                    source, self.archive, fetcher, options, listener=self.ear, stop=self.stop
                )

        with ThreadPoolExecutor(4) as pool:
            return asyncio.run(main(pool))

    def after(self, settled: int, do: Callable[[], object]) -> None:
        """Do something once so many attachments are settled."""
        seen = 0

        def hear(event: Event) -> None:
            nonlocal seen
            seen += isinstance(event, AttachmentSettled)
            if seen == settled:
                seen += 1
                do()

        self.on = hear

    def whole(self) -> bool:
        """Tell whether every attachment is stored with the right bytes."""
        rows = {row.id: (row.state.value, row.sha256) for row in self.archive.queries.rows()}
        return rows == {key: (one.state, one.sha256) for key, one in self.desk.truth.items()}

    def notices(self) -> list[str]:
        """Give what was told about the source."""
        return [one.text for one in self.ear.of(Notice) if "the source" in one.text]


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("settled", [1, 30])
def test_an_outage_in_mid_run_costs_time_only(
    archive: Archive, concurrency: int, settled: int
) -> None:
    """A server that is down for a minute: exit 0, everything stored, and it was left in peace."""
    world = World(archive, concurrency=concurrency)
    with world.server as server:
        before = 0

        def fall() -> None:
            nonlocal before
            before = len(server.requests)
            world.desk.set_fault("down", on=True)

        def rise(count: int) -> None:
            if count == 3:
                down = len(server.requests) - before
                assert down <= MISSES_IN_A_ROW + 2 * concurrency + count
                world.desk.set_fault("down", on=False)

        world.after(settled, fall)
        world.then = rise
        result = world.pull()
    assert (result.exit_code, result.ended_by, result.unlisted) == (0, None, {})
    assert world.whole()
    assert len(world.notices()) == 4
    assert {one.state for one in world.ear.of(AttachmentSettled)} == {"stored"}


def test_a_server_that_is_restarted_is_found_again(archive: Archive) -> None:
    """Connections are refused, those we hold are dead, then the same port answers again."""
    world = World(archive)
    with world.server as server:
        url = server.url
        port = httpx.URL(url).port
        other = SandboxServer(world.desk, port=port or 0)
        world.after(20, server.stop)
        world.then = lambda count: other.start() if count == 2 else None
        try:
            result = world.pull(url)
        finally:
            other.stop()
    assert (result.exit_code, len(world.waited)) == (0, 2)
    assert world.whole()


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_server_that_stays_away_ends_the_run(archive: Archive, concurrency: int) -> None:
    """Exit 4, how to go on, a bounded number of requests; nothing is held against a file."""
    world = World(archive, concurrency=concurrency)
    with world.server as server:
        before = 0

        def fall() -> None:
            nonlocal before
            before = len(server.requests)
            world.desk.set_fault("down", on=True)

        world.after(20, fall)
        result = world.pull()
        in_vain = len(server.requests) - before
        assert result.exit_code == 4
        assert isinstance(result.ended_by, SourceDown)
        assert "run the same command again; it resumes" in str(result.ended_by)
        assert in_vain <= MISSES_IN_A_ROW + 3 * concurrency + len(list(waits(600)))
        assert set(states(archive).values()) <= {"stored", "pending"}
        world.desk.set_fault("down", on=False)
        assert world.pull().exit_code == 0
    assert world.whole()


def test_a_stop_ends_a_pause_at_once(archive: Archive) -> None:
    """Ctrl-C while the run waits for the server: 130, and no further look."""
    world = World(archive)
    with world.server as server:
        world.after(20, lambda: world.desk.set_fault("down", on=True))

        before: list[int] = []

        def stop(_count: int) -> None:
            before.append(len(server.requests))
            world.stop.ask()

        world.then = stop
        result = world.pull()
        assert len(server.requests) == before[0]
    assert (result.exit_code, len(world.waited)) == (130, 1)
    assert set(states(archive).values()) <= {"stored", "pending"}


def broken(path: str) -> httpx.Response | None:
    """Answer every fetch with a status of 500."""
    return httpx.Response(500) if FETCH.search(path) else None


@pytest.mark.parametrize("concurrency", [1, 8])
def test_broken_attachments_end_no_run_however_many(archive: Archive, concurrency: int) -> None:
    """The server answers all else: nothing pauses, and it is not looked for all the time."""
    world = World(archive, concurrency=concurrency, wrong=broken)
    with world.server:
        result = world.pull()
    count = len(world.desk.truth)
    assert result.exit_code == 3
    assert set(states(archive).values()) == {"failed"}
    assert world.waited == []
    assert world.line.fetches() == dict.fromkeys(world.desk.truth, ATTEMPTS)
    looks = world.line.asked.count(STATUSES) - 1
    # At most one for each; without lists in between, whose answers make us watchful, ever fewer.
    assert looks < count / 2


def test_a_single_broken_attachment_ends_no_run(archive: Archive) -> None:
    """It fails as often as it may, and everything else is stored."""
    bad = max(World(archive).desk.truth)
    world = World(archive, wrong=lambda path: broken(path) if path.endswith(f"/{bad}") else None)
    with world.server:
        assert world.pull().exit_code == 3
    assert [key for key, state in states(archive).items() if state != "stored"] == [bad]
    assert (world.line.fetches()[bad], world.waited) == (ATTEMPTS, [])


def contents(attachment: int, size: int, data: str) -> httpx.Response:
    """Answer a fetch with bytes of a size that the row denies."""
    return httpx.Response(
        200,
        text=f"<?xml version='1.0' encoding='UTF-8'?><attachments><attachment><id>{attachment}</id>"
        f"<ticketpostid>1</ticketpostid><filename>a</filename>"
        f"<filesize>{size}</filesize><filetype>x</filetype><dateline>1</dateline>"
        f"<contents><![CDATA[{data}]]></contents></attachment></attachments>",
    )


@pytest.mark.parametrize(
    ("wobbly", "tries", "problem"),
    [(True, 2 * ATTEMPTS, "other_reply"), (False, ATTEMPTS, "server_error")],
)
def test_tries_are_capped_per_run_and_not_for_ever(
    archive: Archive, *, wobbly: bool, tries: int, problem: str
) -> None:
    """At most twice the attempts, even when both fetches wobble and differ; then the next run."""
    turn: dict[int, int] = {}

    def wrong(path: str) -> httpx.Response | None:
        if (match := FETCH.search(path)) is None:
            return None
        key = int(match[1])
        turn[key] = turn.get(key, 0) + 1
        if not wobbly or turn[key] % ATTEMPTS:
            return httpx.Response(500)
        return contents(key, 1000, "QUFB" * (turn[key] // ATTEMPTS))

    world = World(archive, tickets=8, wrong=wrong)
    with world.server:
        for runs in (1, 2):
            assert world.pull().exit_code == 3
            assert world.line.fetches() == dict.fromkeys(world.desk.truth, tries)
            rows = list(archive.queries.rows())
            assert {row.problem for row in rows} == {problem}
            assert {row.attempts for row in rows} == {runs * tries}
        world.wrong = lambda _path: None
        assert world.pull(recheck=True).exit_code == 0
    assert world.whole()


def test_a_slow_server_gets_fewer_requests_for_a_while(archive: Archive) -> None:
    """The number at once goes down and comes back, and the events tell it."""
    world = World(archive, tickets=70, concurrency=4)

    def slow() -> None:
        world.line.slow = 6.0

    def fast(event: Event) -> None:
        slowed(event)
        if isinstance(event, PaceChanged) and event.limit == 1:
            world.line.slow = 0.1

    world.after(20, slow)
    slowed, world.on = world.on, fast
    with world.server:
        assert world.pull().exit_code == 0
    told = [(one.limit, one.reason) for one in world.ear.of(PaceChanged)]
    down = [(3, "slow"), (2, "slow"), (1, "slow")]
    up = [(2, "recovered"), (3, "recovered"), (4, "recovered")]
    assert told == down + up
    assert {one.most for one in world.ear.of(PaceChanged)} == {4}
    assert world.whole()
