"""Links to static files: found however they are written, and never one of another host."""

from __future__ import annotations

import asyncio
import html
import time
from urllib.parse import quote

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from migrator.errors import (
    Again,
    BadRequest,
    NotFound,
    ServerFailed,
    SourceError,
    Throttled,
)
from migrator.sources.base import Fetched, HashSink
from migrator.sources.kayako.client import Client
from migrator.sources.kayako.links import FIRST_LINKED, Portal, attachments, find
from migrator.sources.kayako.signing import Credentials, KayakoSettings
from migrator.sources.kayako.source import KayakoSource

SHA = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
PNG = f"1546300800{SHA}.png"
FILE = "file_abcdefghij12345.pdf"
PATH = f"/__swift/files/{PNG}"

HELP = Portal("help.example.com", 443, "")
DEEP = Portal("example.com", 80, "/support")


def portal(url: str) -> Portal:
    found = Portal.of(url)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://help.example.com/api/index.php", HELP),
        ("http://EXAMPLE.com/support/api/index.php", DEEP),
        ("http://example.com:8080/api/index.php", Portal("example.com", 8080, "")),
        ("https://hilfe.müller.de./api/index.php", Portal("hilfe.xn--mller-kva.de", 443, "")),
    ],
)
def test_the_portal_follows_from_the_api(url: str, place: Portal) -> None:
    assert Portal.of(url) == place


@pytest.mark.parametrize(
    "url", ["", "help.example.com", "ftp://x/api/index.php", "http://x:99999/"]
)
def test_no_address_has_no_portal(url: str) -> None:
    assert Portal.of(url) is None


@pytest.mark.parametrize(
    "address",
    [
        f"https://help.example.com{PATH}",
        f"http://help.example.com{PATH}",
        f"HTTPS://HELP.Example.COM.{PATH}",
        f"https://www.help.example.com{PATH}",
        f"https://help.example.com:443{PATH}",
        f"http://help.example.com:80{PATH}",
        f"https://help.example.com:{PATH}",
        f"https://someone:secret@help.example.com{PATH}",
        f"https://other.example@help.example.com{PATH}",
        f"https://help.example.com/staff/..{PATH}",
        f"https://help.example.com/{PATH}?x=1#y",
        f"//help.example.com{PATH}",
        PATH,
        PATH[1:],
        f"..{PATH}",
        f"../..{PATH}",
    ],
)
@pytest.mark.parametrize("how", [str, html.escape, lambda one: one.replace("/", "&#47;")])
def test_an_address_in_html_is_found(address: str, how: object) -> None:
    assert callable(how)
    text = f'<p>Hi<img class=x src="{how(address)}" alt=""></p>'
    assert list(find(text, HELP)) == [PATH]


@pytest.mark.parametrize(
    "text",
    [
        f"See https://help.example.com{PATH}.",
        f"(https://help.example.com{PATH})",
        f"[img]https://help.example.com{PATH}[/img]",
        f"<https://help.example.com{PATH}>",
        f"<img src=https://help.example.com{PATH}>",
        f"<img src={PATH} />",
        f"https://mail.example/?u={quote(f'https://help.example.com{PATH}', safe='')}&d=1",
        f"https://mail.example/v3/__https://help.example.com{PATH}__;!!",
        f"https://help.example.com{PATH.replace('__swift', '&#95;&#x5f;swift')}",
        f"https://help.example.com{PATH.replace('__swift', '%5F%5Fswift')}",
    ],
)
def test_an_address_in_any_text_is_found(text: str) -> None:
    assert list(find(text, HELP)) == [PATH]


@pytest.mark.parametrize(
    "address",
    [
        f"https://other.example{PATH}",
        f"https://help.example.com@other.example{PATH}",
        f"https://help.example.com:443@other.example{PATH}",
        f"https://help.example.com%40other.example{PATH}",
        f"https://help.example.com\\@other.example{PATH}",
        f"https://help.example.com\t@other.example{PATH}",
        f"https://help.example.com.other.example{PATH}",
        f"https://xhelp.example.com{PATH}",
        f"https://help.example.com:8443{PATH}",
        f"https://help.example.com:٤٤٣{PATH}",
        f"https://h\N{CYRILLIC SMALL LETTER IE}lp.example.com{PATH}",
        f"//other.example{PATH}",
        f"//help.example.com@other.example{PATH}",
        f"ftp://help.example.com{PATH}",
        f"javascript://help.example.com{PATH}",
        f"https://other.example/?{PATH}",
        f"cid:{PNG}",
        "data:image/png;base64,iVBORw0KGgo=",
        "https://help.example.com/index.php?/Tickets/Ticket/GetAttachment/1/2",
        "https://help.example.com/__swift/files/attach_0123456789abcdef",
        "https://help.example.com/__swift/files/../config/config.php",
        f"https://help.example.com/__swift/files/../{PNG}",
        f"https://help.example.com{PATH}.exe",
        f"https://help.example.com{PATH[:-4]}.php",
        f"https://help.example.com{PATH[:-5]}.png",
        f"https://help.example.com/?x={PATH}",
    ],
)
@pytest.mark.parametrize("frame", ['<img src="{}">', "<img src={}>", " {} "])
def test_another_address_is_not(address: str, frame: str) -> None:
    assert list(find(frame.format(address), HELP)) == []


def test_a_relative_address_is_below_the_portal() -> None:
    text = f'<img src="__swift/files/{PNG}"><a href="/other/__swift/files/{FILE}">'
    assert list(find(text, DEEP)) == [f"/support{PATH}", f"/other/__swift/files/{FILE}"]
    assert list(find(f"see __swift/files/{PNG}", DEEP)) == []


def test_another_port_is_another_server() -> None:
    at = portal("http://example.com:8080/api/index.php")
    assert list(find(f"http://example.com:8080{PATH}", at)) == [PATH]
    assert list(find(f"http://example.com{PATH}", at)) == []


def test_a_link_is_an_attachment_of_its_text() -> None:
    text = f"https://help.example.com{PATH} https://help.example.com/__swift/files/{FILE} {PATH}"
    one, other = attachments(text, HELP, 7, 70)
    assert (one.kind, one.place, one.filename, one.filetype) == ("linked", PATH, PNG, "image/png")
    assert (one.ticket_id, one.post_id, one.created_at) == (7, 70, 1546300800)
    assert (other.filename, other.filetype, other.created_at) == (FILE, "application/pdf", 0)
    ids = {each.id for ticket in (0, 7) for each in attachments(text, HELP, ticket, 0)}
    assert len(ids) == 4
    assert all(FIRST_LINKED <= key < FIRST_LINKED + 2**50 for key in ids)


PARTS = st.sampled_from(
    [
        *("http://", "https://", "//", "/", "\\", "@", ":", ".", "..", "?", "#", "%2F", "%40"),
        *("help.example.com", "other.example", "www.", "&#64;", "&#47;", '"', "src=", " ", "\t"),
        *("__swift/files/", PNG, FILE, PATH, ":443", ":80", "user", "é", "\N{FULLWIDTH SOLIDUS}"),
    ]
)


@given(st.lists(PARTS, max_size=24).map("".join))
@example(f"https://help.example.com{PATH}")
def test_only_paths_of_the_own_host_come_out(text: str) -> None:
    """Whatever is found is a path, and without an attribute or the own host it is nothing."""
    for place in find(text, HELP):
        assert place.startswith("/")
        assert not place.startswith("//")
        assert not {"@", ":", "?", "#", "\\", "%"} & set(place)
        assert ".." not in place.split("/")
    foreign = text.replace("help.example.com", "other.example")
    assert list(find(foreign.replace('"', "").replace("src=", ""), HELP)) == []


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    assert list(find(text, HELP)) == []


@pytest.mark.parametrize(
    "piece",
    [
        *("__swift/files/", "__swift/", "/", "a", "%", "&#", "&#9", "https://", "..", "%25", "&"),
        *("swift%41", "swift%e4é", "swift&#65;"),
        *(f"__swift/files/{PNG}", f"https://help.example.com{PATH}", f"{PATH}a", "x.", "@", '"'),
        f"https://help.example.com{PATH[:-1]}",
        "__swift/files/file_abcdefghij12345.p",
    ],
)
def test_hostile_texts_take_linear_time(piece: str) -> None:
    """Four times the text takes about four times as long, not sixteen times."""

    def seconds(size: int) -> float:
        text = piece * (size // len(piece))
        best = 60.0
        for _ in range(3):
            started = time.thread_time()
            find(text, HELP)
            best = min(best, time.thread_time() - started)
        return best

    small, large = seconds(1 << 16), seconds(1 << 18)
    assert large < 9 * max(small, 0.002), (piece, small, large)


def fetched(answers: dict[str, httpx.Response], asked: list[httpx.Request]) -> Fetched[HashSink]:
    """Fetch the picture from a server with these answers, which notes what it is asked.

    Its API answers always, and is not noted.
    """

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/support/api/index.php":
            return API
        asked.append(request)
        return answers.get(str(request.url), httpx.Response(404))

    url = "https://help.example.com/support/api/index.php"
    settings = KayakoSettings(url, KEYS, attempts=1)

    async def main() -> Fetched[HashSink]:
        async with Client(settings, inner=httpx.MockTransport(answer)) as client:
            return await KayakoSource(client, url=url).fetch_other("linked", PATH, 5, HashSink)

    return asyncio.run(main())


KEYS = Credentials("key", "secret", "someone", "password")
OWN = f"https://help.example.com{PATH}"
OK = httpx.Response(200, content=b"", headers={"content-type": "image/png"})
API = httpx.Response(200, content=b"<ticketstatuses></ticketstatuses>")


@pytest.mark.parametrize(
    "place",
    [
        f"http://help.example.com{PATH}",
        f"https://www.help.example.com{PATH}",
        f"https://help.example.com:8443{PATH}",
        f"https://other.example{PATH}",
        f"//other.example{PATH}",
        f"https://help.example.com@other.example{PATH}",
        f"https://help.example.com\\@other.example{PATH}",
        f"\\\\other.example{PATH}",
        f"/\\other.example{PATH}",
        "https://help.example.com/images/lost.png",
        "/index.php?/Base/User/Login",
        f"https://[other.example{PATH}",
        f"file://{PATH}",
        "",
        PATH,
    ],
)
def test_a_redirect_never_leaves_the_server(place: str) -> None:
    """Not to another host, scheme, port or name, and not in circles."""
    asked: list[httpx.Request] = []
    with pytest.raises(BadRequest):
        fetched({OWN: httpx.Response(302, headers={"location": place})}, asked)
    assert {str(one.url) for one in asked} == {OWN}


def test_a_redirect_to_the_same_file_is_followed() -> None:
    asked: list[httpx.Request] = []
    there = f"https://help.example.com/files/{PNG}?v=1"
    moved = httpx.Response(301, headers={"location": f"/files/{PNG}?v=1"})
    found = fetched({OWN: moved, there: OK}, asked)
    assert (found.contents.present, found.contents.notes) == (True, ())
    assert [str(one.url) for one in asked] == [OWN, there]
    for one in asked:
        assert not {"authorization", "cookie", "referer"} & set(one.headers)
        assert "apikey" not in str(one.url)


def test_redirects_come_to_an_end() -> None:
    asked: list[httpx.Request] = []
    chain = {
        f"https://help.example.com/{n}/{PNG}": httpx.Response(
            302, headers={"location": f"/{n + 1}/{PNG}"}
        )
        for n in range(9)
    }
    moved = httpx.Response(302, headers={"location": f"/0/{PNG}"})
    with pytest.raises(BadRequest):
        fetched({OWN: moved, **chain}, asked)
    assert len({str(one.url) for one in asked}) == 4


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, BadRequest, "it wants a log-in, which is not sent"),
        (403, BadRequest, "does not hand it out (HTTP 403)"),
        (206, BadRequest, "does not hand it out (HTTP 206)"),
        (404, NotFound, "no such file (HTTP 404)"),
        (410, NotFound, "no such file (HTTP 410)"),
        (429, Throttled, ""),
        (500, ServerFailed, ""),
        (503, ServerFailed, ""),
    ],
)
def test_a_status_says_what_became_of_it(status: int, kind: type[SourceError], words: str) -> None:
    """None of them ends a run, whatever the helpdesk's API says to us."""
    with pytest.raises(SourceError) as error:
        fetched({OWN: httpx.Response(status)}, [])
    assert isinstance(error.value, kind)
    assert words in str(error.value)
    assert error.value.again is not Again.STOP


@pytest.mark.parametrize("refused", [1, 2, 3, 6])
@pytest.mark.parametrize(
    ("status", "body"),
    [
        *((401, ""), (403, "<html>no"), (404, ""), (420, ""), (302, ""), (200, "<html>Sign in")),
        (200, ""),
    ],
)
def test_a_ban_is_not_held_against_a_file(status: int, body: str, refused: int) -> None:
    """Where the API turns us away as well, however briefly, the file is asked for again."""
    left = refused

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal left
        if left:
            left -= 1
            return httpx.Response(status, text=body)
        return API if request.url.path == "/support/api/index.php" else OK

    async def main() -> Fetched[HashSink]:
        nonlocal left
        async with Client(
            KayakoSettings("https://help.example.com/support/api/index.php", KEYS),
            inner=httpx.MockTransport(answer),
            sleep=lambda _: asyncio.sleep(0),
            patient=True,
        ) as client:
            left = 0
            await client.statuses()
            left = refused
            return await client.fetch_linked(PATH, 5, HashSink)

    found = asyncio.run(main())
    assert (found.contents.present, found.contents.said) == (True, "")


@pytest.mark.parametrize(
    ("body", "kind", "present", "notes"),
    [
        (b"", "image/png", True, ()),
        (b"x", "image/png", True, ("hash_mismatch",)),
        (b"<html>Sign in", "text/html; charset=UTF-8", False, ()),
        (b"  <!DOCTYPE html><p>Not found", "image/png", False, ()),
        (b"plain words", "Text/HTML", False, ()),
    ],
)
def test_a_page_is_no_picture(
    body: bytes, kind: str, present: bool, notes: tuple[str, ...]
) -> None:
    """Bytes that the name promises are right, whatever the server calls them."""
    reply = httpx.Response(200, content=body, headers={"content-type": kind})
    contents = fetched({OWN: reply}, []).contents
    assert (contents.present, contents.notes) == (present, notes)
    assert bool(contents.said) is not present
