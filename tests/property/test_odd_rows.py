"""A list in which any one row is damaged in any field yields all other rows."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from migrator.errors import PartialReply
from migrator.sources.base import Scope, Ticket, Unreadable
from migrator.sources.kayako import lists
from migrator.sources.kayako.client import Client
from migrator.sources.kayako.signing import Credentials, KayakoSettings
from migrator.sources.kayako.walk import look_around, walk

pytestmark = pytest.mark.slow

HEAD = b'<?xml version="1.0" encoding="UTF-8"?>\n'
WHAT = "a list"


def field(tag: bytes, value: bytes) -> bytes:
    """Write a field as Kayako does."""
    return b"<%b><![CDATA[%b]]></%b>\n" % (tag, value, tag)


def ticket(number: int) -> list[bytes]:
    """Write the parts of a row: its start tag, its fields, its end tag."""
    values = {
        b"displayid": b"ABC-123-%05d" % number,
        b"departmentid": b"1",
        b"statusid": b"1",
        b"fullname": b"Jane & Co <x>",
        b"subject": b"Ticket %d" % number,
        b"creationtime": b"1297840147",
        b"lastactivity": b"%d" % (1297840147 + number),
    }
    return [
        b'<ticket id="%d" flagtype="0">\n' % number,
        *(field(tag, value) for tag, value in values.items()),
        b"</ticket>\n",
    ]


def attachment(number: int) -> list[bytes]:
    """Write the parts of a row."""
    values = {
        b"id": b"%d" % number,
        b"ticketid": b"3",
        b"ticketpostid": b"5",
        b"filename": b"a & b [%d].txt" % number,
        b"filesize": b"541",
        b"filetype": b"text/plain",
        b"dateline": b"1296645496",
    }
    return [
        b"<attachment>\n",
        *(field(tag, value) for tag, value in values.items()),
        b"</attachment>\n",
    ]


KINDS: dict[bytes, tuple[Callable[[int], list[bytes]], Callable[..., Any]]] = {
    b"ticket": (ticket, lists.parse_tickets),
    b"attachment": (attachment, lists.parse_attachments),
}

ODD_VALUES = st.one_of(
    st.sampled_from(
        [
            *(
                b"n/a",
                b"-5",
                b"0x1",
                b"9" * 20,
                b"1.5",
                b"2010-03-12 10:43:00",
                b"",
                b"\x00\x0b\x1f",
            ),
            *(b"caf\xe9\xff", b"\xed\xa0\x80", b"\xef\xbf\xbe", b"-9223372036854775808", b"<b>&x;"),
        ]
    ),
    st.binary(max_size=12).filter(lambda value: b"]]>" not in value),
)
BARE_VALUES = st.sampled_from(
    [
        *(
            b"a < b",
            b"R&D",
            b"&eacute;&nosuch;",
            b"&#xD800;",
            b"a<b>c</b>d",
            b"a<br>b",
            b"<",
            b"a]]>b",
        ),
        *(b"<!-- x", b"</x>", b"<x", b"x y='", b"<?php", b"&", b"\xff\x00", b"<!DOCTYPE a>"),
    ]
)
Damage = Callable[[bytes, bytes], bytes]
"""Damages a field, of which the tag is given, too."""


def damages() -> st.SearchStrategy[Damage]:
    """Draw what befalls a field."""

    def put(value: bytes) -> Damage:
        return lambda whole, tag: field(tag, value)

    def bare(value: bytes) -> Damage:
        return lambda whole, tag: b"<%b>%b</%b>\n" % (tag, value, tag)

    def swap(old: bytes, new: bytes) -> Damage:
        return lambda whole, tag: whole.replace(old, new, 1)

    def without_end(whole: bytes, tag: bytes) -> bytes:
        return whole.replace(b"</%b>" % tag, b"")

    def cut(start: float, length: int) -> Damage:
        def change(whole: bytes, tag: bytes) -> bytes:
            at = int(start * len(whole))
            return whole[:at] + whole[at + length :]

        return change

    return st.one_of(
        ODD_VALUES.map(put),
        BARE_VALUES.map(bare),
        st.just(swap(b"]]>", b"")),
        st.just(swap(b"<![CDATA[", b"")),
        st.just(without_end),
        st.just(lambda whole, tag: whole + whole),
        st.just(lambda whole, tag: whole + field(tag, b"77")),
        st.just(lambda whole, tag: b""),
        st.just(lambda whole, tag: whole.upper()),
        st.just(lambda whole, tag: b"<x:%b" % whole[1:]),
        st.builds(cut, st.floats(0, 1, exclude_max=True), st.integers(1, 12)),
    )


def damaged(parts: list[bytes], place: int, damage: Damage) -> bytes:
    """Write a row whose field at a place is damaged."""
    fields = parts[1:-1]
    place %= len(fields)
    found = re.match(rb"<(\w+)>", fields[place])
    assert found is not None
    fields[place] = damage(fields[place], found[1])
    return b"".join((parts[0], *fields, parts[-1]))


@settings(deadline=None, max_examples=400)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    rows=st.integers(1, 5),
    row=st.integers(0, 4),
    place=st.integers(0, 6),
    damage=damages(),
)
def test_all_other_rows_are_read(
    kind: bytes, rows: int, row: int, place: int, damage: Damage
) -> None:
    """Whatever is wrong with one row, the others come as if it were not, and it is not hidden."""
    write, parse = KINDS[kind]
    row %= rows
    whole = [b"".join(write(number)) for number in range(1, rows + 1)]

    def body(lines: list[bytes]) -> bytes:
        return HEAD + b"<%bs>\n" % kind + b"".join(lines) + b"</%bs>" % kind

    expected = {one.id: one for one in parse(body(whole), what=WHAT)}
    assert len(expected) == rows
    partial: PartialReply | None = None
    try:
        found = parse(
            body([*whole[:row], damaged(write(row + 1), place, damage), *whole[row + 1 :]]),
            what=WHAT,
        )
    except PartialReply as error:
        found, partial = list(error.rows), error
    del expected[row + 1]
    others = {one.id: one for one in found if one.id in expected}
    assert others == expected
    ours = [one for one in found if one.id not in expected]
    assert len(ours) == 1 or partial is not None, "a row has vanished without a word"
    if kind == b"ticket":
        assert {one.id for one in ours} <= {row + 1}


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("row", [0, 1, 2])
def test_rows_without_their_ends_hide_no_other(kind: bytes, row: int) -> None:
    """A row without a start tag, an end tag or both costs itself."""
    write, parse = KINDS[kind]
    for keep in (slice(1, None), slice(None, -1), slice(1, -1)):
        lines = [b"".join(write(number)) for number in (1, 2, 3)]
        lines[row] = b"".join(write(row + 1)[keep])
        body = HEAD + b"<%bs>\n" % kind + b"".join(lines) + b"</%bs>" % kind
        try:
            found = parse(body, what=WHAT)
        except PartialReply as error:
            found = list(error.rows)
        assert {1, 2, 3} - {row + 1} <= {one.id for one in found}


class Server:
    """Lists tickets, one of which it cannot write properly."""

    def __init__(self, tickets: int, odd: int, row: bytes, *, alone: bytes) -> None:
        self.rows = [b"".join(ticket(number)) for number in range(1, tickets + 1)]
        self.rows[odd] = row
        self.alone = alone

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        path = request.url.params["e"].split("/")
        if path[1] == "Base":
            inner = b"<departments><department><id>1</id></department></departments>"
        elif path[2] == "TicketStatus":
            inner = b"<ticketstatuses><ticketstatus><id>1</id></ticketstatus></ticketstatuses>"
        elif path[3] == "ListAll":
            count, start = int(path[-4]), int(path[-3])
            inner = b"<tickets>\n" + b"".join(self.rows[start : start + count]) + b"</tickets>"
        else:
            inner = b"<tickets>\n" + self.alone + b"</tickets>"
        return httpx.Response(200, content=HEAD + inner)


async def no_wait(_seconds: float) -> None:
    """Let the others run instead of waiting."""
    await asyncio.sleep(0)


def walked(server: Server, page_size: int) -> tuple[dict[int, Ticket], Unreadable]:
    """Walk a server to the end."""

    async def main() -> tuple[dict[int, Ticket], Unreadable]:
        settings = KayakoSettings(
            "http://help.example.com/api/index.php", Credentials("key", "secret"), attempts=2
        )
        noted = Unreadable()
        inner = httpx.MockTransport(server)
        async with Client(settings, inner=inner, sleep=no_wait) as source:
            helpdesk = await look_around(source)
            found = walk(source, helpdesk, Scope(), page_size=page_size, unreadable=noted)
            return {one.id: one async for one in found}, noted

    return asyncio.run(main())


@settings(deadline=None, max_examples=60)
@given(
    odd=st.integers(0, 8),
    page_size=st.sampled_from([1, 3, 4, 100]),
    place=st.integers(0, 6),
    damage=damages(),
    answers=st.booleans(),
)
@example(odd=8, page_size=4, place=0, damage=lambda whole, tag: b"<", answers=True)
def test_a_walk_names_the_row_and_meets_all_others(
    odd: int, page_size: int, place: int, damage: Damage, answers: bool
) -> None:
    """Every other ticket is met as it is; the damaged one is met or named, by its row."""
    number = odd + 1
    row = damaged(ticket(number), place, damage)
    alone = b"".join(ticket(number)) if answers else row
    found, noted = walked(Server(9, odd, row, alone=alone), page_size)
    expected = {
        one.id: one
        for one in lists.parse_tickets(
            b"<tickets>" + b"".join(b"".join(ticket(one)) for one in range(1, 10)) + b"</tickets>",
            what=WHAT,
        )
    }
    del expected[number]
    assert {key: one for key, one in found.items() if key != number} == expected
    assert number in found, "its id stands in its start tag, which was not damaged"
    rows = {key for key in noted if key >= 0}
    assert rows <= {odd}
    if answers:
        assert not rows


@pytest.mark.parametrize("odd", range(9))
@pytest.mark.parametrize("page_size", [1, 4, 100])
def test_a_row_without_id_is_named(odd: int, page_size: int) -> None:
    """A ticket of which nobody can tell the id costs itself and is told by its row."""
    for start in (
        b"<ticket>\n",
        b'<ticket id="0">\n',
        b'<ticket id="n/a">\n',
        b'<ticket id="-1">\n',
    ):
        row = b"".join([start, *ticket(odd + 1)[1:]])
        found, noted = walked(Server(9, odd, row, alone=b""), page_size)
        assert sorted(found) == [number for number in range(1, 10) if number != odd + 1]
        assert list(noted) == [odd]
        assert noted.rows == 1
