"""What pages show, and what they never do, whatever the helpdesk held."""

from __future__ import annotations

import hashlib
import html
import os
import re
import time
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator import events
from migrator.archive import PostRow, lock
from migrator.archive.records import DeliveredFile, Delivery, Listed, Outcome, PeopleNote, State
from migrator.pull.progress import Progress
from migrator.serve.markup import clean
from migrator.serve.web.site import line, moment
from tests.web.desks import NOON, Desk, Visitor, png

if TYPE_CHECKING:
    from tests.web.conftest import OpenDesk

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '<svg onload=alert(1)><a xlink:href="javascript:alert(1)">x</a></svg>',
    '<a href="javascript:alert(1)">x</a>',
    '<a href=" jAvAsCrIpT&#58;alert(1)">x</a>',
    '<a href="data:text/html,<script>alert(1)</script>">x</a>',
    '<img src="data:image/svg+xml,<svg onload=alert(1)>">',
    '<div style="background:url(https://evil.test/track)">x</div>',
    "<style>*{background:url(https://evil.test/track)}</style>",
    '<meta http-equiv="refresh" content="0;url=https://evil.test/">',
    '<base href="https://evil.test/">',
    '<iframe src="https://evil.test/"></iframe>',
    '<object data="https://evil.test/"></object><embed src="https://evil.test/">',
    '<form action="/sign-out" method="post"><input name="form"><button>Click</button></form>',
    '<link rel="stylesheet" href="https://evil.test/x.css">',
    '<img src="https://evil.test/pixel.gif" srcset="https://evil.test/2x.gif 2x">',
    '<img src="/sign-out"><a href="/attachments/1">x</a><a href="//evil.test">x</a>',
    '<table background="https://evil.test/x.gif"><tr><td>x</table>',
    '<video src="https://evil.test/v" poster="https://evil.test/p" autoplay></video>',
    "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    '<noscript><p title="</noscript><img src=x onerror=alert(1)>">',
    '<p id="main" class="notice bad" onclick="alert(1)">x</p>',
    "<template><script>alert(1)</script></template><!--><img src=x onerror=alert(1)>-->",
    "</article></main></body></html><h1>fake</h1>",
]
_LINK = re.compile(r"(https?|mailto|tel):", re.IGNORECASE)
_ATTRIBUTES = {"dir", "lang", "title", "href", "target", "rel", "src", "alt"}
_ATTRIBUTES |= {"colspan", "rowspan", "scope", "start"}
_TAGS = {"a", "b", "div", "h1", "img", "li", "p", "table", "tbody", "td", "tr", "ul"}


class Elements(HTMLParser):
    """Refuses every element and attribute that could do anything."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in _TAGS, tag
        for name, value in attrs:
            assert name in _ATTRIBUTES, name
            assert name != "src", value
            assert name != "href" or _LINK.match(value or ""), value

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(decl)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)


def check(text: str) -> None:
    """Fail unless the cleaned text is harmless, also when a page holds it."""
    parser = Elements()
    parser.feed(clean(text, {}))
    parser.close()


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_html_is_harmless(text: str) -> None:
    """No script, style, form, frame, image from elsewhere, class or id survives."""
    check(text)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.sampled_from(HOSTILE) | st.text("<>\"'/= abc&;:!-", max_size=20), max_size=6))
def test_mixtures_are_harmless(parts: list[str]) -> None:
    """Nor does any of it come back when the pieces are put together."""
    check("".join(parts))


def test_honest_html_keeps_its_structure() -> None:
    """Paragraphs, lists, tables and links stay; links tell nobody where they were clicked."""
    text = '<p>Hi <b>you</b></p><ul><li>1</li></ul><table><tbody><tr><td colspan="2">x</td></tr>'
    assert clean(text, {}) == f"{text}</tbody></table>"
    link = clean('<a href="https://example.com/a?b=1&amp;c">x</a>', {})
    assert 'href="https://example.com/a?b=1&amp;c"' in link
    assert 'rel="noopener noreferrer nofollow"' in link
    assert 'href="mailto:a@b.test"' in clean('<a href="mailto:a@b.test">x</a>', {})


@pytest.mark.parametrize("name", ["product", "path", "limit", "o:p", "svg", "math", "list", "TEXT"])
def test_unknown_elements_hide_no_text(name: str) -> None:
    """What nobody escaped costs its tag only, also where SVG or MathML have such an element."""
    assert clean(f"a<{name} x>b</{name}>c", {}) == "abc"
    assert clean(f"up to <{name}> users<br>", {}) == "up to  users<br>"


def test_hostile_texts_are_shown_as_text_everywhere(desk: Desk, visitor: Visitor) -> None:
    """Subjects, names, plain posts, file names and search words are text, never markup."""
    evil = "\"><script>alert('x')</script>{{ 7 * 7 }}"
    post = PostRow(771, NOON, author_name=evil, author_email=evil, text=evil)
    desk.ticket(77, post, subject=evil)
    files = [desk.attach(evil, b"x", 77, 771), desk.attach(evil, None, 77, 771, State.FAILED)]
    paths = ["/?q=" + "%22%3E%3Cscript%3Ealert(1)%3C/script%3E", "/", "/tickets/77", "/status"]
    for path in paths + [f"/attachments/{one}" for one in files]:
        page = visitor.get(path).text
        assert "<script" not in page, path
        assert "49" not in re.findall(r"alert\(&#39;x&#39;\)[^<]{0,20}", page), path
    assert (
        html.escape("<script>alert('x')</script>{{ 7 * 7 }}", quote=False).replace("'", "&#39;")
        in visitor.get("/tickets/77").text
    )


def test_every_answer_forbids_script(visitor: Visitor, desk: Desk) -> None:
    """Pages, refusals, redirections and files of our own carry the strict policy."""
    css = re.search(r'href="(/assets/style-\w+\.css)"', visitor.get("/").text)
    assert css is not None
    for path in ("/", "/status", "/sign-in", "/nothing", css[1], "/assets/none", "/tickets/9999"):
        answer = visitor.get(path)
        policy = dict(
            part.strip().split(" ", 1)
            for part in answer.headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'none'", path
        assert policy["base-uri"] == policy["frame-ancestors"] == "'none'"
        assert policy["form-action"] == policy["style-src"] == policy["img-src"] == "'self'"
        assert "script-src" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
    assert "no-store" in visitor.get("/").headers["cache-control"]


def test_pages_have_no_script_and_no_style_of_their_own(desk: Desk, visitor: Visitor) -> None:
    """What the policy forbids is not attempted, and nothing comes from elsewhere."""
    desk.ticket(61, PostRow(611, NOON, text="x"))
    attachment = desk.attach("a.png", png(), 61, 611)
    for path in ("/", "/status", "/tickets/61", f"/attachments/{attachment}"):
        page = visitor.get(path).text
        assert not re.search(r"<script|<style|\sstyle=|\son\w+=|(src|href)=\"https?:|//", page), (
            path
        )


def test_own_files_are_kept_by_browsers(visitor: Visitor) -> None:
    """The address of a style changes with its content, so that it can be kept for ever."""
    found = re.findall(r'"(/assets/[\w.-]+)"', visitor.get("/").text)
    assert found
    for path in set(found):
        answer = visitor.get(path)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    assert visitor.get(found[0]).headers["content-type"].startswith(("text/css", "image/svg+xml"))


@pytest.mark.parametrize(
    ("text", "field", "hit"),
    [
        ("4200", "number", True),
        ("ABC-4200", "number", True),
        ("420", "number", False),
        ("broken printer", "subject", True),
        ("marcus@example", "requester", True),
        ("Marcus", "subject", False),
        ("invoice-77", "filename", True),
        ("invoice-77", "", True),
        ("PRINTER", "", True),
        ("4200", "", True),
        ("no such thing", "", False),
        ("in the KITCHEN", "content", True),
        ("PRINTER", "content", False),
    ],
)
def test_tickets_are_found(desk: Desk, visitor: Visitor, text: str, field: str, hit: bool) -> None:
    """By number, subject, requester or file name, or by any of these; or by what was written."""
    if desk.archive.threads.ticket(4200) is None:
        post = PostRow(42, text="<p>It smokes in the <b>kit</b>chen.</p>", is_html=True)
        desk.ticket(4200, post, subject="My Broken Printer")
        desk.attach("invoice-77.pdf", b"%PDF-1", 4200, 42)
    page = visitor.get("/", params={"q": text, "in": field})
    assert page.status_code == 200
    assert ('href="/tickets/4200"' in page.text) is hit
    assert "More" not in page.text


def test_search_says_how_many_it_found(
    desk: Desk, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All hits are counted up to a bound, the latest are shown, and both is said."""
    for number in range(8000, 8052):
        desk.ticket(number, subject="Flood")
    page = visitor.get("/", params={"q": "Flood"}).text
    assert page.count('href="/tickets/80') == 50
    assert "<h2>52 tickets match</h2>" in page
    assert "The 50 with the latest activity are shown" in page
    monkeypatch.setattr("migrator.serve.web.pages.COUNTED", 51)
    assert "<h2>More than 51 tickets match</h2>" in visitor.get("/", params={"q": "Flood"}).text
    page = visitor.get("/", params={"q": "Flood", "in": "content"}).text
    assert "<h2>No tickets match</h2>" in page
    assert "Searched in: texts, among" in page
    assert visitor.get("/", params={"in": "nonsense", "q": "x" * 5000}).status_code == 200


@pytest.mark.parametrize(
    ("asked", "field", "reasons"),
    [
        ("8200", "", "number"),
        ("abc-8200", "number", "number"),
        ("Zebra", "", "subject"),
        ("ZEBRA\u0308N", "", None),
        ("marcus", "", "requester <b><bdi>Marcus Reed</bdi></b>, requester <b><bdi>marcus@"),
        ("EXAMPLE.com", "requester", "requester <b><bdi>marcus@example.com</bdi></b>"),
        ("stripes", "", "file <b><bdi>many stripes.png</bdi></b>"),
        ("ZEBRA", "filename", "file <b><bdi>a zebra.png</bdi></b>"),
        ("zebra", "subject", "subject</p>"),
    ],
)
def test_search_says_why_a_ticket_was_found(
    desk: Desk, visitor: Visitor, asked: str, field: str, reasons: str | None
) -> None:
    """A hit names the field that matched, and shows what cannot be seen otherwise."""
    if desk.archive.threads.ticket(8200) is None:
        desk.ticket(8200, subject="A zebra crossed")
        for name in ("none.png", "many stripes.png", "a zebra.png"):
            desk.attach(name, b"x", 8200, 82000)
    page = visitor.get("/", params={"q": asked, "in": field}).text
    hit = page.partition('href="/tickets/8200"')[2].partition("</li>")[0]
    assert (f"Found in {reasons}" in hit) if reasons else not hit
    assert "Found in" not in visitor.get("/").text


def test_search_of_texts_shows_the_passage(desk: Desk, visitor: Visitor) -> None:
    """The words around the hit, as text; where they are too far away, that it is in the texts."""
    before = "<p>" + "word " * 40
    desk.ticket(
        8300, PostRow(83001, text=f"{before}the <b>Glaze</b> &lt;i&gt; peeled", is_html=True)
    )
    desk.ticket(8301, *[PostRow(83010 + n, n, text="x" if n < 11 else "glaze") for n in range(12)])
    page = visitor.get("/", params={"q": "glaze", "in": "content"}).text
    shown = re.findall(r"Found in texts(.*?)</p>", page)
    assert len(shown) == 2
    assert any("the Glaze &lt;i&gt; peeled" in one for one in shown)
    assert "" in shown


def test_search_takes_a_number_as_the_api_does(desk: Desk, visitor: Visitor) -> None:
    """A number finds its ticket as it is printed, typed or filled up with zeros."""
    desk.ticket(8100, subject="Found by its number")
    for number in ("8100", " 8100 ", "#8100", "008100"):
        for where in ("", "number"):
            page = visitor.get("/", params={"q": number, "in": where}).text
            assert page.count('href="/tickets/8100"') == 1, number
    assert 'href="/tickets/8100"' not in visitor.get("/", params={"q": "810", "in": "number"}).text


def test_thread_is_shown_oldest_first_page_by_page(desk: Desk, visitor: Visitor) -> None:
    """Every post once, in order, over as many pages as it takes."""
    posts = [PostRow(90_000 + i, NOON + i // 2, text=f"text-{i:03}") for i in range(120)]
    desk.ticket(90, *posts)
    seen: list[str] = []
    path: str | None = "/tickets/90"
    for _ in range(4):
        if path is None:
            break
        page = visitor.get(path).text
        seen += re.findall(r"text-\d+", page)
        found = re.search(r'href="(/tickets/90\?after=[\d-]+)"', page)
        path = found[1] if found else None
    assert seen == [f"text-{i:03}" for i in range(120)]
    assert visitor.get("/tickets/90?after=junk").text.count("<article") == 50


def test_post_shows_who_wrote_it_and_for_whom(desk: Desk, visitor: Visitor) -> None:
    """Staff and internal notes are told in words; plain text keeps its lines, HTML its tags."""
    desk.ticket(
        62,
        PostRow(621, NOON, "Marcus", "marcus@example.com", text="line <1>\nline 2"),
        PostRow(
            622, NOON + 60, "Priya", staff=True, is_private=True, is_html=True, text="<b>x</b>"
        ),
        PostRow(623, NOON + 61, text="half", note="repaired_text,cut_text"),
    )
    page = visitor.get("/tickets/62").text
    assert "line &lt;1&gt;\nline 2" in page
    assert "<b>x</b>" in page
    assert "internal note" in page
    assert "cleaned" in page
    assert "longer than what is kept" in page
    assert "2026-09-21 14:13" in page


def test_notes_are_told_apart(desk: Desk, visitor: Visitor) -> None:
    """Notes and time tracks stand in the thread, and those about people on their first page."""
    text = "<p>always <i>rude</i></p>"
    person = PeopleNote(63, "user", 7, NOON, "Priya", is_html=True, text=text)
    facts = {"seconds_worked": 300, "seconds_billable": 60}
    desk.ticket(
        63,
        PostRow(631, NOON, "Marcus", text="hello"),
        PostRow(10**12, NOON + 1, "Priya", staff=True, is_private=True, kind="note", text="hm"),
        PostRow(2 * 10**12, NOON + 2, is_private=True, kind="timetrack", facts=facts),
        user=7,
        people=[person],
    )
    page = visitor.get("/tickets/63").text
    assert page.count("internal note") == 1
    assert "Time track: 300 seconds worked, 60 billable." in page
    assert page.index("hello") < page.index("hm")
    assert "about the requester" in page
    assert "always rude" in page
    assert "always rude" not in visitor.get(f"/tickets/63?after={NOON}-631").text


def test_very_long_post_is_cut_with_a_note(desk: Desk, visitor: Visitor) -> None:
    """A page stays a page whatever a post holds."""
    desk.ticket(63, PostRow(631, NOON, text="y" * 200_001))
    page = visitor.get("/tickets/63").text
    assert "Only the first 200,000 characters" in page
    assert page.count("y" * 1000) == 200


def test_chips_tell_what_stands_before_a_file(desk: Desk, visitor: Visitor) -> None:
    """Name and size, and whether the file is blocked, to be reviewed, or not to be had."""
    desk.ticket(64, PostRow(641, NOON, text="x"))
    for name, data in (("a.pdf", b"%PDF-1"), ("b.log", b"b"), ("c.exe", b"MZ"), ("d.pdf", None)):
        desk.attach(name, data, 64, 641)
    page = visitor.get("/tickets/64").text
    chips = [
        re.sub(r"<[^>]+>|\s+", " ", one).split()
        for one in re.findall(r'<a class="chip".*?</a>', page, re.DOTALL)
    ]
    assert [(chip[0], " ".join(chip[3:])) for chip in chips] == [
        ("a.pdf", ""),
        ("b.log", "needs review"),
        ("c.exe", "blocked"),
        ("d.pdf", "not available"),
    ]


def test_image_is_shown_where_the_text_links_to_it(desk: Desk, visitor: Visitor) -> None:
    """In every post of its ticket that shows its address; a link and another address are none."""
    name = "1546300800da39a3ee5e6b4b0d3255bfef95601890afd80709.png"
    place, key = f"/__swift/files/{name}", 5 * 10**15 + 66
    address = f"https://help.example.com{place}"
    desk.ticket(
        66,
        PostRow(661, NOON, is_html=True, text=f'<a href="{address}">x</a><img src="{address}">'),
        PostRow(662, NOON + 1, is_html=True, text=f'<p><img src="..{place}"></p>'),
        PostRow(663, NOON + 2, is_html=True, text='<p><img src="https://x.test/p.png"></p>'),
    )
    listed = Listed(key, 66, 661, name, "", 0, NOON, kind="linked", place=place)
    with desk.archive.ledger.atomic():
        desk.archive.ledger.record_files(desk.run, [listed])
    assert len(re.findall(rf"/attachments/{key}/view", visitor.get("/tickets/66").text)) == 0
    with desk.archive.blobs.writer() as writer, desk.archive.ledger.atomic():
        writer.write(png())
        blob = writer.commit()
        how = {"sha256": blob.sha256, "size": blob.size, "mime_type": blob.mime_type}
        desk.archive.ledger.settle(Outcome(key, State.STORED, **how))  # type: ignore[arg-type]
    page = visitor.get("/tickets/66").text
    assert page.count(f'<img src="/attachments/{key}/view">') == 2
    assert page.count(f'<a href="/attachments/{key}"') == 1
    assert "x.test" not in page
    assert visitor.get(f"/attachments/{key}/view").content == png()


def test_image_is_shown_by_the_address_of_an_attachment(desk: Desk, visitor: Visitor) -> None:
    """That of the helpdesk's own pages, whatever ticket it names; of this ticket only."""
    desk.ticket(67, PostRow(671, NOON))
    desk.ticket(68, PostRow(681, NOON))
    mine = desk.attach("a.png", png(), 67, 671)
    other = desk.attach("b.png", png(), 68, 681)
    call = "https://old.example.com/staff/index.php?/Tickets/Ticket/GetAttachment"
    text = "".join(
        f'<img src="{call}/1/{one}"><a href="{call}/1/{one}">x</a>' for one in (mine, other, 10**9)
    )
    desk.ticket(67, PostRow(671, NOON, is_html=True, text=text))
    page = visitor.get("/tickets/67").text
    assert re.findall(r'<img src="([^"]*)">', page) == [f"/attachments/{mine}/view"]
    leads = re.findall(r'<a href="([^"]*)"[^>]*>x</a>', page)
    assert leads == [f"/attachments/{mine}", f"{call}/1/{other}", f"{call}/1/{10**9}"]


def test_image_is_shown_in_the_text_only_when_sure(desk: Desk, visitor: Visitor) -> None:
    """One file of that name, and an image by its bytes: then it stands where the text says."""
    text = "".join(
        f'<p><img alt="{name}" src="cid:{name}@01D9"></p>'
        for name in ("one.png", "two.png", "fake.png", "none.png")
    )
    desk.ticket(
        65, PostRow(651, NOON, is_html=True, text=text + '<img src="https://x.test/p.gif">')
    )
    one = desk.attach("one.png", png(), 65, 651)
    desk.attach("two.png", png(9), 65, 651)
    desk.attach("two.png", png(10), 65, 651)
    desk.attach("fake.png", b"<html><script>", 65, 651)
    desk.archive.access.set_rule("png", "block")
    assert visitor.get(f"/attachments/{one}/view").content == png()
    desk.archive.access.set_rule("png", "allow")
    page = visitor.get("/tickets/65").text
    assert f'<img alt="one.png" src="/attachments/{one}/view">' in page
    assert re.findall(r'<img[^>]* src="([^"]+)"', page.partition("<main")[2]) == [
        f"/attachments/{one}/view"
    ]
    assert "x.test" not in page


def test_merged_ticket_leads_to_the_one_that_took_it(desk: Desk, visitor: Visitor) -> None:
    """An old number still finds its thread."""
    desk.ticket(66)
    desk.ticket(67)
    with desk.archive.ledger.atomic():
        desk.archive.ledger.mark_merged(66, 67)
    answer = visitor.get("/tickets/66")
    assert (answer.status_code, answer.headers["location"]) == (303, "/tickets/67")


def test_merge_tells_nothing_of_a_hidden_ticket(desk: Desk, stranger: Visitor) -> None:
    """Where an old number leads is told to those who see the ticket there, and to all of them."""
    desk.ticket(166, department=3)
    desk.ticket(167, department=4)
    with desk.archive.ledger.atomic():
        desk.archive.ledger.mark_merged(166, 167)
    stranger.sign_in(desk.token(queues=[3]))
    hidden, never = stranger.get("/tickets/166"), stranger.get("/tickets/99166")
    assert hidden.status_code == never.status_code == 404
    assert "location" not in hidden.headers
    assert hidden.text == never.text
    stranger.sign_in(desk.token(queues=[4]))
    assert stranger.get("/tickets/166").headers["location"] == "/tickets/167"


@pytest.mark.parametrize("served", [False, True])
def test_deleted_ticket_is_shown_only_if_configured(open_desk: OpenDesk, served: bool) -> None:
    """What the source deleted is in no list and on no page, unless the operator wants it."""
    with (
        open_desk(serve_deleted=served) as desk,
        Visitor(base_url=desk.url, timeout=20) as visitor,
    ):
        desk.ticket(5, PostRow(51, NOON, text="secret words"))
        attachment = desk.attach("a.pdf", b"%PDF", 5, 51)
        with desk.archive.ledger.atomic():
            desk.archive.ledger.mark_ticket_deleted(5)
            desk.archive.ledger.mark_deleted(attachment, "the source deleted its ticket")
        visitor.sign_in(desk.token())
        pages = ["/tickets/5", f"/attachments/{attachment}", f"/attachments/{attachment}/download"]
        assert {visitor.get(path).status_code for path in pages} == {200 if served else 404}
        assert ("Subject 5" in visitor.get("/").text) is served
        assert ("deleted in the old helpdesk" in visitor.get("/tickets/5").text) is served


def test_page_ends_where_its_posts_get_too_long(desk: Desk, visitor: Visitor) -> None:
    """A page is made in a bounded time: five huge posts are two pages, none is lost or doubled."""
    huge = "<p>long</p>" * 18_000
    desk.ticket(68, *[PostRow(n, NOON + n, is_html=True, text=huge) for n in range(680, 685)])
    found: list[str] = []
    pages, address = 0, "/tickets/68"
    while address:
        page = visitor.get(address).text
        found += re.findall(r'<article class="post" id="post-(\d+)"', page)
        pages += 1
        following = re.search(r'href="(/tickets/68\?after=[\d-]+)"', page)
        address = following[1] if following else ""
    assert found == ["680", "681", "682", "683", "684"]
    assert pages == 2


def test_status_tells_where_we_are(desk: Desk, visitor: Visitor) -> None:
    """The verdict, the run that goes on, the ledger, the runs before, failures with reasons."""
    attachment = desk.attach("sad.pdf", None, 1, 11, State.FAILED)
    page = visitor.get("/status").text
    assert "<progress" in page
    assert "the server failed (HTTP 500)" in page
    assert f"/attachments/{attachment}" in page
    assert "A run is at work" in page
    assert "migrator run" not in page
    for state in State:
        assert f'<th scope="row">{state.value}<' in page
    with desk.archive.ledger.atomic():
        desk.archive.ledger.finish_run(desk.run, exit_code=3, summary={})
    page = visitor.get("/status").text
    assert "<progress" not in page
    assert "finished, with something open" in page
    assert '<h2 id="verdict">Not complete</h2>' in page
    told = r"<p>\d+ attachments? (is|are) pending or failed. <code>migrator run</code> resumes"
    assert re.search(told, page)
    assert "<li>Verify: never.</li>" in page
    desk.archive.ledger.accept([attachment], by="jo", reason="the disk died")
    page = visitor.get("/status").text
    assert "accepted as lost: " in page
    assert "jo: the disk died" in page


def test_status_tells_of_the_run_at_work(open_desk: OpenDesk) -> None:
    """Who is at work and how far, against all tickets of the walk; none after a kill."""
    with open_desk() as desk, Visitor(base_url=desk.url, timeout=20) as visitor:
        visitor.sign_in(desk.token())
        desk.attach("a.pdf", b"%PDF", 1)
        page = visitor.get("/status").text
        assert "and is at work" in page
        assert f"process {os.getpid()} on" in page
        assert "<code>test</code>" in page
        assert "How far it is, is not known yet" in page
        assert '<progress id="done" max="1"></progress>' in page
        progress = Progress(lambda: 0.0)
        progress.take(events.TicketsCounted(810))
        for number in range(312):
            progress.take(events.TicketListed(number, 1, 1))
            progress.take(events.AttachmentSettled(number, number, "stored"))
        desk.archive.ledger.put_progress(desk.run, progress.facts())
        page = visitor.get("/status").text
        assert "312 of 810 tickets listed, 312 attachments, about 38 % done; told" in page
        assert '<progress id="done" max="1" value="0.3851">' in page
        visitor.sign_in(desk.token(queues=[3]))
        page = visitor.get("/status").text
        assert "and is at work" in page
        assert "About 38 % done" in page
        assert not re.search(r"\b312\b", page)  # a seal may hold it
        assert "process" not in page.replace("progress", "").replace("processing", "")
        (desk.archive.path / "lock").write_text("")
        page = visitor.get("/status").text
        assert "and stopped before its end" in page
        assert "<progress" not in page


def test_status_tells_of_a_pause_and_of_hours_while_nothing_runs(open_desk: OpenDesk) -> None:
    """Who paused it, or when the next window begins; not to those with a few queues."""
    with open_desk() as desk, Visitor(base_url=desk.url, timeout=20) as visitor:
        desk.archive.ledger.finish_run(desk.run, exit_code=0, summary={})
        visitor.sign_in(desk.token())
        assert "Paused" not in visitor.get("/status").text
        lock.pause(desk.archive.path, lock.Pause("jo<b>", "host", 1, None))
        page = visitor.get("/status").text
        assert "No run is at work." in page
        assert "Paused by jo&lt;b&gt; on host at" in page
        assert "<code>migrator resume</code>" in page
        visitor.sign_in(desk.token(queues=[3]))
        assert "Paused" not in visitor.get("/status").text


def test_status_is_a_dashboard(open_desk: OpenDesk) -> None:
    """Figures first, pace as a picture, kinds and reasons with sums: what a manager asks for."""
    with open_desk() as desk, Visitor(base_url=desk.url, timeout=20) as visitor:
        visitor.sign_in(desk.token())
        empty = visitor.get("/status").text
        assert "<svg" not in empty
        assert tile(empty, "Last finished pass") == "never"
        ids = [desk.attach(f"{n}.pdf", b"%%PDF-%d" % n) for n in range(3)]
        target, sha256 = "https://new.example.com", hashlib.sha256(b"%PDF-0").hexdigest()
        file = DeliveredFile(target, ids[0], sha256, 1, 6, "delivered")
        desk.archive.ledger.put_delivery(Delivery(target, 1, "1", "x", state="delivered"), [file])
        desk.attach("a.docx", None, state=State.FAILED)
        desk.attach("b.docx", None, state=State.MISSING)
        summary = {"tickets": 1, "helpdesk_tickets": 1}
        desk.archive.ledger.finish_run(desk.run, exit_code=3, summary=summary)
        visitor.sign_in(desk.token())
        page = eventually(visitor, "as of")
        assert tile(page, "In the archive") == "3 of 5 files listed"
        assert tile(page, "Failed, missing, gone") == "2"
        assert tile(page, "Last finished pass").endswith("run")
        assert tile(page, "Last proof") == "never"
        assert tile(page, "Delivered") == "1 of 3 files of tickets, to https://new.example.com"
        assert "<desc" in page.partition("<svg")[2]
        assert "<script" not in page
        assert re.search(r"Attachments of posts</th><td[^>]*>5<", page)
        assert "The source has no bytes" in page
        assert "Scope: the whole helpdesk, without its trash, last seen" in page
        visitor.sign_in(desk.token(queues=[3]))
        page = visitor.get("/status").text
        assert tile(page, "In the archive") == "3 of 5 files listed"
        for told in ("<svg", "as of", "Scope:", "Last proof"):
            assert told not in page


def tile(page: str, label: str) -> str:
    """Return what a figure of the status says."""
    found = re.search(rf"<dt>{label}</dt><dd>(.*?)</dd>", page)
    assert found is not None, label
    return " ".join(re.sub(r"<[^>]+>", " ", found[1]).split())


def eventually(visitor: Visitor, text: str) -> str:
    """Return the status once it has the figures that are read at intervals."""
    until = time.monotonic() + 20
    while text not in (page := visitor.get("/status").text):
        assert time.monotonic() < until
        time.sleep(0.05)
    return page


def test_status_refreshes_itself(open_desk: OpenDesk) -> None:
    """Without a script, more often during a run, until somebody stops it."""
    with open_desk() as desk, Visitor(base_url=desk.url, timeout=20) as visitor:
        visitor.sign_in(desk.token())
        page = visitor.get("/status")
        assert page.headers["refresh"] == "15; url=/status?auto=1"
        assert "refreshes itself every 15 seconds" in page.text
        assert "refresh" not in visitor.get("/status?refresh=off").headers
        for path in ("/", "/knowledge-base"):
            assert "refresh" not in visitor.get(path).headers
        desk.archive.ledger.finish_run(desk.run, exit_code=0, summary={})
        assert visitor.get("/status?auto=1").headers["refresh"].startswith("60;")


def test_navigation_says_where_one_is(desk: Desk, visitor: Visitor) -> None:
    """The page itself is current, and so is the part of the site of pages below it."""
    desk.ticket(71)
    here = r'<a href="([^"]+)" aria-current="(\w+)"'
    for path, current in [
        ("/", ("/", "page")),
        ("/tickets/71", ("/", "true")),
        ("/knowledge-base", ("/knowledge-base", "page")),
        ("/status", ("/status", "page")),
    ]:
        assert re.findall(here, visitor.get(path).text) == [current]


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/tickets/x", "/tickets/99999999999999999999999", "/attachments/-1", "/%00"],
)
def test_wrong_address_is_a_page(visitor: Visitor, path: str) -> None:
    """Whatever is asked for, the answer is a page of ours with a status that fits."""
    answer = visitor.get(path)
    assert answer.status_code == 404
    assert "<h1>" in answer.text
    assert "traceback" not in answer.text.lower()


def test_program_at_a_wrong_address_gets_the_envelope(visitor: Visitor) -> None:
    """Who does not ask for a page, such as a client with a wrong path, is never sent HTML."""
    program = {"accept": "*/*"}
    lost = visitor.post("/v1/tickets/attachment", headers=program)
    assert (lost.status_code, lost.headers["content-type"]) == (404, "application/json")
    assert lost.json()["error"] == "not_found"
    wrong = visitor.put("/tickets/1", headers=program)
    assert (wrong.status_code, wrong.json()["error"]) == (405, "method_not_allowed")
    assert "GET" in wrong.headers["allow"]


def test_wrong_method_is_a_page_that_names_the_right_one(visitor: Visitor) -> None:
    """405 comes with Allow."""
    answer = visitor.delete("/tickets/1")
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]


def test_api_keeps_its_addresses(visitor: Visitor) -> None:
    """Under /api the answers are JSON, also the refusals; no page shadows them."""
    for path in ("/api", "/api/v1/tickets/attachment", "/api/x"):
        assert visitor.post(path).headers["content-type"] == "application/json"
    assert visitor.get("/apis").headers["content-type"].startswith("text/html")


def test_bug_is_an_answer_without_details(
    desk: Desk, visitor: Visitor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A page that fails says nothing of why; the log does, escaped."""
    monkeypatch.setattr("migrator.serve.web.site.Site.page", lambda *_, **__: 1 / 0)
    answer = visitor.get("/")
    assert answer.status_code == 500
    assert "division" not in answer.text
    assert "division" in caplog.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize("seconds", [None, 0, 1 << 60, -(1 << 60)])
def test_times_beyond_the_calendar_are_unknown(seconds: int | None) -> None:
    """No time of the helpdesk breaks a page."""
    assert moment(seconds) is None


@given(st.text())
def test_one_line_is_one_line(text: str) -> None:
    """No text of the helpdesk breaks a line or turns the direction of the next words."""
    assert all(char.isprintable() for char in line(text))
    assert len(line(text)) == len(text)


@pytest.mark.parametrize("tag", ["<div>", "<ul><li>", "<b title='{}'>"])
def test_html_of_endless_depth_is_shown_as_text(desk: Desk, visitor: Visitor, tag: str) -> None:
    """A post whose elements nest without end costs no time to lay out, and keeps its text."""
    text = "".join(tag.format(i) for i in range(2000)) + "the text"
    desk.ticket(7100, PostRow(id=71000, created_at=NOON, text=text, is_html=True))
    page = visitor.get("/tickets/7100").text
    assert "The layout of this text cannot be shown." in page
    assert '<div class="body text">the text</div>' in page


@pytest.mark.parametrize("path", ["tickets", "attachments"])
def test_id_of_endless_digits_is_no_address(stranger: Visitor, path: str) -> None:
    """More digits than any id has are answered like any wrong address."""
    assert stranger.get(f"/{path}/{'9' * 5000}").status_code == 404
