"""Lists of articles and steps: rows cut from a reply of any length, and what each costs."""

from __future__ import annotations

import io
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from migrator.errors import MemoryExhausted, NotXml, SourceError, Truncated
from migrator.sources.kayako import articles
from migrator.sources.kayako.articles import _BOOKS, _check, _pieces, _rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from migrator.sources.base import Article

HEAD = b'<?xml version="1.0" encoding="UTF-8"?>\n<kbarticles>\n'
TAIL = b"\n</kbarticles>"
WHAT = "the articles"


def row(key: object, text: str = "<p>x</p>", more: str = "") -> bytes:
    """Give a row as Kayako writes it."""
    return (
        f"<kbarticle>\n<kbarticleid><![CDATA[{key}]]></kbarticleid>\n"
        f"<contents><![CDATA[{text}]]></contents>\n<contentstext><![CDATA[x]]></contentstext>\n"
        f"<categories>\n<categoryid><![CDATA[3]]></categoryid>\n</categories>\n"
        f"<author><![CDATA[Jane]]></author>\n<email />\n"
        f"<subject><![CDATA[Subject {key}]]></subject>\n"
        f"<articlestatus><![CDATA[2]]></articlestatus>\n{more}"
        f"<dateline><![CDATA[1297842417]]></dateline>\n</kbarticle>"
    ).encode()


def read(body: bytes) -> tuple[list[Article], list[str]]:
    """Give the articles of a reply, and its problems."""
    found = list(_rows(io.BytesIO(body), _BOOKS["article"], WHAT))
    return [one.article for one in found if one.article], [
        one.problem for one in found if one.problem
    ]


def whole(rows: Iterable[bytes]) -> bytes:
    return HEAD + b"\n".join(rows) + TAIL


@pytest.mark.parametrize("body", [b"<kbarticles/>", b"<kbarticles />", HEAD + TAIL])
def test_a_list_of_none(body: bytes) -> None:
    """However an empty list is written, nothing is missing from it."""
    assert read(body) == ([], [])


def test_a_row_with_a_plain_id() -> None:
    """An article may be numbered as all else is; its own name for the id wins."""
    plain = row(5).replace(b"kbarticleid>", b"id>")
    both = row(6).replace(b"</kbarticleid>", b"</kbarticleid><id>1</id>")
    found, problems = read(whole([plain, both]))
    assert ([one.id for one in found], problems) == ([5, 6], [])


def test_a_row_says_all_that_is_known() -> None:
    """Names are unescaped that Kayako escapes within CDATA; what is empty is left out."""
    more = (
        "<hasattachments><![CDATA[1]]></hasattachments>\n<attachments>\n<attachment>\n"
        "<id><![CDATA[7]]></id>\n<filename><![CDATA[a &amp; b.txt]]></filename>\n"
        "<filesize><![CDATA[1.2 KB]]></filesize>\n</attachment>\n</attachments>\n"
    )
    (found,) = _rows(io.BytesIO(whole([row(5, more=more)])), _BOOKS["article"], WHAT)
    assert found.named == {7: "a & b.txt"}
    one = found.article
    assert one is not None
    assert (one.kind, one.id, one.subject, one.author_name) == ("article", 5, "Subject 5", "Jane")
    assert (one.text, one.created_at, one.notes) == ("<p>x</p>", 1297842417, ())
    assert one.details["categories"] == ["3"]
    assert one.details["articlestatus"] == "2"
    assert "email" not in one.details


@pytest.mark.parametrize("size", [1, 7, 64, 100, 1 << 18])
def test_rows_are_cut_alike_from_any_pieces(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Tags within a text cut nothing."""
    monkeypatch.setattr(articles, "_BLOCK", size)
    rows = [row(1), row(2, "</kbarticle><kbarticle> ]]]]><![CDATA[> </kbarticles>"), row(3)]
    assert list(_pieces(io.BytesIO(whole(rows)), b"kbarticle", [])) == rows
    found, problems = read(whole(rows))
    assert ([one.id for one in found], problems) == ([1, 2, 3], [])
    assert found[1].text == "</kbarticle><kbarticle> ]]> </kbarticles>"


@pytest.mark.parametrize(
    ("broken", "known", "problem"),
    [
        (row(2).replace(b"]]></contents>", b"</contents>"), [1, 2, 3], ""),
        (row(2).replace(b"</subject>", b"</object>"), [1, 2, 3], ""),
        (row(2).removesuffix(b"</kbarticle>"), [1, 2, 3], ""),
        (row(2).replace(b"<author>", b"<author>\x00"), [1, 2, 3], ""),
        (row(""), [1, 3], "row 2 has no id"),
        (row("x").replace(b"</subject>", b""), [1, 3], "row 2 is damaged, its id too"),
        (row(1), [1, 3], ""),
        (row(1, "other"), [1, 3], "article 1 stands in it twice, with different values"),
        (b"<kbar></kbar>", [1, 3], '"a tag" stands among the rows'),
        (b"<kbar>secret</kbar>", [1, 3], '"secret" stands among the rows'),
        (b"<!-- a remark -->", [1, 3], ""),
        (row(10**15), [1, 3], "row 2 has no id"),
    ],
)
def test_an_odd_row_costs_itself(broken: bytes, known: list[int], problem: str) -> None:
    """All others are read as they are."""
    found, problems = read(whole([row(1), broken, row(3)]))
    assert [one.id for one in found] == known
    assert problems == ([problem] if problem else [])
    assert [one.text for one in found if one.id != 2] == ["<p>x</p>"] * 2


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", NotXml),
        (b"<html>no</html>", NotXml),
        (HEAD + row(1), Truncated),
        (HEAD + row(1)[:-9], Truncated),
        (HEAD + b"<b>Fatal error</b>: Allowed memory size of 1 bytes exhausted", MemoryExhausted),
    ],
)
def test_no_whole_list_is_an_error(body: bytes, kind: type[SourceError]) -> None:
    """It proves nothing about what it leaves out."""
    with pytest.raises(kind):
        _check(io.BytesIO(body), book=_BOOKS["article"], what=WHAT)


@pytest.mark.parametrize(
    "body", [whole([]), whole([row(1)]), b"<kbarticles />", whole([]) + b"<b>x"]
)
def test_a_whole_list_is_none(body: bytes) -> None:
    """Also an empty one, and one with noise behind it."""
    _check(io.BytesIO(body), book=_BOOKS["article"], what=WHAT)


def test_a_warning_before_a_declared_list_may_quote_a_tag() -> None:
    """It is none of the list's, unless it could be one of its rows."""
    quoting = b"Warning: no mail from <unknown> in /a.php on line 3\n"
    assert read(quoting + whole([row(1)]))[1] == []
    assert read(b"<x:kbarticle>" + whole([row(1)]))[1] == ['"x:kbarticle" stands among the rows']


@pytest.mark.slow
def test_memory_does_not_grow_with_the_list() -> None:
    """Neither with its rows nor with one that has no end."""
    text = "x" * 100_000
    many = whole([row(n, text) for n in range(1, 400)])
    endless = HEAD + b"<kbarticle><kbarticleid>1</kbarticleid>" + b"y" * (60 << 20) + TAIL
    for body, most in ((many, 4 << 20), (endless, 80 << 20)):
        file = io.BytesIO(body)
        tracemalloc.start()
        for _ in _rows(file, _BOOKS["article"], WHAT):
            pass
        assert tracemalloc.get_traced_memory()[1] < most
        tracemalloc.stop()


def test_two_rows_in_one_are_a_damaged_one() -> None:
    """What a lost end tag joins is not read as the first of them."""
    joined = row(1).removesuffix(b"</kbarticle>") + row(2).removeprefix(b"<kbarticle>")
    found, problems = read(whole([joined, row(3)]))
    assert ([(one.id, one.notes) for one in found], problems) == ([(1, ("odd_row",)), (3, ())], [])


def test_a_latin1_reply_is_read_as_one() -> None:
    """By its declaration."""
    body = whole([row(1, "Grüße")]).decode().replace("UTF-8", "ISO-8859-1").encode("latin-1")
    (found,), problems = read(body)
    assert (found.text, problems) == ("Grüße", [])
