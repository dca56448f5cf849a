"""Every call against the sandbox, and what becomes of sinks when things go wrong."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
import pytest

from migrator.errors import (
    Again,
    BadRequest,
    NotFound,
    NotXml,
    PartialReply,
    ServerFailed,
    SourceError,
    SourceRefused,
    Truncated,
    UnexpectedReply,
    WrongTicket,
)
from migrator.events import Event, Retrying
from migrator.sandbox.kayako import ATTACHMENT_FAULTS, Helpdesk, SandboxOptions, SandboxServer
from migrator.sources.base import Attachment, Contents, in_pool
from migrator.sources.kayako import articles
from migrator.sources.kayako.client import Client
from migrator.sources.kayako.signing import Credentials, KayakoSettings, UrlForm
from migrator.sources.kayako.transport import BLOCK

T = TypeVar("T")
Call = Callable[[Client], Awaitable[T]]
Handler = Callable[[httpx.Request], httpx.Response]

MEBIBYTE = 1 << 20
API_KEY = "5a1c8f0e-1d7b-4c5e-9f53-8d0d6f6b2a11"
EVERYTHING = bytes(range(256)) * 4 + b"\xfb\xef\xbe\xff\xff\xfe"
"""All bytes; its base64 holds plus and slash, which a form must escape."""


class Sink:
    """Keeps what it is given, and knows whether it had to forget it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.writes = 0
        self.threads: set[str] = set()
        self.aborted = 0

    def write(self, data: bytes, /) -> None:
        """Take bytes."""
        self.data += data
        self.writes += 1
        self.threads.add(threading.current_thread().name)

    def abort(self) -> None:
        """Forget them."""
        self.aborted += 1

    @property
    def sha256(self) -> str:
        """The hash of all that came."""
        return hashlib.sha256(self.data).hexdigest()


async def no_wait(_seconds: float) -> None:
    """Let the others run instead of waiting."""
    await asyncio.sleep(0)


@asynccontextmanager
async def open_source(
    server: SandboxServer | None = None, handler: Handler | None = None, **changes: Any
) -> AsyncIterator[Client]:
    """Open a source on a sandbox, or on a function that answers."""
    inner = httpx.MockTransport(handler) if handler else None
    url = server.url if server else "http://help.example.com/api/index.php"
    keys = (server.api_key, server.secret_key) if server else (API_KEY, "secret")
    outside = {name: changes.pop(name) for name in ("pool", "listener") if name in changes}
    settings = KayakoSettings(url, changes.pop("credentials", Credentials(*keys)), **changes)
    async with Client(settings, inner=inner, sleep=no_wait, **outside) as source:
        yield source


def ask(to: SandboxServer | Handler, call: Call[T], **changes: Any) -> T:
    """Make a call."""

    async def main() -> T:
        server = to if isinstance(to, SandboxServer) else None
        handler = None if isinstance(to, SandboxServer) else to
        async with open_source(server, handler, **changes) as source:
            return await call(source)

    return asyncio.run(main())


def replying(status: int = 200, **parts: Any) -> Handler:
    """Answer every request in the same way."""
    return lambda _request: httpx.Response(status, **parts)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the proxies of the machine that runs the tests out of them."""
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture(scope="module")
def calm() -> Iterator[SandboxServer]:
    """Serve a helpdesk that nothing is wrong with, to tests that change nothing in it."""
    with SandboxServer(Helpdesk.build(SandboxOptions(big=(3 * MEBIBYTE,)))) as server:
        yield server


@pytest.fixture
def busy(request: pytest.FixtureRequest) -> Iterator[SandboxServer]:
    """Serve a helpdesk of this test's own, with the faults that it names."""
    faults = frozenset(getattr(request, "param", ()))
    with SandboxServer(Helpdesk.build(SandboxOptions(tickets=40, faults=faults))) as server:
        yield server


# Lists


def test_departments(calm: SandboxServer) -> None:
    """All departments come, those of other apps too, with their parents."""
    found = ask(calm, lambda source: source.departments())
    truth = calm.helpdesk.departments.values()
    assert [(d.id, d.title, d.app, d.type, d.parent_id) for d in found] == [
        (d.id, d.title, d.app, d.type, d.parent_id) for d in truth
    ]


def test_statuses(calm: SandboxServer) -> None:
    """All statuses come, with their departments and whether they end a ticket."""
    found = ask(calm, lambda source: source.statuses())
    truth = calm.helpdesk.statuses.values()
    assert [(s.id, s.title, s.department_id, s.resolved) for s in found] == [
        (s.id, s.title, s.department_id, s.resolved) for s in truth
    ]


def test_pages_of_tickets(calm: SandboxServer) -> None:
    """Pages hold all tickets of the departments, closed ones too, in the order asked for."""
    desk = calm.helpdesk
    listed = [ticket for ticket in desk.tickets.values() if ticket.department_id]

    async def walk(source: Client) -> list[int]:
        pages = [
            await source.tickets_page([1, 2, 4, 5], desk.statuses, count=10, start=start)
            for start in range(0, len(listed) + 10, 10)
        ]
        assert max(map(len, pages)) == 10
        return [ticket.id for page in pages for ticket in page]

    assert ask(calm, walk) == sorted(ticket.id for ticket in listed)


def test_tickets_by_activity(calm: SandboxServer) -> None:
    """Tickets can be had by their last activity, the latest first."""
    found = ask(
        calm,
        lambda source: source.tickets_page(
            [1, 2], [1, 2, 3], count=5, start=0, sort="lastactivity", order="DESC"
        ),
    )
    activity = [ticket.last_activity for ticket in found]
    assert len(activity) == 5
    assert activity == sorted(activity, reverse=True)


def test_the_address_of_a_page() -> None:
    """A page is asked for with ids in commas and all eight arguments."""
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params["e"])
        return httpx.Response(200, content=b"<tickets>\n</tickets>")

    page = ask(handler, lambda source: source.tickets_page([1, 2], [3, 4], count=50, start=100))
    assert page == []
    assert asked == ["/Tickets/Ticket/ListAll/1,2/3,4/-1/-1/50/100/ticketid/ASC"]


def test_ticket_count(calm: SandboxServer) -> None:
    """The count is that of the list under the same rules."""
    desk = calm.helpdesk
    open_ones = [t for t in desk.tickets.values() if t.department_id == 1 and t.status_id == 1]
    assert ask(calm, lambda source: source.ticket_count([1], [1])) == len(open_ones)


@pytest.mark.parametrize("busy", [["no_count"]], indirect=True)
def test_no_ticket_count(busy: SandboxServer) -> None:
    """A server without GetTicketCount, which takes the name for an id, cannot say."""
    assert ask(busy, lambda source: source.ticket_count([1], [1])) is None


@pytest.mark.parametrize(
    "reply",
    [
        httpx.Response(200, text="Uncaught Exception"),
        httpx.Response(400, text="No"),
        httpx.Response(200, text="<tickets></tickets>"),
    ],
    ids=["not xml", "rejected", "without a count"],
)
def test_other_ways_to_have_no_ticket_count(reply: httpx.Response) -> None:
    """However a server says that it cannot count, it cannot say."""
    assert ask(lambda _: reply, lambda source: source.ticket_count([1], [1])) is None


def test_a_ticket_count_that_fails() -> None:
    """A server that fails while counting has not said that it cannot."""
    with pytest.raises(ServerFailed):
        ask(replying(500), lambda source: source.ticket_count([1], [1]))


def test_a_ticket(calm: SandboxServer) -> None:
    """A ticket comes with its mask, its header and its posts."""
    truth = next(t for t in calm.helpdesk.tickets.values() if t.department_id)
    found = ask(calm, lambda source: source.ticket(truth.id))
    assert (found.id, found.display_id, found.department_id, found.status_id) == (
        truth.id,
        truth.mask,
        truth.department_id,
        truth.status_id,
    )
    assert (found.full_name, found.email) == (truth.user, truth.email)
    assert (found.created_at, found.last_activity) == (truth.created_at, truth.last_activity)
    posts = calm.helpdesk.posts_of(truth.id)
    assert [(p.id, p.ticket_id, p.created_at, p.creator) for p in found.posts] == [
        (p.id, truth.id, p.dateline, p.creator) for p in posts
    ]


def test_a_merged_ticket(calm: SandboxServer) -> None:
    """A merged ticket answers with its survivor; asked for attachments it lists none."""
    ((old, into), *_) = calm.helpdesk.merges.items()
    assert ask(calm, lambda source: source.ticket(old)).id == into
    assert ask(calm, lambda source: source.attachments(old)) == []
    moved = ask(calm, lambda source: source.attachments(into))[0]
    with pytest.raises(WrongTicket):
        ask(calm, lambda source: source.fetch(old, moved.id, Sink))


def test_a_trashed_ticket(calm: SandboxServer) -> None:
    """A trashed ticket still answers, from department 0."""
    trashed = next(t.id for t in calm.helpdesk.tickets.values() if not t.department_id)
    assert ask(calm, lambda source: source.ticket(trashed)).department_id == 0


def test_a_deleted_ticket(calm: SandboxServer) -> None:
    """A ticket that is not there is not found, and that is not asked twice."""
    before = len(calm.requests)
    with pytest.raises(NotFound, match="ticket 999999"):
        ask(calm, lambda source: source.ticket(999_999))
    assert len(calm.requests) == before + 1


@pytest.mark.parametrize(
    "body",
    [b"<tickets></tickets>", b'<tickets><ticket id="1"/><ticket id="2"/></tickets>'],
    ids=["none", "two"],
)
def test_a_ticket_is_one(body: bytes) -> None:
    """A reply with none or several tickets is no answer to a question for one."""
    with pytest.raises(UnexpectedReply, match=r"holds [02] tickets"):
        ask(replying(content=body), lambda source: source.ticket(1))


@pytest.mark.parametrize("busy", [["random_order"]], indirect=True)
def test_attachments(busy: SandboxServer) -> None:
    """The attachments of a ticket come by id, in whatever order they are sent."""
    desk = busy.helpdesk
    ticket = max(desk.tickets, key=lambda one: len(desk.attachments_of(one)))
    found = ask(busy, lambda source: source.attachments(ticket))
    assert [(a.id, a.ticket_id, a.post_id, a.filesize, a.created_at) for a in found] == [
        (a.id, ticket, a.post_id, a.filesize, a.dateline) for a in desk.attachments_of(ticket)
    ]
    assert len(found) > 5


@pytest.mark.parametrize("form", list(UrlForm))
def test_both_forms_of_address(calm: SandboxServer, form: UrlForm) -> None:
    """Lists, contents and errors come the same way with both forms of address."""

    async def call(source: Client) -> tuple[int, int]:
        attachment = (await source.attachments(2))[0]
        fetched = await source.fetch(2, attachment.id, Sink)
        with pytest.raises(NotFound):
            await source.ticket(999_999)
        return len(fetched.sink.data), attachment.filesize

    got, declared = ask(calm, call, url_form=form)
    assert got == declared > 0


def listed(*rows: tuple[int, int]) -> bytes:
    """Write a list of attachments, each with its ticket."""
    row = b"<attachment><id>%d</id><ticketid>%d</ticketid></attachment>"
    return b"<attachments>" + b"".join(row % one for one in rows) + b"</attachments>"


def answering(*bodies: bytes) -> tuple[Handler, list[str]]:
    """Give one reply after the other, the last one again and again; tells what was asked."""
    left, asked = list(bodies), []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params["e"])
        return httpx.Response(200, content=left.pop(0) if len(left) > 1 else left[0])

    return handler, asked


def test_a_list_of_another_ticket_is_asked_for_again() -> None:
    """A confused cache is not believed, and once it has come to its senses nothing is missing."""
    handler, asked = answering(listed((1, 9), (2, 9)), listed((3, 7)))
    assert [one.id for one in ask(handler, lambda source: source.attachments(7))] == [3]
    assert len(asked) == 2


def test_a_list_that_stays_confused_is_no_list() -> None:
    """Its rows of the ticket are given with the error, those of another are named."""
    handler, asked = answering(listed((1, 9), (2, 7)))
    with pytest.raises(PartialReply, match="attachment 1 is of ticket 9") as caught:
        ask(handler, lambda source: source.attachments(7))
    assert [one.id for one in caught.value.rows] == [2]
    assert (len(asked), caught.value.attempts) == (4, 4)


def test_contents_of_another_ticket_are_not_believed() -> None:
    """The right id under a wrong ticket is another helpdesk's or another day's attachment."""
    made = Made()
    with pytest.raises(UnexpectedReply, match="names ticket 7 instead"):
        ask(replying(content=document(8)), lambda source: source.fetch(9, 8, made), attempts=1)
    assert [sink.aborted for sink in made.sinks] == [1]


def test_one_attachment_is_one_sink() -> None:
    """A reply that goes on with a second attachment, or a third, ends there."""
    row = document(8).partition(b"<attachments>")[2].partition(b"</attachments>")[0]
    body = b"<attachments>" + row * 20_000 + b"</attachments>"
    made = Made()
    with pytest.raises(UnexpectedReply, match="more than 1 attachment"):
        ask(replying(content=body), lambda source: source.fetch(7, 8, made), attempts=1)
    assert [sink.aborted for sink in made.sinks] == [1]


PAGE = "<html><body>Blocked by rule 942100</body></html>"


@pytest.mark.parametrize(
    ("status", "body"),
    [(302, ""), (403, ""), *((status, PAGE) for status in (403, 404, 405, 406, 413, 414, 451))],
)
def test_a_page_that_is_refused_is_not_the_end(status: int, body: str) -> None:
    """As long as other questions are answered, it is the affair of that page alone."""

    def handler(request: httpx.Request) -> httpx.Response:
        if "TicketStatus" in request.url.params["e"]:
            return httpx.Response(200, text="<ticketstatuses></ticketstatuses>")
        return httpx.Response(status, text=body, headers={"location": "https://sso.example.com/"})

    with pytest.raises(SourceError) as caught:
        ask(handler, lambda source: source.tickets_page([1], [1], count=5, start=0))
    assert caught.value.again is not Again.STOP
    assert ask(handler, lambda source: source.ticket_count([1], [1])) is None


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, '<html><body>"Knowledgebase" SWIFT App does not exist</body></html>'),
        (400, "Not Implemented."),
        (400, "Not Implemented, Call POST /Base/CustomField/Search instead."),
    ],
)
def test_what_a_helpdesk_does_not_offer_is_no_error(status: int, body: str) -> None:
    """An app or a call that it says it does not have; a ticket never is deleted by that."""
    answer = replying(status, text=body)
    with pytest.raises(NotFound):
        ask(answer, lambda source: articles.count(source, "article"))
    with pytest.raises(NotFound):
        ask(answer, lambda source: source.field_definitions())
    with pytest.raises(SourceError) as caught:
        ask(answer, lambda source: source.ticket(5))
    assert not isinstance(caught.value, NotFound)


def test_a_source_that_refuses_everything_has_refused_us() -> None:
    """Then the run has to stop."""
    with pytest.raises(SourceRefused):
        ask(replying(302), lambda source: source.tickets_page([1], [1], count=5, start=0))


def test_an_odd_status_is_a_sign_of_life() -> None:
    """One damaged row does not make a server that answers look dead."""

    def handler(request: httpx.Request) -> httpx.Response:
        if "TicketStatus" in request.url.params["e"]:
            return httpx.Response(200, text="<ticketstatuses><ticketstatus/></ticketstatuses>")
        return httpx.Response(302)

    with pytest.raises(BadRequest):
        ask(handler, lambda source: source.ticket(1))


def test_what_was_not_understood_hides_no_key() -> None:
    """What a partial reply quotes is scrubbed, too."""
    row = f"<tickets>apikey={API_KEY}<ticket id='1'/></tickets>".encode()
    with pytest.raises(PartialReply) as caught:
        ask(replying(content=row), lambda source: source.ticket(1), attempts=1)
    assert API_KEY not in str(caught.value)
    assert API_KEY not in "".join(caught.value.problems)
    assert caught.value.problems


# Contents


def test_fetch(calm: SandboxServer) -> None:
    """An attachment comes whole, with its record and the number of tries it took."""
    truth = next(a for a in calm.helpdesk.attachments.values() if a.ticket_id == 2)
    fetched = ask(calm, lambda source: source.fetch(2, truth.id, Sink))
    assert fetched.sink.sha256 == truth.sha256
    assert fetched.contents.size == truth.size
    assert fetched.contents.present
    assert fetched.attempts == 1
    assert fetched.contents.attachment.filename == truth.name.decode()
    assert not fetched.sink.aborted


def test_a_big_file_passes_in_blocks(calm: SandboxServer) -> None:
    """A big file passes through the pool block by block and arrives whole."""
    big = max(calm.helpdesk.attachments.values(), key=lambda one: one.size)
    with ThreadPoolExecutor(2, thread_name_prefix="hands") as pool:
        fetched = ask(calm, lambda source: source.fetch(big.ticket_id, big.id, Sink), pool=pool)
    assert (fetched.sink.sha256, len(fetched.sink.data)) == (big.sha256, 3 * MEBIBYTE)
    assert 3 * MEBIBYTE // (2 * BLOCK) <= fetched.sink.writes <= 4 * MEBIBYTE // BLOCK + 2
    assert all(name.startswith("hands") for name in fetched.sink.threads)


@pytest.mark.parametrize("busy", [["all"]], indirect=True)
def test_every_fault(busy: SandboxServer) -> None:
    """Whatever is wrong with an attachment, its fetch tells the truth about it."""
    desk = busy.helpdesk
    for one in ("slow", "throttle", "moved_between"):  # no waits, and no merge under our feet
        desk.set_fault(one, on=False)
    rows = [row for row in desk.attachments.values() if row.fault]

    async def outcome(source: Client, ticket: int, attachment: int) -> tuple[str, str | None]:
        try:
            fetched = await source.fetch(ticket, attachment, Sink)
        except SourceError as error:
            return error.problem, None
        return "" if fetched.contents.present else "source_lost_file", fetched.sink.sha256

    async def call(source: Client) -> dict[str, tuple[str, str | None]]:
        return {
            row.fault: await outcome(source, row.ticket_id, row.id) for row in rows if row.fault
        }

    found = ask(busy, call)
    expected: dict[str, tuple[str, str | None]] = {}
    for row in rows:
        truth = {**desk.trash_truth, **desk.truth}[row.id]
        problem = truth.problem if truth.state != "stored" else None
        expected[row.fault or ""] = (problem or "", truth.sha256)
    nothing = hashlib.sha256(b"").hexdigest()
    expected["missing_file"] = expected["remote_sentence"] = ("source_lost_file", nothing)
    expected["empty_file"] = ("source_lost_file", nothing)  # its size of 0 tells it apart
    assert found == expected
    assert found.keys() == ATTACHMENT_FAULTS.keys()


@pytest.mark.parametrize("busy", [["flaky_500"]], indirect=True)
def test_the_tries_are_told(busy: SandboxServer) -> None:
    """A fetch that succeeds at its third try says so, and the listener heard of the first two."""
    row = next(row for row in busy.helpdesk.attachments.values() if row.fault)
    heard: list[Event] = []
    fetched = ask(
        busy, lambda source: source.fetch(row.ticket_id, row.id, Sink), listener=heard.append
    )
    assert fetched.attempts == 3
    what = f"attachment {row.id} of ticket {row.ticket_id}"
    assert [(e.what, e.problem) for e in heard if isinstance(e, Retrying)] == [
        (what, "server_error")
    ] * 2


@pytest.mark.parametrize("busy", [[], ["doc_shape"]], indirect=True, ids=["posts", "documented"])
def test_attachments_of_a_post(busy: SandboxServer) -> None:
    """All attachments of a post come with all their ids, whichever shape the server sends."""
    desk = busy.helpdesk
    rows = desk.attachments_of(next(a.ticket_id for a in desk.attachments.values()))
    ticket, post = rows[0].ticket_id, rows[0].post_id
    found = ask(busy, lambda source: source.post_attachments(ticket, post, Sink))
    assert [(c.attachment.id, c.attachment.ticket_id, c.attachment.post_id) for c, _ in found] == [
        (row.id, ticket, post) for row in rows if row.post_id == post
    ]
    assert [sink.sha256 for _, sink in found] == [r.sha256 for r in rows if r.post_id == post]


def test_attachments_of_a_post_without_ids() -> None:
    """An old server names neither ticket nor post: they are those that were asked for."""
    body = document(8).replace(b"<ticketid><![CDATA[7]]></ticketid>\n", b"")
    found = ask(replying(content=body), lambda source: source.post_attachments(7, 5, Sink))
    assert [contents.attachment for contents, _ in found] == [Attachment(8, 7, 5, "a.txt", 1)]
    fetched = ask(replying(content=body), lambda source: source.fetch(7, 8, Sink))
    assert fetched.contents.attachment == Attachment(8, 7, 0, "a.txt", 1)


def test_a_post_without_attachments(calm: SandboxServer) -> None:
    """A post without attachments gives none."""
    post = next(p for p in calm.helpdesk.posts.values() if not p.has_attachments)
    assert ask(calm, lambda s: s.post_attachments(post.ticket_id, post.id, Sink)) == []


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("scan+1 & 2/3 ü.pdf", EVERYTHING),
        ("empty.txt", b""),
        ("注文 100%.csv", b"+/" * 999),
    ],
)
def test_there_and_back(busy: SandboxServer, name: str, data: bytes) -> None:
    """A file that is uploaded is listed, comes back byte for byte, and is gone when deleted."""

    async def call(source: Client) -> None:
        post = next(p for p in busy.helpdesk.posts.values() if p.ticket_id == 2)
        before = await source.attachments(2)
        made = await source.upload(2, post.id, name, data)
        assert (made.ticket_id, made.post_id, made.filename, made.filesize) == (
            2,
            post.id,
            name,
            len(data),
        )
        assert await source.attachments(2) == [*before, made]
        fetched = await source.fetch(2, made.id, Sink)
        assert fetched.sink.data == data
        assert fetched.contents.attachment == made
        await source.delete_attachment(2, made.id)
        assert await source.attachments(2) == before
        with pytest.raises(NotFound):
            await source.fetch(2, made.id, Sink)

    ask(busy, call)
    verbs = {verb for verb, path in busy.requests if path.startswith("/Tickets/TicketAttachment")}
    assert verbs == {"GET", "POST", "DELETE"}


# Refusals


@pytest.mark.parametrize("busy", [["auth_fail"], ["api_off"]], indirect=True)
def test_a_server_that_refuses(busy: SandboxServer) -> None:
    """A server that refuses us is asked once."""
    with pytest.raises(SourceRefused):
        ask(busy, lambda source: source.departments())
    assert len(busy.requests) == 1


@pytest.mark.parametrize(
    "refusal",
    [
        httpx.Response(401, text="Request Denied"),
        httpx.Response(302, headers={"location": "https://sso.example.com/login"}),
    ],
    ids=["401", "302"],
)
@pytest.mark.parametrize(
    "call",
    [
        lambda source: source.fetch(3, 7, Sink),
        lambda source: source.attachments(3),
        lambda source: source.ticket(3),
    ],
    ids=["fetch", "list", "ticket"],
)
def test_one_refusal_is_no_refusal_of_us(refusal: httpx.Response, call: Call[object]) -> None:
    """What a firewall refuses alone is the trouble of one row, unless the keys are refused, too."""
    statuses = b"<ticketstatuses><ticketstatus><id>1</id></ticketstatus></ticketstatuses>"

    def firewall(request: httpx.Request) -> httpx.Response:
        if "TicketStatus" in str(request.url):
            return httpx.Response(200, content=statuses)
        return httpx.Response(refusal.status_code, headers=refusal.headers, content=refusal.content)

    with pytest.raises(BadRequest, match="other questions are answered"):
        ask(firewall, call)
    with pytest.raises(SourceRefused):
        ask(replying(refusal.status_code, headers=refusal.headers, content=refusal.content), call)


def test_a_wrong_secret(calm: SandboxServer) -> None:
    """A signature by another secret is refused."""
    other = Credentials(calm.api_key, "not the secret")
    with pytest.raises(SourceRefused, match="FAILED TO AUTHENTICATE"):
        ask(calm, lambda source: source.departments(), credentials=other)


@pytest.mark.parametrize("busy", [["down"]], indirect=True)
def test_a_server_that_is_down(busy: SandboxServer) -> None:
    """A server that is down is asked as often as configured, and the error knows it."""
    with pytest.raises(ServerFailed) as caught:
        ask(busy, lambda source: source.departments(), attempts=3)
    assert caught.value.attempts == len(busy.requests) == 3


@pytest.mark.parametrize(
    "write",
    [
        lambda source: source.upload(1, 1, "a.txt", b"a"),
        lambda source: source.delete_attachment(1, 1),
    ],
    ids=["upload", "delete"],
)
def test_writes_are_sent_once(write: Call[object]) -> None:
    """A write whose answer is lost is not sent again: it may have happened."""
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        return httpx.Response(502)

    with pytest.raises(ServerFailed):
        ask(handler, write)
    assert len(asked) == 1


def test_an_upload_that_makes_two() -> None:
    """A reply to an upload that is not about one attachment is not believed."""
    body = b"<attachments><attachment><id>1</id></attachment><attachment><id>2</id></attachment>"
    with pytest.raises(UnexpectedReply, match="holds 2 attachments"):
        ask(
            replying(content=body + b"</attachments>"),
            lambda source: source.upload(1, 1, "a.txt", b"a"),
        )


def test_a_deletion_that_is_not_sure() -> None:
    """A deletion that is answered with text, as PHP's errors are, is not believed."""
    text = "Uncaught Exception\nRouter: /Tickets/TicketAttachment\nUnable to delete file"
    with pytest.raises(UnexpectedReply, match=r"attachment 8 of ticket 7 may have.*Unable to del"):
        ask(replying(text=text), lambda source: source.delete_attachment(7, 8))
    ask(replying(text=" \n"), lambda source: source.delete_attachment(7, 8))


def quoting(padding: int) -> Handler:
    """Answer as Kayako's connection test does: with what it was sent, after some other text."""

    def handler(request: httpx.Request) -> httpx.Response:
        sent = request.content.decode() or request.url.query.decode()
        return httpx.Response(200, text=f"{'.' * padding} [apikey] => {API_KEY} VARS: {sent}")

    return handler


@pytest.mark.parametrize("padding", [0, 140, 160, 170, 180])
@pytest.mark.parametrize(
    "call",
    [
        lambda source: source.departments(),
        lambda source: source.fetch(1, 1, Sink),
        lambda source: source.upload(1, 1, "a.txt", b"a"),
        lambda source: source.delete_attachment(1, 1),
    ],
    ids=["list", "contents", "upload", "delete"],
)
def test_a_reply_that_quotes_the_request(call: Call[object], padding: int) -> None:
    """An error that quotes a reply that quotes our request shows no key, not even part of one."""
    with pytest.raises((NotXml, UnexpectedReply), match=r"\.\.\.|apikey") as caught:
        ask(quoting(padding), call, attempts=1)
    text = str(caught.value)
    assert API_KEY[:8] not in text
    assert "signature=" not in text.replace("signature=***", "")


def test_a_reply_that_quotes_an_encoded_key() -> None:
    """A key that must be escaped in a query is hidden in that form too."""
    keys = Credentials("k/y+one=two", "secret")
    handler = replying(text="[apikey] => k%2Fy%2Bone%3Dtwo")
    with pytest.raises(NotXml, match=r"\[apikey\] => \*\*\*$"):
        ask(handler, lambda source: source.departments(), credentials=keys, attempts=1)


# Sinks


def document(attachment_id: int, contents: bytes = b"YQ==") -> bytes:
    """Write an attachment of one byte as a server sends it."""
    return (
        b'<?xml version="1.0" encoding="UTF-8"?>\n<attachments>\n<attachment>\n'
        b"<id><![CDATA[%d]]></id>\n<ticketid><![CDATA[7]]></ticketid>\n"
        b"<filename><![CDATA[a.txt]]></filename>\n<filesize><![CDATA[1]]></filesize>\n"
        b"<contents><![CDATA[%b]]></contents>\n</attachment>\n</attachments>"
    ) % (attachment_id, contents)


class Made:
    """Makes sinks and remembers them."""

    def __init__(self, kind: type[Sink] = Sink) -> None:
        self.kind = kind
        self.sinks: list[Sink] = []

    def __call__(self) -> Sink:
        """Make one more."""
        self.sinks.append(self.kind())
        return self.sinks[-1]


@pytest.mark.parametrize(
    ("body", "holds"),
    [(document(9), r"\[9\]"), (b"<attachments>\n</attachments>", "no attachment")],
    ids=["another", "none"],
)
def test_a_reply_to_another_question(body: bytes, holds: str) -> None:
    """A reply with another attachment than the one asked for is not believed, nor its bytes."""
    made = Made()
    with pytest.raises(UnexpectedReply, match=f"attachment 8 of ticket 7 holds {holds}"):
        ask(replying(content=body), lambda source: source.fetch(7, 8, made), attempts=2)
    assert [sink.aborted for sink in made.sinks] == [1] * body.count(b"YQ==") * 2


def test_a_reply_to_the_question() -> None:
    """The very same reply is believed by whoever asked for that attachment."""
    made = Made()
    fetched = ask(replying(content=document(8)), lambda source: source.fetch(7, 8, made))
    assert fetched.contents == Contents(Attachment(8, 7, 0, "a.txt", 1), 1, present=True)
    assert [sink.aborted for sink in made.sinks] == [0]


def test_every_try_has_a_sink_of_its_own() -> None:
    """The bytes of a try that failed are thrown away before the next, and never mixed in."""
    bodies = [document(8)[:-30], document(8)]
    made = Made()
    fetched = ask(
        lambda _: httpx.Response(200, content=bodies.pop(0)),
        lambda source: source.fetch(7, 8, made),
    )
    assert [sink.aborted for sink in made.sinks] == [1, 0]
    assert fetched.sink is made.sinks[1]
    assert fetched.attempts == 2


@pytest.mark.parametrize("busy", [["cut_always"]], indirect=True)
def test_a_cut_reply_leaves_nothing(busy: SandboxServer) -> None:
    """A connection that ends in mid-document is truncated at every try, and leaves no sink."""
    row = next(row for row in busy.helpdesk.attachments.values() if row.fault)
    made = Made()
    with pytest.raises(Truncated) as caught:
        ask(busy, lambda source: source.fetch(row.ticket_id, row.id, made), attempts=3)
    assert caught.value.attempts == 3
    assert [sink.aborted for sink in made.sinks] == [1, 1, 1]


class Full(Sink):
    """A sink on a full disk."""

    def write(self, data: bytes, /) -> None:
        """Fail."""
        raise OSError(28, "No space left on device")


def test_a_sink_that_fails() -> None:
    """What a sink raises passes unchanged, is not tried again, and the sink is cleaned up."""
    made = Made(Full)
    with pytest.raises(OSError, match="No space"):
        ask(replying(content=document(8)), lambda source: source.fetch(7, 8, made))
    assert [sink.aborted for sink in made.sinks] == [1]


class Slow(Sink):
    """A sink whose write takes as long as a test wants."""

    begun = threading.Event()
    go_on = threading.Event()

    def write(self, data: bytes, /) -> None:
        """Write at leisure."""
        self.begun.set()
        assert self.go_on.wait(30)
        assert not self.aborted
        super().write(data)


async def settle() -> None:
    """Let the event loop do all that it can do now."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("times", [1, 3])
def test_cancelled_while_a_thread_writes(times: int) -> None:
    """However often a fetch is cancelled, its sink is cleaned up after the thread has let go."""
    Slow.begun.clear()
    Slow.go_on.clear()
    made = Made(Slow)

    async def main() -> None:
        async with open_source(handler=replying(content=document(8))) as source:
            task = asyncio.create_task(source.fetch(7, 8, made))
            await asyncio.to_thread(Slow.begun.wait, 30)
            for _ in range(times):
                task.cancel()
                await settle()
                assert not task.done()
                assert not made.sinks[0].aborted
            Slow.go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert made.sinks[0].aborted == 1
    assert made.sinks[0].data == b"a"


class Endless(httpx.AsyncByteStream):
    """A body whose first block comes, and whose rest never does."""

    def __init__(self) -> None:
        self.waiting = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Give a block and fall silent."""
        yield document(8, contents=b"A" * BLOCK)[:-40]
        self.waiting.set()
        await asyncio.Event().wait()


def test_cancelled_while_the_network_is_silent() -> None:
    """A fetch that is cancelled while it waits for bytes ends at once and cleans up."""
    made = Made()

    async def main() -> None:
        body = Endless()
        async with open_source(handler=replying(stream=body)) as source:
            task = asyncio.create_task(source.fetch(7, 8, made))
            await body.waiting.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert [sink.aborted for sink in made.sinks] == [1]
    assert made.sinks[0].data


# Work in threads


def test_in_pool() -> None:
    """Work is done in a thread of the pool; its result and its exceptions come back."""

    async def main() -> None:
        with ThreadPoolExecutor(1, thread_name_prefix="hands") as pool:
            name = await in_pool(pool, lambda: threading.current_thread().name)
            assert name.startswith("hands")
            with pytest.raises(ZeroDivisionError):
                await in_pool(pool, lambda: 1 / 0)

    asyncio.run(main())


@pytest.mark.parametrize("times", [1, 2])
def test_in_pool_cancelled(times: int) -> None:
    """Cancelled work is waited for, and an exception of it is dropped without a word."""
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()
    complaints: list[dict[str, Any]] = []

    def work() -> None:
        begun.set()
        assert go_on.wait(30)
        done.set()
        raise ValueError("nobody wants to know any more")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: complaints.append(context))
        task = asyncio.create_task(in_pool(None, work))
        await asyncio.to_thread(begun.wait, 30)
        for _ in range(times):
            task.cancel()
            await settle()
            assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert done.is_set()

    asyncio.run(main())
    gc.collect()  # asyncio complains when it forgets a result that nobody looked at
    assert complaints == []


def test_in_pool_of_a_pool_that_is_shut() -> None:
    """Work that its pool drops before it began is cancelled, for whoever waits for it."""
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go_on.wait(30)

    async def main() -> None:
        pool = ThreadPoolExecutor(1)
        busy = asyncio.create_task(in_pool(pool, work))
        await asyncio.to_thread(begun.wait, 30)
        waiting = [asyncio.create_task(in_pool(pool, work)) for _ in range(2)]
        await settle()
        waiting[0].cancel()
        await settle()
        pool.shutdown(wait=False, cancel_futures=True)
        for one in waiting:
            with pytest.raises(asyncio.CancelledError):
                await one
        go_on.set()
        await busy

    asyncio.run(main())
