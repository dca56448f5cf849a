"""Contents of attachments, streamed out of any reply."""

from __future__ import annotations

import base64
import hashlib
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from migrator.errors import (
    Again,
    ArchiveUnwritable,
    BadBase64,
    MemoryExhausted,
    NotXml,
    SourceError,
    Truncated,
    UnexpectedReply,
)
from migrator.sources.base import Attachment, Contents
from migrator.sources.kayako import lists
from migrator.sources.kayako.contents import ContentsReader
from migrator.sources.kayako.limits import ATTACHMENTS

DATA = Path(__file__).parent / "data"
HEAD = b'<?xml version="1.0" encoding="UTF-8"?>\n'
WHAT = "attachment 7 of ticket 3"
BYTES = bytes(range(256)) * 3
SEED_SHA256 = "29be9ef9bc6f6a08c7d514035e29c1b751d2f4b697bb6c8317361f9a08163c07"


class Memory:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes, /) -> None:
        """Keep the next bytes."""
        self.data += data


def cdata(data: bytes = BYTES) -> bytes:
    """Write contents as Kayako does."""
    return b"<contents><![CDATA[" + base64.b64encode(data) + b"]]></contents>"


def attachment(
    contents: bytes | None = None,
    *,
    name: bytes = b"<![CDATA[a.bin]]>",
    size: int = len(BYTES),
    number: bytes = b"7",
) -> bytes:
    """Write one attachment element."""
    return (
        b"<attachment>\n<id><![CDATA[" + number + b"]]></id>\n<ticketid><![CDATA[3]]></ticketid>\n"
        b"<ticketpostid><![CDATA[5]]></ticketpostid>\n<filename>" + name + b"</filename>\n"
        b"<filesize><![CDATA[" + str(size).encode() + b"]]></filesize>\n"
        b"<filetype><![CDATA[image/gif]]></filetype>\n<dateline><![CDATA[1296645496]]></dateline>\n"
        + (cdata() if contents is None else contents)
        + b"\n</attachment>\n"
    )


def reply(*elements: bytes) -> bytes:
    """Write a whole reply of attachments."""
    return HEAD + b"<attachments>\n" + b"".join(elements or (attachment(),)) + b"</attachments>"


def pieces(body: bytes, size: int) -> Iterator[bytes]:
    """Cut a reply into pieces of one size."""
    return (body[at : at + size] for at in range(0, len(body), size))


def stream(chunks: Iterable[bytes], *, post_id: int = 0) -> list[tuple[Contents, bytes]]:
    """Read a reply from its pieces."""
    reader = ContentsReader(Memory, what=WHAT, ticket_id=33, post_id=post_id)
    for chunk in chunks:
        reader.feed(chunk)
    return [(contents, sink.data) for contents, sink in reader.close()]


def read(body: bytes) -> list[tuple[Contents, bytes]]:
    """Read a reply at once and in pieces of 1, 2, 3 and 64 bytes: always the same."""
    whole = stream([body])
    for size in (1, 2, 3, 64):
        assert stream(pieces(body, size)) == whole
    return whole


def one(body: bytes) -> tuple[Contents, bytes]:
    """Read a reply of one attachment, in any pieces."""
    (found,) = read(body)
    return found


def failure(body: bytes) -> SourceError:
    """Return the error of a reply, which must be of one kind in any pieces."""
    errors: list[SourceError] = []
    for size in (len(body) + 1, 1, 7):
        with pytest.raises(SourceError) as caught:
            stream(pieces(body, size))
        errors.append(caught.value)
    assert len({type(error) for error in errors}) == 1, errors
    return errors[0]


RECORD = Attachment(7, 3, 5, "a.bin", len(BYTES), "image/gif", 1296645496)


@pytest.mark.parametrize("name", ["seed_get.xml", "seed_ticketpost.xml"])
def test_the_documented_samples(name: str) -> None:
    """The samples of Kayako's documentation, odd ending and all, hold the 541 bytes they tell."""
    contents, data = one((DATA / name).read_bytes())
    assert contents == Contents(
        Attachment(1, 1, 1, "icon_chart.gif", 541, "image/gif", 1296645496), 541, present=True
    )
    assert len(data) == 541
    assert hashlib.sha256(data).hexdigest() == SEED_SHA256
    assert data.startswith(b"\x89PNG")


def test_a_reply_as_kayako_writes_it() -> None:
    """One attachment comes with its record, its bytes and no notes."""
    assert one(reply()) == (Contents(RECORD, len(BYTES), present=True), BYTES)


REMOTE = b'Unable to locate remote file "attach_x1".'


@pytest.mark.parametrize(
    "sentence",
    [
        REMOTE + b" Please contact Kayako support for help.",
        REMOTE + b" Please contact QuickSupport support for help.",
        b'Unable to open remote file "attach_x1", info: Array\n(\n    [url] => x\n)',
        b"<b>Notice</b>: x in /a.php on line 3\n" + REMOTE.upper(),
    ],
)
def test_what_is_said_of_a_remote_file_is_kept(sentence: bytes) -> None:
    """Before the document or after it, by any vendor; only where there are no contents."""
    empty = reply(attachment(b"<contents />"))
    for body in (sentence + b"\n" + empty, empty + b"\n" + sentence):
        contents, _ = one(body)
        assert not contents.present
        assert contents.said.lower().startswith("unable to ")
        assert "attach_x1" in contents.said.lower()
        assert contents.said.isprintable()
    assert one(sentence + b"\n" + reply())[0].said == ""


@pytest.mark.parametrize(
    "warning",
    [
        b"Warning: mysqli_query(): MySQL server has gone away in /a.php on line 412\n",
        b"PDO Prepare Failed: SELECT contents FROM swattachmentchunks\n",
        b"<b>Warning</b>: Lost connection to MySQL server during query\n",
        b"Table './kayako/swattachmentchunks' is marked as crashed\n",
        b"User kayako already has more than 'max_user_connections' active connections\n",
    ],
)
def test_a_failed_database_is_no_lost_file(warning: bytes) -> None:
    """Contents that PHP could not read are asked for again; those that are there are good."""
    empty = reply(attachment(b"<contents />"))
    for body in (warning + empty, empty + warning):
        error = failure(body)
        assert error.again is Again.LATER
        assert "database" in str(error)
    assert one(warning + reply())[1] == BYTES


ENCODED = base64.b64encode(BYTES)
WRAPPED = base64.encodebytes(BYTES)


@pytest.mark.parametrize(
    "contents",
    [
        b"<contents>" + ENCODED + b"</contents>",
        b"<contents>\n" + WRAPPED + b"</contents>",
        b"<contents><![CDATA[" + WRAPPED.replace(b"\n", b"\r\n") + b"]]></contents>",
        b"<contents>\n<![CDATA[" + ENCODED + b"]]>\n</contents>",
        b"<contents >" + b"<![CDATA[" + ENCODED + b"]]></contents >",
        b"<contents enc='base64'><![CDATA[" + ENCODED + b"]]></contents>",
        b"<contents><![CDATA[" + ENCODED[:10] + b"]]><![CDATA[" + ENCODED[10:] + b"]]></contents>",
        b"<contents><![CDATA[]]>" + ENCODED + b"</contents>",
        b"<contents>&#" + str(ENCODED[0]).encode() + b";" + ENCODED[1:] + b"</contents>",
        b"<contents>" + ENCODED[:5] + b"<!-- x --><?pi x?>" + ENCODED[5:] + b"</contents>",
    ],
)
def test_contents_however_written(contents: bytes) -> None:
    """Wrapped, split, bare, escaped: the same bytes, and nothing to note."""
    assert one(reply(attachment(contents))) == (Contents(RECORD, len(BYTES), present=True), BYTES)


def test_contents_before_the_name() -> None:
    """The order of the children does not matter."""
    body = b"<attachments><attachment>" + cdata(b"A") + b"<filename>n</filename><filesize>1"
    contents, data = one(body + b"</filesize><id>7</id></attachment></attachments>")
    assert contents == Contents(Attachment(7, 33, 0, "n", 1), 1, present=True)
    assert data == b"A"


@pytest.mark.parametrize("element", [b"<contents />", b"<contents></contents>"])
@pytest.mark.parametrize("size", [0, 541])
def test_empty_contents(element: bytes, size: int) -> None:
    """Empty contents are reported as absent; the size tells an empty file from a lost one."""
    contents, data = one(reply(attachment(element, size=size)))
    assert (contents.size, contents.present, data) == (0, False, b"")
    assert contents.attachment.filesize == size


@pytest.mark.parametrize(
    "blank", [b"<contents>\n \n</contents>", b"<contents><![CDATA[ \n]]></contents>"]
)
def test_blank_contents_are_absent(blank: bytes) -> None:
    """White space is no content."""
    assert not one(reply(attachment(blank)))[0].present


def test_a_sink_per_contents_element() -> None:
    """Each contents element gets a sink of its own, in order, an empty one too."""
    made: list[Memory] = []

    def make() -> Memory:
        made.append(Memory())
        return made[-1]

    reader = ContentsReader(make, what=WHAT)
    reader.feed(reply(attachment(), attachment(b"<contents />", number=b"8"), attachment()))
    assert [sink for _, sink in reader.close()] == made
    assert [sink.data for sink in made] == [BYTES, b"", BYTES]


def test_posts_with_attachments() -> None:
    """In the shape of servers, ids come from the post, whose own contents are its text."""
    body = (
        HEAD + b"<posts>\n<post>\n<id><![CDATA[5]]></id>\n<ticketid><![CDATA[3]]></ticketid>\n"
        b"<contents><![CDATA[QUJD <contents><![CDATA[ text]]></contents>\n<attachments>\n"
        b"<attachment>\n<id>1</id><filename>a</filename><filesize>1</filesize>"
        + cdata(b"A")
        + b"</attachment>\n<attachment><id>2</id>"
        + cdata(b"BB")
        + b"</attachment>\n"
        b"</attachments>\n</post>\n<post><contents />\n<attachments>\n</attachments>\n</post>\n"
        b"<post><attachments><attachment><id>3</id><contents /></attachment></attachments>"
        b"<id>6</id></post></posts>"
    )
    found = read(body)
    assert [
        (c.attachment.id, c.attachment.ticket_id, c.attachment.post_id, data) for c, data in found
    ] == [
        (1, 3, 5, b"A"),
        (2, 3, 5, b"BB"),
        (3, 33, 6, b""),
    ]


def test_posts_that_are_numbered_by_ticket() -> None:
    """Where a post has two ids, its attachments belong to the one that is its own everywhere."""
    body = (
        b"<posts><post><id>2</id><ticketpostid><![CDATA[1495]]></ticketpostid><ticketid>3</ticketid>"
        b"<attachments><attachment><id>1</id>" + cdata(b"A") + b"</attachment></attachments>"
        b"</post></posts>"
    )
    ((contents, _),) = read(body)
    assert (contents.attachment.ticket_id, contents.attachment.post_id) == (3, 1495)


def test_ids_of_the_caller_fill_in() -> None:
    """An attachment that names no ticket and post belongs to those that were asked for."""
    body = b"<attachment><id>7</id><contents>QUI=</contents></attachment>"
    ((contents, data),) = stream([body], post_id=55)
    assert (contents.attachment, data) == (Attachment(7, 33, 55), b"AB")


def test_one_post_may_be_the_root() -> None:
    """A bare post is read like a list of one."""
    body = b"<post><id>5</id><attachments>" + attachment() + b"</attachments></post>"
    assert one(body)[1] == BYTES


HOSTILE = b"<contents><![CDATA[AAAA"


@pytest.mark.parametrize(
    ("name", "filename", "notes"),
    [
        (b"<![CDATA[a]]]]><![CDATA[>b]]>", "a]]>b", ()),
        (b"<![CDATA[" + HOSTILE + b"]]>", HOSTILE.decode(), ()),
        (b"<![CDATA[</filename></attachment>]]>", "</filename></attachment>", ()),
        (b"<![CDATA[]]]]]]><![CDATA[></contents>]]>", "]]]]></contents>", ()),
        (b"a &amp; &lt;&#8364;<b>c</b>", "a & <€", ()),
        (b"<![CDATA[gr\xfcn \xe2\x82.txt]]>", "grün \u00e2\u201a.txt", ("repaired_name",)),
        (b"<![CDATA[a\x00\x0b\x1b\x7fb\xc2\x85c]]>", "abc", ("repaired_name",)),
        ("<![CDATA[a\ufffe\uffff\ufdd0b]]>".encode(), "ab", ("repaired_name",)),
        (b"<![CDATA[a\r\n\tb\nc]]>", "a b c", ("repaired_name",)),
        (b"a&#xFFFE;&#1;b<![CDATA[&#1;]]>", "ab&#1;", ("repaired_name",)),
        ("<![CDATA[\U0001f600 \u202e.txt]]>".encode(), "\U0001f600 \u202e.txt", ()),
        (b"<![CDATA[]]>", "", ()),
    ],
)
def test_names(name: bytes, filename: str, notes: tuple[str, ...]) -> None:
    """A hostile or broken name costs the name, never the bytes."""
    contents, data = one(reply(attachment(name=name)))
    assert (contents.attachment.filename, contents.attachment.notes) == (filename, notes)
    assert contents.notes == notes
    assert data == BYTES


def test_a_repair_elsewhere_is_not_the_names() -> None:
    """A broken byte in another field leaves no note on the name."""
    contents, _ = one(reply().replace(b"image/gif", b"image\xff/gif"))
    assert (contents.notes, contents.attachment.filetype) == ((), "imageÿ/gif")


@pytest.mark.parametrize(
    ("encoding", "notes"), [("ISO-8859-1", ()), ("us-ascii", ("repaired_name",))]
)
def test_declared_encodings(encoding: str, notes: tuple[str, ...]) -> None:
    """A declared encoding is honoured."""
    body = reply(attachment(name=b"gr\xfcn")).replace(b"UTF-8", encoding.encode())
    contents, data = one(body)
    assert (contents.attachment.filename, contents.notes, data) == ("grün", notes, BYTES)


@pytest.mark.parametrize(
    ("before", "after", "noisy"),
    [
        (b"", b"", False),
        (b"\xef\xbb\xbf\r\n", b"\n \n\xef\xbb\xbf", False),
        (b"<div><font>[Warning]: x & y</font></div>\n", b"", True),
        (b'Unable to locate remote file "x".', b"", True),
        (b"", b"\nWarning: something", True),
        (b"", b"<br />\n<b>Notice</b>: & < \x00\xff", True),
        (b"", b"]]>", True),
        (b"", b"\xc2", True),
        (b"", b"<conten", True),
        (b"", b"<!-- never closed", True),
        (b"", b" " * 70_000 + b"x", True),
    ],
)
def test_noise_is_dropped_and_noted(before: bytes, after: bytes, noisy: bool) -> None:
    """Text around the document costs a note on every record, white space not even that."""
    body = before + reply(attachment(), attachment()) + after
    found = stream([body])
    for size in (1, 50):
        assert stream(pieces(body, size)) == found
    for contents, data in found:
        notes = ("noise_around_xml",) if noisy else ()
        assert (contents.notes, contents.attachment.notes, data) == (notes, notes, BYTES)


def test_an_empty_list_is_empty() -> None:
    """A reply without attachments holds none."""
    for body in (b"<attachments />", HEAD + b"<attachments>\n</attachments>", b"<posts/>"):
        assert read(body) == []


def test_every_cut_is_an_error() -> None:
    """No beginning of a document is taken for the whole, wherever it was cut."""
    for body in (reply(attachment(cdata(b"ABCD"), size=4)), (DATA / "seed_get.xml").read_bytes()):
        for cut in range(len(body)):
            for chunks in ([body[:cut]], pieces(body[:cut], 5)):
                with pytest.raises((Truncated, NotXml)) as caught:
                    stream(chunks)
                begun = cut > body.find(b"<attachments>") + 12
                assert type(caught.value) is (Truncated if begun else NotXml)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"Uncaught Exception\nRouter: /Tickets/TicketAttachment\n=====",
        b"<html><body>Please log in</body></html>",
        b"<!DOCTYPE html>" + reply(),
        HEAD + b"<!DOCTYPE attachments [<!ENTITY a 'b'>]><attachments></attachments>",
        HEAD + b"<tickets></tickets>",
        HEAD + b"<html>" + reply(),
        reply().replace(b"UTF-8", b"UTF-16"),
        reply().replace(b"</filename>", b"</filenam>"),
        reply(attachment(b"<contents>QUJD<b>REVG</b></contents>")),
        reply() + reply(),
        reply(b"<a>" * 100 + b"</a>" * 100),
        reply(attachment(b"<contents><![CDATA[QUJD]]]]><![CDATA[ ></contents>")),
        reply(attachment(name=b"<![CDATA[a]]]]><![CDATA[></filename>")),
    ],
)
def test_what_is_not_xml(body: bytes) -> None:
    """Text, pages, DTDs, broken XML and two documents are never content."""
    error = failure(body)
    assert type(error) in {NotXml, Truncated}
    assert WHAT in str(error)


def test_the_odd_ending_counts_only_at_the_end_of_a_run() -> None:
    """What is tolerated at the end of contents is not tolerated in a name, or after contents."""
    odd = b"]]]]><![CDATA[></"
    in_name = reply(attachment(name=b"<![CDATA[a" + odd + b"filename>"))
    assert type(failure(in_name)) is NotXml
    slow = reply(attachment(b"<contents ><![CDATA[QUJD" + odd + b"contents>"))
    assert type(failure(slow)) is Truncated


FATAL = b"\n<b>Fatal error</b>:  Allowed memory size of 134217728 bytes exhausted"


@pytest.mark.parametrize(
    "body",
    [
        FATAL,
        reply()[:300] + FATAL,
        reply()[:700] + FATAL,
        reply()[:-20] + FATAL,
        reply()[:-20] + FATAL + b"</c></d>",
        reply()[:-20] + b"<br></x>" + FATAL,
    ],
)
def test_memory_that_ran_out(body: bytes) -> None:
    """PHP's fatal error is recognised instead of, before and after the start of the contents."""
    assert type(stream_failure(body)) is MemoryExhausted


def stream_failure(body: bytes) -> SourceError:
    """Return the error of a reply that comes at once."""
    with pytest.raises(SourceError) as caught:
        stream([body])
    return caught.value


def test_a_name_cannot_claim_that_memory_ran_out() -> None:
    """A cut reply is tried again, whatever the name of the file says."""
    body = reply(attachment(name=b"<![CDATA[Allowed memory size.txt]]>"))
    assert type(failure(body[: body.find(b"<contents>") + 40])) is Truncated
    assert type(failure(body.replace(b"</filetype>", b"</filetypo>"))) is NotXml


def test_lenient_base64_is_noted_when_the_size_is_right() -> None:
    """Contents that only PHP reads are kept with a note if they have the declared size."""
    for junk in (b"<contents><![CDATA[QU!JD]]></contents>", b"<contents>QU!J\xffD</contents>"):
        contents, data = one(reply(attachment(junk, size=3)))
        assert (contents.notes, contents.attachment.notes) == (("lenient_base64",), ())
        assert (contents.size, data) == (3, b"ABC")


@pytest.mark.parametrize(
    "contents", [b"QU!JD", b"QUJDR", b"QQ==QUJD", b"!!!", b"]QUJD", b"QU\xe9JD"]
)
@pytest.mark.parametrize("size", [0, 2])
def test_lenient_base64_of_another_size_is_an_error(contents: bytes, size: int) -> None:
    """Contents that are not base64 and not of the declared size are never accepted."""
    if (contents, size) == (b"!!!", 0):
        return
    body = reply(attachment(b"<contents><![CDATA[" + contents + b"]]></contents>", size=size))
    assert type(failure(body)) is BadBase64


def test_a_strict_size_mismatch_is_the_callers() -> None:
    """Proper base64 of another size than declared is reported, not refused."""
    contents, data = one(reply(attachment(size=5)))
    assert (contents.size, contents.attachment.filesize, contents.notes) == (len(BYTES), 5, ())
    assert data == BYTES


@pytest.mark.parametrize(
    "body",
    [
        reply(attachment(b"")),
        reply(attachment(cdata(b"A") + cdata(b"A"))),
        reply(attachment(number=b"abc")),
        reply(attachment(number=b"")),
        reply(attachment(number=b"9223372036854775808")),
        reply(attachment(number=b"9000000000000000")),
        reply(attachment(name=b"x" * ((1 << 20) + 1))),
    ],
)
def test_unexpected_replies(body: bytes) -> None:
    """No contents, contents twice, impossible numbers and endless names are refused."""
    for size in (1 << 16, len(body)):
        with pytest.raises(UnexpectedReply, match=WHAT):
            stream(pieces(body, size))


@pytest.mark.parametrize(
    ("old", "new", "filesize", "created_at"),
    [
        (b"<filesize>4", b"<filesize>-5", 0, 1),
        (b"<filesize>4", b"<filesize>4 KB", 0, 1),
        (b"<filesize>4", b"<filesize>99999999999999999999", 0, 1),
        (b"<dateline>1", b"<dateline>n/a", 4, 0),
        (b"<dateline>1", b"<dateline>2010-03-12 10:43:00", 4, 0),
        (b"<dateline>1", b"<dateline>253402300800", 4, 0),
    ],
)
def test_an_odd_size_or_date_costs_itself_only(
    old: bytes, new: bytes, filesize: int, created_at: int
) -> None:
    """What is no number is 0, with a note; the bytes come all the same."""
    body = (
        b"<attachments><attachment><id>7</id><ticketid>-1</ticketid><ticketpostid>x</ticketpostid>"
        b"<filesize>4</filesize><dateline>1</dateline><contents>QUJDRA==</contents></attachment>"
        b"</attachments>"
    )
    contents, data = one(body.replace(old, new))
    assert data == b"ABCD"
    assert contents.attachment == Attachment(
        7, 33, 0, "", filesize, "", created_at, ("odd_number",)
    )


@pytest.mark.parametrize(
    ("name", "filename", "notes"),
    [
        (b"caf&eacute; &amp; R&D.txt", "café & R&D.txt", ("repaired_name",)),
        (b"caf&eacute;.txt", "café.txt", ()),
        (b"&unknown; <3", "&unknown; <3", ("repaired_name",)),
    ],
)
def test_what_only_html_understands_costs_no_file(
    name: bytes, filename: str, notes: tuple[str, ...]
) -> None:
    """Entities of HTML are read, and a stray sign is kept as it is, with a note."""
    contents, data = one(reply(attachment(name=name)))
    assert (contents.attachment.filename, contents.attachment.notes) == (filename, notes)
    assert data == BYTES


def test_a_reply_for_one_attachment_ends_at_the_second() -> None:
    """No second sink is made, however many there are; replies for many are bounded, too."""

    def count(attachments: bytes, most: int) -> tuple[int, type[BaseException] | None]:
        sinks: list[Memory] = []

        def make() -> Memory:
            sinks.append(Memory())
            return sinks[-1]

        reader = ContentsReader(make, what=WHAT, most=most)
        try:
            reader.feed(reply(attachments))
        except UnexpectedReply as error:
            return len(sinks), type(error)
        return len(sinks), None

    assert count(attachment(), 1) == (1, None)
    assert count(attachment() * 3, 1) == (1, UnexpectedReply)
    assert count(attachment(b"<contents/>" * 20_000), 1) == (1, UnexpectedReply)
    assert count(attachment() * 3, 2) == (2, UnexpectedReply)
    assert count(attachment() * 1001, ATTACHMENTS) == (1000, UnexpectedReply)


def test_the_first_of_a_field_counts_here_and_in_lists() -> None:
    """A field that comes twice is read as the lists read it."""
    body = reply(attachment()).replace(b"</filename>", b"</filename><filename>b</filename>")
    contents, _ = one(body)
    assert lists.parse_attachments(body, what=WHAT)[0].filename == contents.attachment.filename


def test_an_empty_number_is_zero() -> None:
    """PHP 7 writes 0 as an empty element."""
    body = b"<attachment><id>7</id><filesize /><dateline></dateline><contents /></attachment>"
    assert one(body)[0].attachment == Attachment(7, 33, 0)


def test_a_tag_without_end_does_not_fill_memory() -> None:
    """A tag of more than a mebibyte ends the reading."""
    chunks = (b"<attachments><a b='", *(b"x" * 65536 for _ in range(20)))
    with pytest.raises(NotXml, match="does not end"):
        stream(chunks)


def test_noise_without_document_does_not_fill_memory() -> None:
    """The search for a document ends after a mebibyte, before the reply does."""

    def endless() -> Iterator[bytes]:
        for fed in range(100):
            assert fed < 20
            yield b"x" * 65536

    with pytest.raises(NotXml):
        stream(endless())
    with pytest.raises(NotXml):
        stream([b" " * (1 << 20) + reply()])


def test_a_dead_reader_stays_dead() -> None:
    """After an error nothing more is read, and closing raises it again."""
    reader = ContentsReader(Memory, what=WHAT)
    with pytest.raises(NotXml) as first:
        reader.feed(reply(attachment(b"<contents><b></b></contents>")))
    for again in (lambda: reader.feed(reply()), reader.close):
        with pytest.raises(NotXml) as caught:
            again()
        assert caught.value is first.value


@pytest.mark.parametrize("contents", [cdata(), b"<contents>" + ENCODED + b"</contents>"])
def test_errors_of_a_sink_pass(contents: bytes) -> None:
    """What a sink raises, as for a full disk, reaches the caller as it is."""

    class Full(Memory):
        def write(self, data: bytes, /) -> None:
            raise ArchiveUnwritable("disk full")

    reader = ContentsReader(Full, what=WHAT)
    with pytest.raises(ArchiveUnwritable, match="disk full"):
        reader.feed(reply(attachment(contents)))
    with pytest.raises(ArchiveUnwritable):
        reader.close()


class Counter:
    """A sink that only counts."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: bytes, /) -> None:
        """Count the next bytes."""
        self.size += len(data)


@pytest.mark.parametrize("wrap", [False, True])
def test_memory_does_not_depend_on_size(wrap: bool) -> None:
    """64 MiB of contents pass in less than 8 MiB of memory, the fast way and the slow one."""
    block = base64.b64encode(b"x" * 48 * 1024)
    if wrap:
        block = b"\n".join(pieces(block, 64)) + b"\n"
    blocks = (64 << 20) // (48 * 1024) // (8 if wrap else 1)
    reader = ContentsReader(Counter, what=WHAT)
    tracemalloc.start()
    try:
        reader.feed(HEAD + b"<attachments><attachment><id>1</id><contents><![CDATA[")
        for _ in range(blocks):
            reader.feed(block)
        reader.feed(b"]]></contents></attachment></attachments>")
        ((contents, sink),) = reader.close()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert contents.size == sink.size == blocks * 48 * 1024
    assert peak < 8 << 20
