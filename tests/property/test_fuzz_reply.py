"""Valid replies, damaged at random: the right bytes or a named error, nothing else.

A few hundred inputs in every run of the tests; MIGRATOR_FUZZ=100000 tries that many. An input
that fails is written to ``data/`` when MIGRATOR_FUZZ is set, where it is replayed for ever.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrator.errors import MemoryExhausted, NotXml, SourceError, Truncated
from migrator.sources.base import Contents
from migrator.sources.kayako import lists
from migrator.sources.kayako.contents import LENIENT_BASE64, ContentsReader

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
KEPT = HERE / "data"
MANY = int(os.environ.get("MIGRATOR_FUZZ", "0"))

HEAD = b'<?xml version="1.0" encoding="UTF-8"?>\n'
FILES = [bytes(range(256)) * 3, b"hello, world", b"", b"\xff\xd8\xff\xe0" + b"\0" * 60]


def attachment(number: int, data: bytes, *, cdata: bool = True) -> bytes:
    """Write an attachment as Kayako does."""
    encoded = base64.b64encode(data)
    value = b"<![CDATA[%s]]>" % encoded if cdata else encoded
    contents = b"<contents>%s</contents>" % value if data else b"<contents />"
    return (
        b"<attachment>\n<id><![CDATA[%d]]></id>\n<ticketid><![CDATA[9]]></ticketid>\n"
        b"<filename><![CDATA[a &amp; ]]]]><![CDATA[>%d.bin]]></filename>\n"
        b"<filesize><![CDATA[%d]]></filesize>\n<filetype><![CDATA[x/y]]></filetype>\n%s\n"
        b"</attachment>\n" % (number, number, len(data), contents)
    )


ONE = b"".join(attachment(7, FILES[0]).splitlines(keepends=True))
MANY_FILES = b"".join(attachment(n, data, cdata=n % 2 == 0) for n, data in enumerate(FILES, 1))
POST = b"<post>\n<id>5</id>\n<ticketid>9</ticketid>\n<contents><![CDATA[QUJD]]></contents>\n"
VALID = [
    HEAD + b"<attachments>\n" + ONE + b"</attachments>",
    HEAD + b"<attachments>\n" + MANY_FILES + b"</attachments>",
    HEAD + b"<posts>\n" + POST + b"<attachments>\n" + ONE + b"</attachments>\n</post>\n</posts>",
    b"<div>[Warning]: x in /a.php:3</div>\n" + HEAD + b"<attachments>" + ONE + b"</attachments>\n!",
    *((HERE.parent / "sources" / "data" / name).read_bytes() for name in ("seed_get.xml",)),
]
PIECES = [
    b"<contents>",
    b"</contents>",
    b"<contents />",
    b"<![CDATA[",
    b"]]>",
    b"]]]]><![CDATA[>",
    b"</attachment>",
    b"<attachment>",
    b"</attachments>",
    b"<attachments>",
    HEAD,
    b"<!-- x -->",
    b"<!DOCTYPE a [<!ENTITY b 'QUJD'>]>",
    b"&b;",
    b"&#65;",
    b"&",
    b"<",
    b"]",
    b"\x00",
    b"\xff",
    b"\xef\xbf\xbe",
    b"====",
    b"QUJD",
    b"\r\n",
    b"Fatal error: Allowed memory size of 1 bytes exhausted",
    b"<filesize>12</filesize>",
    b"<?php ?>",
]

Mutation = Callable[[bytes], bytes]


def flip(at: float, mask: int) -> Mutation:
    def change(body: bytes) -> bytes:
        where = int(at * len(body))
        return body[:where] + bytes([body[where] ^ mask]) + body[where + 1 :] if body else body

    return change


def cut(start: float, length: int) -> Mutation:
    def change(body: bytes) -> bytes:
        where = int(start * len(body))
        return body[:where] + body[where + length :]

    return change


def repeat(start: float, length: int, times: int) -> Mutation:
    def change(body: bytes) -> bytes:
        where = int(start * len(body))
        return body[:where] + body[where : where + length] * times + body[where + length :]

    return change


def insert(at: float, noise: bytes) -> Mutation:
    def change(body: bytes) -> bytes:
        where = int(at * len(body))
        return body[:where] + noise + body[where:]

    return change


def splice(at: float, other: bytes, start: float) -> Mutation:
    return lambda body: body[: int(at * len(body))] + other[int(start * len(other)) :]


PLACES = st.floats(0, 1, exclude_max=True)
LENGTHS = st.one_of(st.integers(1, 8), st.integers(1, 400))
MUTATIONS = st.one_of(
    st.builds(flip, PLACES, st.integers(1, 255)),
    st.builds(cut, PLACES, LENGTHS),
    st.builds(repeat, PLACES, LENGTHS, st.integers(2, 4)),
    st.builds(insert, PLACES, st.one_of(st.sampled_from(PIECES), st.binary(max_size=6))),
    st.builds(splice, PLACES, st.sampled_from(VALID), PLACES),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw a valid reply and damage it one to four times."""
    body: bytes = draw(st.sampled_from(VALID))
    for mutation in draw(st.lists(MUTATIONS, min_size=1, max_size=4)):
        body = mutation(body)
    return body


class Memory:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes, /) -> None:
        """Keep the next bytes."""
        self.data += data


def stream(body: bytes, cuts: list[int]) -> list[tuple[Contents, bytes]] | type[SourceError]:
    """Read a reply in pieces; gives its attachments, or the kind of error."""
    reader = ContentsReader(Memory, what="a reply")
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    try:
        for start, end in pairwise(edges):
            reader.feed(body[start:end])
        return [(contents, sink.data) for contents, sink in reader.close()]
    except SourceError as error:
        return type(error)


def encoded_in(body: bytes) -> set[bytes]:
    """Give what stands between any contents tag and any end of one, found without a parser.

    Decoded as PHP does: characters that are not of the alphabet are skipped.
    """
    begins = re.finditer(rb"<contents(?:\s[^<>]*[^<>/])?\s?>", body)
    ends = [match.start() for match in re.finditer(rb"</contents\s*>", body)]
    texts = {body[one.end() : end] for one in begins for end in ends if end >= one.end()}
    # Within CDATA a comment is no comment; where it stands is the parsers' affair.
    bare = {re.sub(rb"<!--.*?-->|<\?.*?\?>", b"", text, flags=re.DOTALL) for text in texts}
    return {b"", *filter(None, map(php_decode, texts | bare))}


def php_decode(text: bytes) -> bytes | None:
    """Decode the base64 of an XML text; None for letters that no encoder writes."""
    plain = re.sub(rb"\]\]\]\]><!\[CDATA\[>|<!\[CDATA\[|\]\]>", b"", text)
    plain = re.sub(rb"&#(\d+);", lambda match: bytes([int(match[1]) & 127]), plain)
    letters = re.sub(rb"[^A-Za-z0-9+/]", b"", plain)
    if len(letters) % 4 == 1:  # six bits are no byte
        return None
    return base64.b64decode(letters + b"=" * (-len(letters) % 4))


def examine(body: bytes, cuts: list[int]) -> None:
    """See that a reply is read to bytes that it encodes, or to a named error, in any pieces."""
    whole, pieces = stream(body, []), stream(body, cuts)
    if b"Allowed memory size" in body and pieces != whole:
        # Which of two words a broken reply with that text gets may depend on the pieces.
        assert {whole, pieces} <= {NotXml, MemoryExhausted, Truncated}, "a difference"
    else:
        assert pieces == whole, "the pieces make a difference"
    if isinstance(whole, list):
        possible = encoded_in(body)
        for contents, data in whole:
            assert data in possible, "bytes that the reply does not encode"
            assert contents.size == len(data)
            if LENIENT_BASE64 in contents.notes:
                assert len(data) == contents.attachment.filesize
            assert contents.attachment.id > 0
            assert "\n" not in contents.attachment.filename
    for parse in (
        lists.parse_attachments,
        lists.parse_departments,
        lists.parse_statuses,
        lists.parse_ticket_count,
        lists.parse_tickets,
    ):
        try:
            parse(body, what="a reply")
        except SourceError:
            continue


@settings(deadline=None, max_examples=MANY or 400, suppress_health_check=[HealthCheck.too_slow])
@given(damaged(), st.lists(st.integers(0, 2500), max_size=5))
def test_a_damaged_reply_is_read_to_the_truth_or_refused(body: bytes, cuts: list[int]) -> None:
    """Flipped, cut, spliced, repeated, noisy: never other bytes, never a foreign exception."""
    try:
        examine(body, cuts)
    except BaseException:
        if MANY:
            KEPT.mkdir(exist_ok=True)
            (KEPT / f"{hashlib.sha256(body).hexdigest()[:16]}.bin").write_bytes(body)
        raise


def kept() -> list[Path]:
    """Give the inputs that failed once."""
    return sorted(KEPT.glob("*.bin"))


@pytest.mark.parametrize("path", kept(), ids=lambda path: path.stem)
def test_what_failed_once_never_fails_again(path: Path) -> None:
    """Every input that the fuzzing has found is read to the truth or refused, in any pieces."""
    body = path.read_bytes()
    for size in (1, 7, 64, 1000):
        examine(body, list(range(size, len(body), size)))


def test_the_undamaged_replies_are_read() -> None:
    """What the fuzzing starts from is valid, and is read to the very files it was made of."""
    for body in VALID[:4]:
        found = stream(body, [])
        assert isinstance(found, list)
        assert {data for _, data in found} <= set(FILES)
