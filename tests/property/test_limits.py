"""Every bound of the source, and one step beyond each: an error in words, and soon."""

from __future__ import annotations

import base64
import gzip
import itertools
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.errors import (
    BadBase64,
    PartialReply,
    SourceError,
    SourceUnreachable,
    TooLarge,
    Truncated,
    UnexpectedReply,
)
from migrator.sources.kayako import cleaning, limits, lists
from migrator.sources.kayako.contents import ContentsReader

WHAT = "the reply"


class Clock:
    """Time that passes only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def received(
    blocks: Iterable[bytes],
    encoding: str = "",
    *,
    most: int = limits.LIST_BYTES,
    pause: float = 0.0,
    work: float = 0.0,
) -> Iterator[bytes]:
    """Receive a body whose blocks come after a pause each, and take some work."""
    clock = Clock()
    body = limits.Body(encoding, most=most, what=WHAT, clock=clock)
    for block in blocks:
        body.wait()
        clock.now += pause
        for piece in body.pieces(block):
            clock.now += work
            yield piece


# Bodies


@given(st.binary(max_size=300_000), st.integers(1, 70_000), st.sampled_from(["gzip", "X-GZIP"]))
def test_what_is_packed_comes_out_as_it_was(data: bytes, size: int, encoding: str) -> None:
    """A body in gzip is unpacked in small steps, wherever it is cut."""
    packed = gzip.compress(data)
    blocks = [packed[at : at + size] for at in range(0, len(packed), size)]
    pieces = list(received(blocks, encoding))
    assert b"".join(pieces) == data
    assert all(len(piece) <= limits.PIECE for piece in pieces)


@settings(deadline=None)
@given(st.integers(1, 1 << 20), st.integers(0, 3))
def test_a_body_ends_at_its_bound(most: int, beyond: int) -> None:
    """One byte more than allowed ends a body, plain or packed, and no byte less does."""
    data = b" " * (most + beyond)
    for blocks, encoding in (([data], ""), ([gzip.compress(data)], "gzip")):
        pieces = received(blocks, encoding, most=most)
        if beyond:
            with pytest.raises(TooLarge, match=f"larger than {most:,} bytes"):
                list(pieces)
        else:
            assert sum(map(len, pieces)) == most


def test_a_bomb_is_never_unpacked_beyond_its_bound() -> None:
    """Whatever a bomb would become, no more than the bound ever exists."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(b"\0" * (1 << 20)) for _ in range(100)) + packer.flush()
    got: list[int] = []
    with pytest.raises(TooLarge):
        got.extend(map(len, received([bomb], "gzip")))
    assert sum(got) <= limits.LIST_BYTES


NAMES = st.sampled_from(["gzip", "x-gzip", "deflate", "br", "zstd", "compress", "identity", "\x1b"])


@given(st.lists(NAMES, max_size=4))
def test_packings_that_nobody_asked_for_are_refused(names: list[str]) -> None:
    """One gzip is understood, and nothing else, stacked or not; identity is no packing."""
    packings = [name for name in names if name != "identity"]
    if packings in ([], ["gzip"], ["x-gzip"]):
        list(received([], ", ".join(names)))
        return
    with pytest.raises(UnexpectedReply, match="not asked for") as caught:
        list(received([], ", ".join(names)))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


def test_gzip_that_yields_nothing_ends() -> None:
    """Empty blocks without end are counted as they come, and bring no progress."""
    head, empty = gzip.compress(b"")[:10], b"\0\0\0\xff\xff" * 1000
    endless = itertools.chain([head], itertools.repeat(empty))
    with pytest.raises(TooLarge):
        list(received(endless, "gzip"))
    endless = itertools.chain([head], itertools.repeat(empty))
    with pytest.raises(SourceUnreachable, match="0 bytes in"):
        list(received(endless, "gzip", pause=1.0))


def test_what_follows_a_packed_body_is_little() -> None:
    """Members without end, or anything else behind the end, are no part of a reply."""
    with pytest.raises(UnexpectedReply, match="after its end"):
        list(received(itertools.repeat(gzip.compress(b"") * 100), "gzip"))


@given(st.binary(min_size=3, max_size=2000))
def test_broken_gzip_is_a_broken_reply(data: bytes) -> None:
    """Bytes that are no gzip are told as a reply that broke, or bring nothing."""
    with suppress(Truncated):
        list(received([data], "gzip"))


# The lowest rate


@given(st.floats(0.1, 50.0), st.integers(1, 5000))
def test_a_source_that_drips_is_given_up(pause: float, size: int) -> None:
    """Below the lowest rate a reply ends after a window; above it never does."""
    count = int(5 * limits.WINDOW / pause) + 2
    blocks = received(itertools.repeat(b"x" * size, count), pause=pause, most=1 << 40)
    if size / pause >= 2 * limits.LOWEST_RATE:
        assert sum(map(len, blocks)) == size * count
    elif size / pause < limits.LOWEST_RATE / 2:
        with pytest.raises(SourceUnreachable, match=r"came too slowly: .* bytes in"):
            list(blocks)


def test_our_own_time_is_not_the_servers() -> None:
    """Hours that we take for a block do not count, nor do slow bytes within one window."""
    assert len(list(received([b"x"] * 1000, work=3600.0))) == 1000
    assert len(list(received([b"x"] * 50, pause=1.0))) == 50


# Documents


def rows(inside: bytes, count: int = 1) -> bytes:
    """Return a list of attachments that hold something."""
    row = b"<attachment><id>1</id><ticketid>3</ticketid>%b</attachment>" % inside
    return b"<attachments>" + row * count + b"</attachments>"


def many(form: bytes, count: int) -> bytes:
    """Repeat a form with a number."""
    return b"".join(form.replace(b"#", b"%d" % number) for number in range(count))


BEYOND: dict[str, Callable[[], bytes]] = {
    "elements": lambda: rows(b"<a/>" * limits.ELEMENTS),
    "attributes": lambda: rows(b"<a b=''/>" * (limits.ELEMENTS // 2 + 1)),
    "fields": lambda: rows(many(b"<a#/>", limits.FIELDS + 2)),
    "depth": lambda: rows(b"<a>" * limits.DEPTH + b"</a>" * limits.DEPTH),
    "depth outside of rows": lambda: (
        b"<attachments>" + b"<a>" * limits.DEPTH + b"</a>" * limits.DEPTH + b"</attachments>"
    ),
    "rows": lambda: rows(b"", limits.ROWS + 1),
    "a tag": lambda: rows(b"<a" + many(b" a#=''", 20_000) + b"/>"),
    "an attribute": lambda: rows(b"<a b='" + b"x" * 3 * limits.TOKEN + b"'/>"),
    "a comment": lambda: rows(b"<!--" + b"x" * 3 * limits.TOKEN + b"-->"),
    "an instruction": lambda: rows(b"<?x " + b"x" * 3 * limits.TOKEN + b"?>"),
    "a name of a tag": lambda: rows(b"<" + b"x" * 3 * limits.TOKEN + b"/>"),
    "what follows": lambda: rows(b"") + b" noise" * (1 << 18),
    "repairs": lambda: rows(b"<a>" + b"&" * (limits.REPAIRS + 1) + b"</a>"),
}


@pytest.mark.parametrize("name", BEYOND)
def test_a_list_beyond_a_bound_is_refused_in_words(name: str) -> None:
    """Too many, too deep, too long: the list is refused, in one line that says what."""
    with pytest.raises(SourceError) as caught:
        lists.parse_attachments(BEYOND[name](), what=WHAT)
    assert not isinstance(caught.value, PartialReply)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("parse", "root", "row"),
    [
        (lists.parse_departments, b"departments", b"department"),
        (lists.parse_statuses, b"ticketstatuses", b"ticketstatus"),
    ],
)
def test_departments_and_statuses_are_few(
    parse: Callable[..., list[object]], root: bytes, row: bytes
) -> None:
    """Each of them multiplies the walks: a list of very many is refused."""
    most, form = limits.DIRECTORY_ROWS, b"<%b><id>1</id></%b>" % (row, row)
    reply = b"<%b>%b</%b>"
    assert len(parse(reply % (root, form * most, root), what=WHAT)) == most
    with pytest.raises(TooLarge, match="more than 2,000 rows"):
        parse(reply % (root, form * (most + 1), root), what=WHAT)


def test_a_ticket_has_a_bounded_number_of_posts() -> None:
    """A thread without end is refused, not kept."""
    posts = b"<post><id>1</id></post>" * (limits.POSTS + 1)
    with pytest.raises(TooLarge, match="more than 10,000 posts"):
        lists.parse_tickets(b"<ticket id='1'><posts>" + posts + b"</posts></ticket>", what=WHAT)


@pytest.mark.parametrize("broken", [b"", b"&", b"\xff"])
@pytest.mark.parametrize("char", ["x", "ü", "\U0001f600"])
def test_a_name_is_cut_and_noted(char: str, broken: bytes) -> None:
    """A name of any length costs only itself: it is cut, which is noted, and the file is kept."""
    name = char * (limits.NAME + 1)
    body = rows(b"<filename>" + name.encode() + b"</filename><x>" + broken + b"</x>")
    (found,) = lists.parse_attachments(body, what=WHAT)
    assert found.filename == char * limits.NAME
    assert found.notes == (cleaning.REPAIRED_NAME,)
    body = rows(b"<filename>" + char.encode() * limits.NAME + b"</filename>")
    (found,) = lists.parse_attachments(body, what=WHAT)
    assert (found.filename, found.notes) == (char * limits.NAME, ())


@settings(deadline=None)
@given(st.sampled_from(["filesize", "dateline", "id", "ticketid"]), st.integers(20, 200_000))
def test_numbers_of_any_length_are_read_at_once(tag: str, digits: int) -> None:
    """A number of very many digits is no number; it costs its field, or a row without id."""
    number = b"9" * digits
    body = rows(b"").replace(b"<id>1</id>", b"<id>7</id>")
    body = (
        body.replace(b"<id>7", b"<id>" + number)
        if tag == "id"
        else rows(b"<%b>%b</%b>" % (tag.encode(), number, tag.encode()))
    )
    if tag == "id":
        with pytest.raises(PartialReply, match="without id"):
            lists.parse_attachments(body, what=WHAT)
        return
    (found,) = lists.parse_attachments(body, what=WHAT)
    assert (found.filesize, found.created_at) == (0, 0)


class Nothing:
    """A sink that keeps nothing."""

    def write(self, data: bytes, /) -> None:
        """Drop the bytes."""


CONTENTS: dict[str, Callable[[], bytes]] = {
    "elements": lambda: b"<a/>" * limits.CONTENTS_ELEMENTS,
    "attributes": lambda: b"<a b=''/>" * (limits.CONTENTS_ELEMENTS // 2),
    "distinct names": lambda: many(b"<a#/>", limits.CONTENTS_ELEMENTS),
    "a tag": lambda: b"<a" + many(b" a#=''", 20_000) + b"/>",
    "depth": lambda: b"<a>" * limits.DEPTH,
    "a field": lambda: b"<filename>" + b"x" * (limits.FIELD + 1) + b"</filename>",
    "a field in pieces": lambda: (
        b"<filename>" + b"<![CDATA[x]]>" * (limits.FIELD + 1) + b"</filename>"
    ),
    "a comment": lambda: b"<!--" + b"x" * 3 * limits.TOKEN + b"-->",
    "attachments": lambda: b"</attachment>" + b"<attachment/>" * limits.ATTACHMENTS,
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("size", [1000, 1 << 18, 1 << 30])
def test_contents_beyond_a_bound_are_refused_in_words(name: str, size: int) -> None:
    """Whatever a reply with contents holds beside them is bounded, however it is cut."""
    body = rows(CONTENTS[name]())
    reader = ContentsReader(Nothing, what=WHAT)
    pieces = (body[start : start + size] for start in range(0, len(body), size))
    with pytest.raises(SourceError) as caught:
        deque(map(reader.feed, pieces), maxlen=0)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("flood", [b" ", b" \n", b"=", b"!", b"\t\r\n "])
@pytest.mark.parametrize("form", [b"<contents>QUJD%b", b"<contents><![CDATA[QUJD%b"])
def test_contents_that_bring_nothing_end(flood: bytes, form: bytes) -> None:
    """White space, padding or anything else without end between a few bytes is given up."""
    reader = ContentsReader(Nothing, what=WHAT)
    reader.feed(b"<attachments><attachment><id>1</id>" + form % flood)
    pieces = itertools.repeat(flood * (100_000 // len(flood)), 1000)
    with pytest.raises(BadBase64, match="next to nothing"):
        deque(map(reader.feed, pieces), maxlen=0)


def test_base64_in_short_lines_is_no_flood() -> None:
    """The contents of a large file may be wrapped as narrowly as anybody does."""
    data = bytes(range(256)) * 8192
    lines = base64.b64encode(data)
    wrapped = b"\r\n ".join(lines[at : at + 4] for at in range(0, len(lines), 4))
    body = b"<contents>" + wrapped + b"</contents><filesize>%d</filesize>" % len(data)
    reader = ContentsReader(Nothing, what=WHAT)
    reader.feed(rows(body))
    ((contents, _),) = reader.close()
    assert (contents.size, contents.notes) == (len(data), ())
