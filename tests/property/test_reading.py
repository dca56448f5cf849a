"""Any reply is read to the truth or to a named error, never to wrong bytes."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from migrator.errors import BadBase64, SourceError
from migrator.sources.base import Contents
from migrator.sources.kayako import lists
from migrator.sources.kayako.contents import ContentsReader

pytestmark = pytest.mark.slow

HEAD = b'<?xml version="1.0" encoding="UTF-8"?>\n'
WHAT = "a reply"


class Memory:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes, /) -> None:
        """Keep the next bytes."""
        self.data += data


def stream(body: bytes, cuts: list[int]) -> list[tuple[Contents, bytes]]:
    """Read a reply that comes cut at these places."""
    reader = ContentsReader(Memory, what=WHAT)
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    for start, end in pairwise(edges):
        reader.feed(body[start:end])
    return [(contents, sink.data) for contents, sink in reader.close()]


def value(data: bytes) -> bytes:
    """Write a value as Kayako does, with its own split of ``]]>``."""
    return b"<![CDATA[" + data.replace(b"]]>", b"]]]]><![CDATA[>") + b"]]>"


def readable(name: bytes) -> str | None:
    """Return what a name must come out as; None where it has to be repaired."""
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return None
    if re.search("[\x00-\x1f\x7f-\x9f\ufdd0-\ufdef]", text):
        return None
    return None if any(ord(char) & 0xFFFE == 0xFFFE for char in text) else text


@dataclass(frozen=True)
class Written:
    """One attachment as it was written, and the truth of it."""

    name: bytes
    data: bytes
    cdata: bool
    width: int
    first: bool

    def xml(self, number: int) -> bytes:
        """Write the element of an attachment of that id."""
        encoded = base64.b64encode(self.data)
        if self.width:
            encoded = b"\r\n".join(
                encoded[at : at + self.width] for at in range(0, len(encoded), self.width)
            )
        if not encoded:
            contents = b"<contents />"
        elif self.cdata:
            contents = b"<contents><![CDATA[" + encoded + b"]]></contents>"
        else:
            contents = b"<contents>" + encoded + b"</contents>"
        fields = (
            b"<id>"
            + value(b"%d" % number)
            + b"</id>\n<filename>"
            + value(self.name)
            + b"</filename>\n"
            b"<filesize>" + value(str(len(self.data)).encode()) + b"</filesize>\n"
        )
        inner = contents + fields if self.first else fields + contents
        return b"<attachment>\n" + inner + b"\n</attachment>\n"


@dataclass(frozen=True)
class Reply:
    """One reply as it was written, and the truth of it."""

    attachments: list[Written]
    before: bytes = b""
    after: bytes = b""
    posts: bool = False
    cuts: list[int] = field(default_factory=list)

    @property
    def document(self) -> bytes:
        """The document alone."""
        rows = b"".join(one.xml(number) for number, one in enumerate(self.attachments, 7))
        inner = b"<attachments>\n" + rows + b"</attachments>"
        if self.posts:
            text = value(b"<contents><![CDATA[QUJD")
            inner = b"<posts><post><id>5</id><contents>" + text + b"</contents>\n" + inner
            inner += b"\n</post>\n</posts>"
        return HEAD + inner


NAMES = st.one_of(
    st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.binary(max_size=20),
    st.lists(
        st.sampled_from(
            [
                b"]",
                b"]]>",
                b"<contents><![CDATA[",
                b"</contents>",
                b"</attachments>",
                b"QUJD",
                b"<![CDATA[",
                b"&",
                b"<",
                b">",
                b"\n",
                b"\xfc",
                b"\x00",
                b"<!DOCTYPE",
                b"<?xml",
            ]
        ),
        max_size=5,
    ).map(b"".join),
)
WRITTEN = st.builds(
    Written,
    name=NAMES,
    data=st.binary(max_size=300),
    cdata=st.booleans(),
    width=st.sampled_from([0, 0, 1, 5, 64, 76]),
    first=st.booleans(),
)
NOISE = st.one_of(
    st.just(b""),
    st.sampled_from(
        [b"\xef\xbb\xbf\r\n", b"<div>[Warning]: <b>x</b> &</div>\n", b"Notice: <?xml in /a.php\n"]
    ),
    st.binary(max_size=30),
)
CUTS = st.lists(st.integers(0, 2000), max_size=8)
REPLIES = st.builds(
    Reply,
    attachments=st.lists(WRITTEN, max_size=3),
    before=NOISE,
    after=NOISE,
    posts=st.booleans(),
    cuts=CUTS,
)


@settings(deadline=None, max_examples=200)
@given(REPLIES)
@example(Reply([Written(b"\x80]]>\n", b"A" * 9, cdata=True, width=0, first=False)]))
@example(Reply([Written(b"a", b"A", cdata=True, width=0, first=False)], after=b"\xc2"))
def test_any_reply_is_read_to_the_truth(reply: Reply) -> None:
    """Names, bytes, layout, noise and pieces of any kind: the records tell what was written."""
    found = stream(reply.before + reply.document + reply.after, reply.cuts)
    assert [data for _, data in found] == [written.data for written in reply.attachments]
    noisy = any(around.strip(b"\xef\xbb\xbf \t\r\n") for around in (reply.before, reply.after))
    for (contents, data), written in zip(found, reply.attachments, strict=True):
        assert contents.size == contents.attachment.filesize == len(data)
        assert contents.present == bool(data)
        assert contents.attachment.post_id == (5 if reply.posts else 0)
        name, expected = contents.attachment.filename, readable(written.name)
        assert expected in {None, name}
        assert readable(name.encode()) == name
        assert ("repaired_name" in contents.notes) == (expected is None)
        assert ("noise_around_xml" in contents.notes) == noisy
        assert "lenient_base64" not in contents.notes


@settings(deadline=None, max_examples=100)
@given(REPLIES)
def test_lists_and_contents_agree(reply: Reply) -> None:
    """The list parser reads the same names, sizes and notes out of the same document."""
    if reply.posts:
        return
    body = reply.before + reply.document + reply.after
    streamed = [contents.attachment for contents, _ in stream(body, reply.cuts)]
    assert lists.parse_attachments(body, what=WHAT) == streamed


@settings(deadline=None, max_examples=100)
@given(REPLIES, st.floats(0, 1, exclude_max=True))
def test_no_cut_reply_is_accepted(reply: Reply, part: float) -> None:
    """Any beginning of a document is an error, in any pieces, for both readers."""
    cut = (reply.before + reply.document)[: len(reply.before) + int(part * len(reply.document))]
    with pytest.raises(SourceError):
        stream(cut, reply.cuts)
    with pytest.raises(SourceError):
        lists.parse_attachments(cut, what=WHAT)


SOUP = st.lists(
    st.one_of(
        st.sampled_from(
            (
                HEAD,
                b"<attachments>",
                b"</attachments>",
                b"<attachment>",
                b"</attachment>",
                b"<id>7",
                b"</id>",
                b"<contents>",
                b"</contents>",
                b"<![CDATA[",
                b"]]>",
                b"QUJD",
                b"]",
                b"<",
                b"<filename>",
                b"</filename>",
                b"&amp;",
                b"<filesize>3</filesize>",
                b"<posts><post>",
            )
        ),
        st.binary(max_size=6),
    ),
    max_size=25,
).map(b"".join)


@settings(deadline=None, max_examples=300)
@given(SOUP, CUTS)
def test_soup_gives_only_named_errors(soup: bytes, cuts: list[int]) -> None:
    """Whatever comes, a reader returns records or raises a SourceError, the same in any pieces."""

    def outcome(cuts: list[int]) -> object:
        try:
            return stream(soup, cuts)
        except SourceError as error:
            return type(error)

    assert outcome(cuts) == outcome([])
    for parse in (lists.parse_attachments, lists.parse_tickets):
        try:
            parse(soup, what=WHAT)
        except SourceError:
            continue


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=60), st.binary(min_size=1, max_size=3), st.integers(0, 90), CUTS)
def test_damaged_base64_never_gives_other_bytes_unnoticed(
    data: bytes, junk: bytes, at: int, cuts: list[int]
) -> None:
    """Junk inside base64 leaves a note, an error or the right bytes."""
    written = Written(b"a", data, cdata=True, width=0, first=False)
    encoded = base64.b64encode(data)
    damaged = encoded[:at] + junk + encoded[at:]
    body = HEAD + b"<attachments>" + written.xml(7) + b"</attachments>"
    body = body.replace(b"[" + encoded + b"]", b"[" + damaged + b"]") if encoded else body
    try:
        ((contents, got),) = stream(body, cuts)
    except BadBase64:
        return
    except SourceError:
        assert re.search(rb"\]", junk)
        return
    lenient = "lenient_base64" in contents.notes
    assert got == data or lenient or len(got) != contents.attachment.filesize
