"""Bytes: downloads whole and in ranges, the review, the block, previews."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from migrator.archive.records import PostRow, State
from migrator.serve.web.files import Unsatisfiable, content_disposition, parse_range
from migrator.text import served_name
from tests.blobs.layout import path_of
from tests.web.desks import NOON, Desk, Visitor, hidden, png

if TYPE_CHECKING:
    from tests.web.conftest import OpenDesk

DATA = bytes(range(256)) * 1024  # four blocks
SIZE = len(DATA)


@pytest.fixture
def path(desk: Desk) -> str:
    """Where a file of several blocks is downloaded."""
    return f"/attachments/{desk.attach('data.zip', DATA)}/download"


def test_download_is_the_file_and_can_do_no_harm(visitor: Visitor, path: str) -> None:
    """All bytes, as something to be saved, in a sandbox, for this visitor alone."""
    answer = visitor.get(path)
    assert (answer.status_code, answer.content) == (200, DATA)
    headers = answer.headers
    assert headers["content-length"] == str(SIZE)
    assert headers["accept-ranges"] == "bytes"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-disposition"] == 'attachment; filename="data.zip"'
    assert "sandbox" in headers["content-security-policy"]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["cache-control"].startswith("private")
    assert headers["etag"].strip('"') in visitor.get(path.removesuffix("/download")).text


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-99", 0, 99),
        ("bytes=70000-199999", 70_000, 199_999),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE - 1),
        ("bytes=200000-", 200_000, SIZE - 1),
        ("bytes=-500", SIZE - 500, SIZE - 1),
        ("bytes=-999999999", 0, SIZE - 1),
        ("bytes=100-999999999", 100, SIZE - 1),
        ("BYTES= 1-2", 1, 2),
    ],
)
def test_one_range_is_sent_alone(
    visitor: Visitor, path: str, asked: str, first: int, last: int
) -> None:
    """The first bytes, some in the middle, the last ones; never more than there are."""
    answer = visitor.get(path, headers={"range": asked})
    assert answer.status_code == 206
    assert answer.content == DATA[first : last + 1]
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{SIZE}"
    assert answer.headers["content-length"] == str(last + 1 - first)


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", "bytes=999999999-", "bytes=-0"])
def test_range_beyond_the_end_is_refused(visitor: Visitor, path: str, asked: str) -> None:
    """The refusal tells how long the file is."""
    answer = visitor.get(path, headers={"range": asked})
    assert (answer.status_code, answer.content) == (416, b"")
    assert answer.headers["content-range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,5-6", "bytes=5-1", "lines=1-2", "bytes=", "bytes=a-b", "bytes=-", "x"]
)
def test_other_ranges_mean_the_whole_file(visitor: Visitor, path: str, asked: str) -> None:
    """What is no single range of bytes is ignored, as a server may."""
    answer = visitor.get(path, headers={"range": asked})
    assert (answer.status_code, answer.content) == (200, DATA)


def test_range_goes_on_in_the_same_file_only(visitor: Visitor, path: str) -> None:
    """If-Range with another tag, or with a date, gets the whole file."""
    tag = visitor.get(path).headers["etag"]
    wanted = {"range": "bytes=1-2"}
    assert visitor.get(path, headers={**wanted, "if-range": tag}).status_code == 206
    for other in ('"other"', f"W/{tag}", "Mon, 01 Jan 2024 00:00:00 GMT"):
        assert visitor.get(path, headers={**wanted, "if-range": other}).status_code == 200


def test_known_file_is_not_sent_again(visitor: Visitor, path: str) -> None:
    """If-None-Match with the tag gets 304 and nothing else."""
    tag = visitor.get(path).headers["etag"]
    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        answer = visitor.get(path, headers={"if-none-match": known})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == tag
    assert visitor.get(path, headers={"if-none-match": '"x"'}).status_code == 200


def test_head_tells_all_and_sends_nothing(visitor: Visitor, path: str) -> None:
    """HEAD has the headers of GET."""
    answer = visitor.head(path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(SIZE)


def test_empty_file_is_a_file(desk: Desk, visitor: Visitor) -> None:
    """No bytes at all are downloaded as such; no range of them can be."""
    path = f"/attachments/{desk.attach('empty.txt', b'')}/download"
    answer = visitor.get(path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert visitor.get(path, headers={"range": "bytes=0-"}).status_code == 416


def test_damaged_file_is_never_sent(desk: Desk, visitor: Visitor) -> None:
    """Not one byte of a file leaves that is not the one that was stored, whole or in part."""
    for name, damage in (("longer.txt", b"other bytes!"), ("other.txt", b"otherbytes")):
        attachment = desk.attach(name, f"original {name}"[:10].encode())
        row = desk.archive.queries.attachment(attachment)
        assert row is not None
        blob = path_of(desk.archive, row.sha256 or "")
        blob.chmod(0o600)
        blob.write_bytes(damage)
        for headers in ({}, {"range": "bytes=0-0"}):
            answer = visitor.get(f"/attachments/{attachment}/download", headers=headers)
            assert answer.status_code == 404
            assert b"other" not in answer.content
    blob.unlink()
    assert visitor.get(f"/attachments/{attachment}/download").status_code == 404


def test_file_changed_in_secret_is_not_sent(desk: Desk, visitor: Visitor) -> None:
    """Size and time of the last write are as before, yet no answer has the wrong bytes."""
    attachment = desk.attach("quiet.txt", b"original")
    address = f"/attachments/{attachment}/download"
    tag = visitor.get(address).headers["etag"]
    row = desk.archive.queries.attachment(attachment)
    assert row is not None
    blob = path_of(desk.archive, row.sha256 or "")
    before = blob.stat()
    blob.chmod(0o600)
    blob.write_bytes(b"changed!")
    os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))
    for headers in ({}, {"range": "bytes=0-1"}, {"range": "bytes=2-", "if-range": tag}):
        assert visitor.get(address, headers=headers).status_code == 404
        assert visitor.head(address, headers=headers).status_code == 404
    assert visitor.get(address, headers={"if-none-match": tag}).status_code == 404


def test_review_is_asked_for_and_counts_for_this_file_and_session(
    desk: Desk, visitor: Visitor
) -> None:
    """Without a rule the page asks; only its own button leads to the bytes."""
    one, other = desk.attach("notes.log", b"log one"), desk.attach("more.log", b"log two")
    page, file = f"/attachments/{one}", f"/attachments/{one}/download"
    for path in (page, file, f"{page}/view", f"{file}?ok=" + "0" * 64, f"{file}?intent=review_ok"):
        asked = visitor.get(path)
        assert asked.status_code == 403, path
        assert "review" in asked.text
        assert "log one" not in asked.text
    fields = hidden(visitor.get(page).text)
    assert visitor.post(page, data={"intent": "review_ok"}).status_code == 403
    assert visitor.post(page, data={**fields, "intent": "no"}).status_code == 422
    answer = visitor.post(page, data=fields)
    assert answer.status_code == 303
    shown = visitor.get(answer.headers["location"])
    assert shown.status_code == 200
    query = answer.headers["location"].partition("?")[2]
    assert f"{file}?{query}" in shown.text
    assert visitor.get(f"{file}?{query}").content == b"log one"
    assert visitor.get(f"/attachments/{other}/download?{query}").status_code == 403
    visitor.sign_out()
    visitor.sign_in(desk.token())
    assert visitor.get(f"{file}?{query}").status_code == 403


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"line 1\r\nline\t2\n", "line 1\nline    2"),
        ("Gr\u00f6\u00dfe \u202etxt".encode(), "Gr\u00f6\u00dfe \ufffdtxt"),
        ("Gr\u00f6\u00dfe".encode("cp1252") + b" and more words", "Gr\u00f6\u00dfe and more words"),
        ("Gr\u00f6\u00dfe, wide".encode("utf-16"), "Gr\u00f6\u00dfe, wide"),
        (b"<script>alert(1)</script>\n", "<script>alert(1)</script>"),
    ],
)
def test_text_is_shown_for_its_review(
    desk: Desk, visitor: Visitor, data: bytes, shown: str
) -> None:
    """Who is asked to review a text can read it, as plain text that nothing can run in."""
    attachment = desk.attach("notes.odd", data)
    page = visitor.get(f"/attachments/{attachment}")
    assert "I have reviewed it" in page.text
    assert f'src="/attachments/{attachment}/text"' in page.text
    answer = visitor.get(f"/attachments/{attachment}/text")
    assert (answer.status_code, answer.text) == (200, shown)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_long_text_is_shown_in_part_and_says_so(desk: Desk, visitor: Visitor) -> None:
    """The beginning is enough to tell what it is; a character at the cut is not torn."""
    attachment = desk.attach("long.log", b"x" + "\u00fc".encode() * 40_000)
    shown = visitor.get(f"/attachments/{attachment}/text").text
    assert shown.startswith("x\u00fc\u00fc")
    assert shown.endswith("\u00fc\n\n[The first 65,536 of 80,001 bytes.]")


def test_nobody_is_asked_to_review_what_is_not_shown(desk: Desk, visitor: Visitor) -> None:
    """Of other types the page says that it cannot show them; blocked ones stay closed."""
    attachment = desk.attach("data.dat", b"\0\1\2\3")
    page = visitor.get(f"/attachments/{attachment}").text
    assert "reviewed" not in page
    assert "cannot show what is in it" in page
    assert visitor.get(f"/attachments/{attachment}/text").status_code == 415
    blocked = desk.attach("run.bat", b"echo off\n")
    answer = visitor.get(f"/attachments/{blocked}/text")
    assert answer.status_code == 403
    assert "echo" not in answer.text
    assert "/text" not in answer.text


def test_blocked_file_is_refused_whatever_is_confirmed(desk: Desk, visitor: Visitor) -> None:
    """There is no button, and a review given before the rule changed is of no use."""
    one = desk.attach("tool.exe", b"MZ program")
    page = f"/attachments/{one}"
    for path in (page, f"{page}/download", f"{page}/view"):
        answer = visitor.get(path)
        assert answer.status_code == 403
        assert "blocked by an administrator" in answer.text
        assert "review_ok" not in answer.text
    fields = {**hidden(answer.text), "intent": "review_ok"}
    leads = visitor.post(page, data=fields).headers["location"]
    assert visitor.get(leads).status_code == 403
    assert visitor.get(leads.replace("?", "/download?")).status_code == 403


def test_inline_image_skips_the_rules(open_desk: OpenDesk) -> None:
    """What the text of its post shows is served even where its type is blocked, as by the API."""
    with open_desk() as desk, Visitor(base_url=desk.url, timeout=20) as visitor:
        desk.archive.access.set_rule("png", "block")
        desk.ticket(1, PostRow(11, NOON, is_html=True, text='<img src="cid:in.png@1">'))
        inside, beside = desk.attach("in.png", png(), 1, 11), desk.attach("out.png", png(), 1, 11)
        visitor.sign_in(desk.token())
        assert visitor.get(f"/attachments/{inside}/download").content == png()
        assert visitor.get(f"/attachments/{beside}/download").status_code == 403


def test_picture_is_shown_by_what_its_bytes_say(desk: Desk, visitor: Visitor) -> None:
    """A picture is sent to be looked at under the type of its bytes, in a sandbox."""
    attachment = desk.attach("photo.jpg", png())
    assert (
        f'<img src="/attachments/{attachment}/view"'
        in visitor.get(f"/attachments/{attachment}").text
    )
    answer = visitor.get(f"/attachments/{attachment}/view")
    assert answer.content == png()
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-disposition"] == 'inline; filename="photo.jpg"'
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("picture.svg", b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'),
        ("page.txt", b"<!doctype html><html><script>alert(1)</script></html>"),
        ("photo.png", b"<html><body><script>alert(1)</script>"),
        ("report.pdf", b"<html><body><script>alert(1)</script>"),
        ("plain.txt", b"plain text"),
    ],
)
def test_nothing_else_is_ever_shown(desk: Desk, visitor: Visitor, name: str, data: bytes) -> None:
    """Whatever could be a program to a browser is there for download alone."""
    attachment = desk.attach(name, data)
    page = visitor.get(f"/attachments/{attachment}")
    assert "/view" not in page.text
    answer = visitor.get(f"/attachments/{attachment}/view")
    assert answer.status_code == 415
    assert b"alert" not in answer.content
    saved = visitor.get(f"/attachments/{attachment}/download")
    assert saved.content == data
    assert saved.headers["content-disposition"].startswith("attachment;")


def test_pdf_is_framed_by_our_own_pages_alone(desk: Desk, visitor: Visitor) -> None:
    """Viewers refuse a sandbox, so that a PDF gets a policy without scripts instead."""
    attachment = desk.attach("report.pdf", b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n%%EOF\n")
    page = visitor.get(f"/attachments/{attachment}")
    assert "frame-src 'self'" in page.headers["content-security-policy"]
    answer = visitor.get(f"/attachments/{attachment}/view")
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    assert "frame-ancestors 'self'" in policy
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert answer.headers["x-frame-options"] == "SAMEORIGIN"


@pytest.mark.parametrize("state", [State.MISSING, State.GONE, State.FAILED])
def test_what_we_do_not_have_is_told_with_its_reason(
    desk: Desk, visitor: Visitor, state: State
) -> None:
    """The page of a lost file explains it and offers nothing."""
    attachment = desk.attach("lost.pdf", None, state=state)
    page = visitor.get(f"/attachments/{attachment}")
    assert page.status_code == 200
    assert "Not available" in page.text
    assert "/download" not in page.text
    assert visitor.get(f"/attachments/{attachment}/download").status_code == 404


@pytest.mark.parametrize("serve_deleted", [True, False])
def test_deleted_files_are_served_when_that_is_set(
    open_desk: OpenDesk, serve_deleted: bool
) -> None:
    """What the source dropped since is handed out only where the operator says so."""
    with open_desk(serve_deleted=serve_deleted) as desk, Visitor(base_url=desk.url) as visitor:
        visitor.sign_in(desk.token())
        attachment = desk.attach("a.txt", b"kept")
        with desk.archive.ledger.atomic():
            desk.archive.ledger.mark_deleted(attachment, "no longer listed")
        answer = visitor.get(f"/attachments/{attachment}/download")
        assert (answer.status_code == 200) is serve_deleted


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a b.pdf", 'attachment; filename="a b.pdf"'),
        (
            "Größe €.pdf",
            (
                'attachment; filename="Gr__e _.pdf"; '
                "filename*=UTF-8''Gr%C3%B6%C3%9Fe%20%E2%82%AC.pdf"
            ),
        ),
        ('x".html\r\nSet-Cookie: a=b', 'attachment; filename="x_.html__Set-Cookie_ a=b"'),
        ("../../etc/passwd", 'attachment; filename="_._.._etc_passwd"'),
        ("C:\\a\\b.txt", 'attachment; filename="C__a_b.txt"'),
        ("evil\u202etxt.exe", 'attachment; filename="evil_txt.exe"'),
        ("50%41;x.txt", "attachment; filename=\"50_41_x.txt\"; filename*=UTF-8''50%2541%3Bx.txt"),
        ("...", 'attachment; filename="attachment-7"'),
        ("", 'attachment; filename="attachment-7"'),
    ],
)
def test_name_in_the_header_harms_nobody(name: str, header: str) -> None:
    """No line ends, quotes, paths or direction marks; the true name in UTF-8 beside ASCII."""
    assert content_disposition("attachment", served_name(name, 7)) == header


def test_long_name_is_cut_before_its_extension() -> None:
    """What tells the type of a file survives."""
    header = content_disposition("attachment", served_name("x" * 300 + ".pdf", 7))
    assert header.endswith('xxx.pdf"')
    for name in ("x" * 300 + ".pdf", "y" * 300, "a." + "z" * 300):
        assert len(content_disposition("attachment", served_name(name, 7))) < 300


@pytest.mark.parametrize(
    "name", ["evil.exe.", "evil.exe ", "evil.exe\0", "evil\uff0eexe", "a/evil.EXE\u202e", ".exe"]
)
def test_blocked_file_is_blocked_under_every_spelling(
    desk: Desk, visitor: Visitor, name: str
) -> None:
    """What a client would save as a program is refused as one, confirmed or not."""
    attachment = desk.attach(name, b"MZ")
    page = visitor.get(f"/attachments/{attachment}")
    assert (page.status_code, "Blocked" in page.text) == (403, True)
    form = {**hidden(page.text), "intent": "review_ok"}
    again = visitor.post(f"/attachments/{attachment}", data=form, follow_redirects=True)
    link = str(again.url).replace(f"/{attachment}", f"/{attachment}/download")
    assert visitor.get(link).status_code == 403


def test_page_tells_under_which_name_a_file_is_saved(desk: Desk, visitor: Visitor) -> None:
    """The listed name stays visible; where another one is saved, the page says which."""
    attachment = desk.attach("a?.pdf ", b"%PDF")
    assert "Saved as" in visitor.get(f"/attachments/{attachment}").text
    header = visitor.get(f"/attachments/{attachment}/download").headers["content-disposition"]
    assert header == 'attachment; filename="a_.pdf"'
    plain = desk.attach("a.pdf", b"%PDF")
    assert "Saved as" not in visitor.get(f"/attachments/{plain}").text


def test_ranges_of_nothing() -> None:
    """An empty file has no range."""
    for asked in ("bytes=0-", "bytes=-1"):
        with pytest.raises(Unsatisfiable):
            parse_range(asked, 0)
