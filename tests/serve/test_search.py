"""A search finds a text in whichever form and case it was written, everywhere."""

# ruff: noqa: RUF001 - the letters are meant

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.archive import PostRow, TicketRow
from migrator.archive.checkpoint import folded
from tests.serve.conftest import Desk, OpenDesk

SAME = [
    ("Übergröße", "ÜBERGRÖSSE"),
    ("Übergröße", unicodedata.normalize("NFD", "übergröße")),
    (unicodedata.normalize("NFD", "café"), "CAFÉ"),
    ("Straße", "strasse"),
    ("STRASSE", "straße"),
    ("Договор", "ДОГОВОР"),
    ("договор", "ДОГОВОР"),
    ("İSTANBUL", "istanbul"),
    ("istanbul", "İSTANBUL"),
    ("Isparta", "ısparta"),
    ("ΟΔΥΣΣΕΥΣ", "οδυσσευς"),
    ("ofﬁce", "OFFICE"),
    ("ｆｕｌｌ ｗｉｄｔｈ", "Full Width"),
    ("한국어", unicodedata.normalize("NFD", "한국어")),
    ("100% _sure_", "100% _SURE_"),
    ("a[b]*?c", "A[B]*?C"),
]
"""Written, and searched for."""
OTHER = [("100% sure", "100_"), ("abc", "a%c"), ("abc", "a?c"), ("abc", "[a-z]"), ("ab", "äb")]

Find = Callable[[Desk, str], list[str]]


def query(mode: str) -> Find:
    """Return a search of the API."""

    def finding(desk: Desk, text: str) -> list[str]:
        body = {"search_object": {"criteria": [{"mode": mode, "tokens": [text]}]}}
        return [row["id"] for row in desk.data("tickets/query", body)]

    return finding


def by_author(desk: Desk, text: str) -> list[str]:
    """Find responses by the address of their author."""
    body = {"created_by_email": f"{text}@example.com"}
    return [row["ticket_id"] for row in desk.data("tickets/responses/query", body)["responses"]]


def anywhere(field: str) -> Find:
    """Return a search of the pages."""

    def finding(desk: Desk, text: str) -> list[str]:
        given: Any = {field: text}
        return [str(one.id) for one in desk.archive.threads.find(**given)]

    return finding


FINDS: dict[str, Find] = {
    "subject": query("subject"),
    "content": query("content"),
    "subject and content": query("subject_content"),
    "requester": query("raised"),
    "author": by_author,
    "everything": anywhere("text"),
    "file name": anywhere("filename"),
    "page subject": anywhere("subject"),
    "page requester": anywhere("requester"),
}


def kept(desk: Desk, written: str) -> None:
    """Keep a ticket with a text wherever it may be searched for."""
    desk.attach(f"a {written}.pdf", b"x", ticket=7)
    address = f"{written}@example.com"
    row = TicketRow(7, 3, "ABC-7", f"a {written} b", 5, 5, 0, written, address)
    desk.write(row, PostRow(70, 5, author_email=address, text=f"a {written} b"))


@pytest.mark.parametrize("find", FINDS.values(), ids=FINDS)
def test_texts_are_found_in_any_form_and_case(open_desk: OpenDesk, find: Find) -> None:
    """Composed and decomposed, upper and lower case, in all scripts; nothing is a wildcard."""
    with open_desk() as desk:
        for written, asked in SAME:
            kept(desk, written)
            assert "7" in find(desk, asked), (written, asked)
        for written, asked in OTHER:
            kept(desk, written)
            assert "7" not in find(desk, asked), (written, asked)


def test_number_shown_by_kayako_is_found_in_any_case(open_desk: OpenDesk) -> None:
    """People type letters as they like."""
    with open_desk() as desk:
        kept(desk, "x")
        assert query("ticket_number")(desk, "abc-7") == ["7"]
        assert anywhere("number")(desk, "ａｂｃ-7") == ["7"]


def test_texts_in_columns_do_not_run_together(open_desk: OpenDesk) -> None:
    """What is found stands in one text, whatever characters are in it."""
    with open_desk() as desk:
        for ticket, subject in ((1, "ab"), (2, "cd"), (3, "e\x1ef"), (4, "g\x1fh")):
            desk.write(TicketRow(ticket, 3, "", subject, ticket, ticket))
        for asked, found in (("bc", []), ("b\x1ec", []), ("h", ["4"]), ("f", ["3"]), ("cd", ["2"])):
            assert query("subject")(desk, asked) == found, asked


@given(st.text())
def test_all_forms_of_a_text_fold_to_one(text: str) -> None:
    """The four normal forms, both cases, and what was folded already."""
    once = folded(text)
    assert folded(once) == once
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert folded(unicodedata.normalize(form, text)) == once
