"""Inline images: told only when sure, and what that means for the rules."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.archive.bodies import plain_text
from migrator.archive.records import Listed, Outcome, PostRow, State, TicketRow
from migrator.serve.markup import as_html, cid_names

if TYPE_CHECKING:
    from tests.serve.conftest import Desk, OpenDesk

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhf"
    "DwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
GIF = b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>'


def inline(desk: Desk, name: str, data: bytes, text: str, *, is_html: bool = True) -> bool:
    """Tell whether show and the download, which must agree, call an attachment inline."""
    stored = desk.attach(name, data, ticket=1, post=7)
    desk.write(TicketRow(1, 3), PostRow(7, 1, text=text, is_html=is_html))
    responses = desk.data("tickets/show", {"ticket_number": "1"})["responses"]
    told = {each["id"]: each for one in responses for each in one["attachments"]}
    got = desk.get(stored, intent="review_ok")
    if got.status_code == 200:
        assert got.json()["data"]["is_inline"] is told[str(stored)]["is_inline"]
    return bool(told[str(stored)]["is_inline"])


SHOWN = '<p>Hi<img width=1 src="cid:image001.png@01D9.AB"></p>'


@pytest.mark.parametrize(
    "text",
    [
        SHOWN,
        "<IMG SRC='CID:image001.png@x'>",
        "<img src=cid:image001.png@x>",
        '<img src="cid:image001.png">',
        '<img src=" cid:image%3001.png@x">',
    ],
)
def test_image_that_its_post_shows_is_inline(open_desk: OpenDesk, text: str) -> None:
    """The name before the @ is the file's, however HTML spells it."""
    with open_desk() as desk:
        assert inline(desk, "image001.png", PNG, text)


PLACE = "/help/__swift/files/1546300800da39a3ee5e6b4b0d3255bfef95601890afd80709.png"


@pytest.mark.parametrize(
    ("address", "inline"),
    [
        (f"https://help.example.com{PLACE}", True),
        (f"http://help.example.com/{PLACE}?x=1", True),
        (PLACE, True),
        (f"..{PLACE[5:]}", True),
        (PLACE[6:], True),
        (PLACE.replace("__", "%5F%5F"), True),
        (PLACE.replace("/__", "&#47;&#95;_"), True),
        (f"https://help.example.com{PLACE[:-5]}.png", False),
        ("https://help.example.com/", False),
        ("", False),
    ],
)
def test_an_image_by_its_address_is_inline(open_desk: OpenDesk, address: str, inline: bool) -> None:
    """A linked file is told and sent as every attachment; inline where its text shows it."""
    with open_desk() as desk:
        desk.write(TicketRow(1, 3), PostRow(7, 1, text=f'<img src="{address}">', is_html=True))
        key, name = 5 * 10**15 + 1, PLACE.rpartition("/")[2]
        listed = Listed(key, 1, 7, name, "", 0, 1546300800, kind="linked", place=PLACE)
        with desk.archive.ledger.atomic():
            run = desk.archive.ledger.begin_run("run", source="test", scope={})
            desk.archive.ledger.record_files(run.id, [listed])
            with desk.archive.blobs.writer() as writer:
                writer.write(PNG)
                blob = writer.commit()
            found = (blob.sha256, blob.size, blob.mime_type)
            of = Outcome(key, State.STORED, None, None, *found)
            desk.archive.ledger.settle(of)
        (one,) = desk.data("tickets/show", {"ticket_number": "1"})["responses"]
        (told,) = one["attachments"]
        assert (told["id"], told["response_id"], told["is_inline"]) == (str(key), "7", inline)
        data = desk.get(key, intent="review_ok").json()["data"]
        assert (data["is_inline"], base64.b64decode(data["content_base64"])) == (inline, PNG)


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("image001.png", PNG, '<img src="/x/Ticket/GetAttachment/1/1">'),
        ("image001.png", PNG, "<p>no image</p>"),
        ("image001.png", PNG, '<img src="cid:image002.png@x">'),
        ("image001.png", PNG, '<img src="cid:@image001.png">'),
        ("image001.png", PNG, '<img src="https://x/?cid:image001.png@x">'),
        ("image001.png", PNG, '<a href="cid:image001.png@x">x</a>'),
        ("image001.png", PNG, '&lt;img src="cid:image001.png@x"&gt;'),
        ("image001.png", PNG, '<!-- <img src="cid:image001.png@x"> -->'),
        ("IMAGE001.PNG", PNG, SHOWN),
        ("image001.png", b"MZ not an image", SHOWN),
        ("image001.png", GIF, SHOWN),
        ("a.js", GIF, '<img src="cid:a.js@x">'),
        ("a.svg", SVG, '<img src="cid:a.svg@x">'),
    ],
)
def test_doubtful_image_is_not_inline(
    open_desk: OpenDesk, name: str, data: bytes, text: str
) -> None:
    """Other names, other tags, other bytes and types that can hold scripts are no inline images."""
    with open_desk() as desk:
        assert not inline(desk, name, data, text)


def test_text_is_not_taken_for_html(open_desk: OpenDesk) -> None:
    """A plain text that reads like an image shows none."""
    with open_desk() as desk:
        assert not inline(desk, "image001.png", PNG, SHOWN, is_html=False)


def test_two_files_of_one_name_are_not_inline(open_desk: OpenDesk) -> None:
    """Which of them is meant cannot be known; nor is a file of another post meant."""
    with open_desk() as desk:
        first = desk.attach("image001.png", GIF, post=8)
        assert not inline(desk, "image001.png", PNG, SHOWN)
        desk.write(TicketRow(1, 3), PostRow(8, 1, text=SHOWN, is_html=True))
        assert desk.get(first).json()["data"]["is_inline"] is False


def test_inline_images_skip_the_rules(open_desk: OpenDesk) -> None:
    """A blocked type is served where it is shown inline, and only there."""
    with open_desk() as desk:
        desk.archive.access.set_rule("png", "block")
        shown = desk.attach("image001.png", PNG, post=7)
        other = desk.attach("image002.png", PNG + b"x", post=7)
        desk.write(TicketRow(1, 3), PostRow(7, 1, text=SHOWN, is_html=True))
        assert desk.get(shown).status_code == 200
        assert desk.get(shown, offset=0, length=3).status_code == 200
        assert desk.get(other).json()["error"] == "attachment_blocked"
        row = desk.data("tickets/responses/query")["responses"][0]
        assert [each["is_inline"] for each in row["attachments"]] == [True, False]


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("", ""),
        ("plain & <b>bold</b>&nbsp;x &euro;", "plain & bold\xa0x €"),
        ("<p>one</p><p>two<br>three</p>", "one\n\ntwo\nthree"),
        ("<div>a</div><div>b</div>", "a\n\nb"),
        ("<ul><li>a<li>b</ul>", "a\n\nb"),
        ("<table><tr><td>a</td><td>b</td></tr></table>", "a b"),
        ("<style>p {}</style><script>x</script><title>t</title>a", "a"),
        ("a\n   b\t c", "a b c"),
        ("<!-- c --><p>a", "a"),
        ("a<b", "a"),
        ("<style>p {}</style><o:p>a</o:p> b", "a b"),
    ],
)
def test_html_as_text(markup: str, text: str) -> None:
    """Blocks become lines, entities characters, and what nobody sees is left out."""
    assert plain_text(markup) == text


@settings(deadline=None, max_examples=150)
@given(st.text(st.characters(codec=None)) | st.text("<>&;/!-'\"= pimgscrd:@\x00\n", max_size=80))
def test_any_text_can_be_read_as_html(markup: str) -> None:
    """No text whatsoever makes the reader fail; text made HTML reads as that text."""
    cid_names(markup)
    plain_text(markup)
    text = markup.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    assert plain_text(as_html(markup)).split() == text.split()


def test_deep_and_endless_html_is_read() -> None:
    """Nesting without bounds, and tags without an end, take no time to speak of."""
    assert plain_text("<div>" * 50_000 + "hi") == "hi"
    assert plain_text("hi" + "<img " * 100_000) == "hi"
    assert cid_names("<img src=cid:a@b>" * 50_000) == {"a"}


def test_an_image_by_the_address_of_its_attachment_is_inline(open_desk: OpenDesk) -> None:
    """Whatever ticket the address names: a merge changes that, and never the attachment."""
    with open_desk() as desk:
        key = desk.attach("a.png", PNG, ticket=1, post=7)
        where = "https://help.example.com/index.php?/Tickets/Ticket/GetAttachment/99"
        for number, inline in ((key, True), (key + 1000, False)):
            post = PostRow(7, 1, text=f'<img src="{where}/{number}">', is_html=True)
            desk.write(TicketRow(1, 3), post)
            assert desk.get(key, intent="review_ok").json()["data"]["is_inline"] is inline
