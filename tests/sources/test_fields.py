"""Custom fields: what a reply says, and how often its files are encoded."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.errors import (
    BadBase64,
    MemoryExhausted,
    NotFound,
    NotXml,
    Truncated,
    UnexpectedReply,
)
from migrator.sources.base import Contents, CustomFields, HashSink
from migrator.sources.kayako import fields, limits
from migrator.sources.kayako.fields import (
    Encoding,
    FieldsReader,
    PasswordVeil,
    fields_of,
    file_of,
)

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<customfields>\n'
TAIL = "\n</customfields>"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


def document(*rows: str, head: str = HEAD) -> bytes:
    """Give a reply with one group of fields."""
    inner = "\n".join(rows)
    return f'{head}<group id="1" title="Order &amp; delivery">\n{inner}\n</group>{TAIL}'.encode()


def value(text: str, *, kind: int = 1, key: int = 2, title: str = "Remark") -> str:
    inner = f"><![CDATA[{text}]]></field>" if text else " />"
    return f'<field id="{key}" title="{title}" type="{kind}" name="x"{inner}'


def file(
    data: bytes | None,
    times: int = 1,
    *,
    key: int = 1,
    name: str | None = "a.pdf",
    old: bool = False,
) -> str:
    """Give a field with a file, encoded so many times."""
    encoded = data or b""
    for _ in range(times if data else 0):
        encoded = base64.b64encode(encoded)
    named = f' filename="{name}"' if name is not None else ""
    own = "" if old else ' name="x"'
    inner = f"><![CDATA[{encoded.decode()}]]></field>" if data else " />"
    return f'<field id="{key}" title="Invoice" type="11"{own}{named}{inner}'


def reader(reply: bytes, cuts: Sequence[int] = ()) -> FieldsReader[HashSink]:
    """Give the reader of a reply that comes in pieces."""
    made = FieldsReader(HashSink, what="ticket 7")
    edges = [0, *sorted(cut % (len(reply) + 1) for cut in cuts), len(reply)]
    for begin, end in pairwise(edges):
        made.feed(reply[begin:end])
    made.finish()
    return made


def read(reply: bytes, encoding: Encoding | None = None, cuts: Sequence[int] = ()) -> CustomFields:
    return fields_of(7, reader(reply, cuts).fields, encoding or Encoding(), what="ticket 7")


def fetched(reply: bytes, encoding: Encoding, key: int = 1) -> tuple[Contents, HashSink]:
    made = FieldsReader(HashSink, what="ticket 7", wanted=key)
    made.feed(reply)
    made.finish()
    return file_of(f"7/{key}", made.fields, encoding, what="ticket 7")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_values_without_passwords_and_empty_ones() -> None:
    """Several options stay as they come; a linked one loses the escape that is in its text."""
    reply = document(
        value("red, light\\, blue", kind=7, key=1, title="Colours"),
        value("hunter2", kind=3, key=2, title="Password"),
        value("", key=3),
        value("Printer &gt; Laser", kind=9, key=4, title="Product"),
        value("two\nlines", kind=2, key=5, title="Text"),
        file(PNG, key=6),
        file(PNG, key=7, name=None),
        file(None, key=8, name="lost.pdf"),
        file(None, key=9, name=None),
    )
    found = read(reply)
    assert [(title, text) for _, title, text in found.values] == [
        ("Colours", "red, light\\, blue"),
        ("Product", "Printer > Laser"),
        ("Text", "two\nlines"),
        ("Invoice", "a.pdf"),
        ("Invoice", "(a file without a name)"),
        ("Invoice", "lost.pdf"),
    ]
    assert {group for group, _, _ in found.values} == {"Order & delivery"}
    assert [(one.place, one.filename, one.filesize) for one in found.files] == [
        ("7/6", "a.pdf", len(PNG)),
        ("7/7", "", len(PNG)),
        ("7/8", "lost.pdf", 0),
    ]
    assert found.files[0].id == 3 * 10**15 + 700_006
    assert found.files[0].sha256 == sha256(PNG)


def test_passwords_are_hidden_in_a_copy() -> None:
    """However they are written, and wherever the pieces of the reply end; nothing else is."""
    shown = (
        b'<customfields><!-- <field type="3"> --><group title="a > b">'
        b'<field id="2" type="1"><![CDATA[<field type="3">kept</field>]]></field>'
        b'<field id="3" title=\'type="3"\' type="1">kept</field></group></customfields>kept < kept'
    )
    hidden = {
        b'<field id="1" title="a > b" type="3" name="p">': b"<![CDATA[a</field>b]]>",
        b"<field title='type=\"1\"' type = ' 3 '>": b"a<!-- </field> -->b",
        b'<field type="&#51;">': b"a&amp;b",
    }
    begin, end = shown.split(b"<field id", 1)[0], shown[len(shown.split(b"<field id", 1)[0]) :]
    reply = begin + b"".join(tag + said + b"</field>" for tag, said in hidden.items()) + end
    wanted = begin + b"".join(tag + b"***</field>" for tag in hidden) + end
    for size in (1, 2, 3, 7, 50, len(reply)):
        veil = PasswordVeil()
        pieces = [veil.feed(reply[at : at + size]) for at in range(0, len(reply), size)]
        assert b"".join((*pieces, veil.feed(b"", final=True))) == wanted
        assert veil.fields == len(hidden)


def test_a_password_is_not_even_held() -> None:
    """No part of it is in the reader."""
    made = reader(document(value("hunter2", kind=3)))
    assert "hunter2" not in repr(made.fields)


def test_definitions_of_tickets_are_counted() -> None:
    """Groups of other things do not count; without a type of the group, any does."""
    row = '<customfield customfieldid="{}" fieldtype="{}" {}/>'.format
    rows = [
        row(1, 11, 'grouptype="4"'),
        row(2, 1, 'grouptype="3"'),
        row(3, 3, 'grouptype="9"'),
        row(4, 11, 'grouptype="1"'),
    ]
    found = reader(f"{HEAD}{''.join(rows)}{TAIL}".encode()).definitions
    assert (found.fields, found.files) == (2, 1)
    old = reader(f"{HEAD}{row(1, 11, '')}{TAIL}".encode()).definitions
    assert (old.fields, old.files) == (1, 1)
    none = reader(f"{HEAD}{TAIL}".encode()).definitions
    assert (none.fields, none.files) == (0, 0)


@given(
    files=st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=6),
    times=st.sampled_from([1, 2]),
    cuts=st.lists(st.integers(0, 10_000), max_size=8),
)
def test_files_are_decoded_as_often_as_they_were_encoded(
    files: list[bytes], times: int, cuts: list[int]
) -> None:
    """What is sure is right, and what is not loses nothing, however the reply is cut."""
    encoding = Encoding()
    reply = document(*(file(data, times, key=n) for n, data in enumerate(files, 1)))
    found = read(reply, encoding, cuts)
    for n, (one, data) in enumerate(zip(found.files, files, strict=True), 1):
        contents, sink = fetched(reply, encoding, n)
        unsure = fields.UNSURE_ENCODING in contents.notes
        assert unsure is not bool(one.sha256)
        if not unsure:
            assert one.sha256 == sink.sha256 == sha256(data)
        elif sink.sha256 != sha256(data):  # then the file itself is base64, of these bytes
            assert times == 1
            assert sink.sha256 == sha256(base64.b64decode(data, validate=True))


def test_one_plain_file_proves_that_all_are_encoded_once() -> None:
    """A file that is base64 itself is kept as it is."""
    inner = base64.b64encode(PNG)
    encoding = Encoding()
    first = read(document(file(inner)), encoding)
    assert first.files[0].sha256 == ""
    contents, sink = fetched(document(file(inner)), encoding)
    assert (sink.sha256, contents.notes) == (sha256(PNG), ("unsure_encoding",))
    read(document(file(PNG)), encoding)
    contents, sink = fetched(document(file(inner)), encoding)
    assert (sink.sha256, contents.notes) == (sha256(inner), ())


@pytest.mark.parametrize("old", [False, True])
def test_two_files_or_an_old_version_show_that_all_are_encoded_twice(old: bool) -> None:
    """Then a short word and base64 itself are sure, too, and what does not fit is damaged."""
    encoding = Encoding()
    samples = [PNG] if old else [PNG, PNG[::-1]]
    for data in samples:
        read(document(file(data, 2, old=old)), encoding)
    for data in (b"x", base64.b64encode(PNG)):
        contents, sink = fetched(document(file(data, 2)), encoding)
        assert (sink.sha256, contents.notes, contents.size) == (sha256(data), (), len(data))
    with pytest.raises(BadBase64):
        fetched(document(file(b"hello", 1)), encoding)


def test_the_same_file_on_two_tickets_is_one_sign_only() -> None:
    """Two equal files prove no more than one."""
    encoding = Encoding()
    for _ in range(3):
        read(document(file(PNG, 2)), encoding)
    assert fetched(document(file(PNG, 2)), encoding)[0].notes == ("unsure_encoding",)


def test_damaged_lost_and_absent_files() -> None:
    """Each is told apart, and only for whoever wants that file."""
    broken = '<field id="1" title="I" type="11" name="x" filename="a"><![CDATA[AAAAA]]></field>'
    assert read(document(broken)).files[0].sha256 == ""
    with pytest.raises(BadBase64):
        fetched(document(broken), Encoding())
    contents, _ = fetched(document(file(None, name="a.pdf")), Encoding())
    assert (contents.present, contents.size, contents.attachment.filename) == (False, 0, "a.pdf")
    for reply in (document(file(None, name=None)), document(value("x"))):
        with pytest.raises(NotFound):
            fetched(reply, Encoding())


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"", NotXml),
        (b"Warning\nRouter: /x\nfile_get_contents(): failed", NotXml),
        (document(file(PNG))[:-30], Truncated),
        (b"Allowed memory size of 1 bytes exhausted", MemoryExhausted),
        (document(file(PNG), file(PNG + b"x")), UnexpectedReply),
        (document(file(PNG), file(PNG, name="b.pdf")), UnexpectedReply),
        (document(value("a"), value("b")), UnexpectedReply),
        (document('<field id="1" title="x" name="y"><![CDATA[secret]]></field>'), UnexpectedReply),
        (document('<field title="x" type="1"><![CDATA[a]]></field>'), UnexpectedReply),
        (document(f'<field id="{10**5}" title="x" type="1" />'), UnexpectedReply),
        (document('<field id="1" title="x" type="1">a<b/></field>'), NotXml),
        (b"<html><customfields></customfields>", NotXml),
        pytest.param(document(value("x" * (limits.TEXT + 1))), UnexpectedReply, id="long"),
        (document(file(PNG)) * 2, NotXml),
    ],
    ids=str,
)
def test_what_is_no_reply_of_this_kind(reply: bytes, error: type[Exception]) -> None:
    """Every one of them has its error, and none passes for a ticket without fields."""
    with pytest.raises(error) as caught:
        read(reply)
    assert "secret" not in str(caught.value)


def test_a_field_that_comes_twice_alike_is_one() -> None:
    """A group may be shown for the ticket itself and once more for its department."""
    once, twice = (file(PNG), value("a")), (file(PNG), value("a"), value("a"), file(PNG))
    assert read(document(*once)) == read(document(*twice))
    contents, sink = fetched(document(*twice), Encoding())
    assert (contents.size, sink.sha256) == (len(PNG), sha256(PNG))


def test_old_notices_ahead_of_a_reply_are_no_noise() -> None:
    """They come for each field that is not set; anything else is noted."""
    notice = "[Notice]: Undefined offset: 3 (api/class.X.php:151)<br />\n"
    assert fetched(document(file(PNG), head=notice * 3 + HEAD), Encoding())[0].notes == ()
    for head, text in (("Warning: oops\n" + HEAD, ""), (HEAD, "Warning: oops")):
        contents, _ = fetched(document(text, file(PNG), head=head), Encoding())
        assert contents.notes == ("noise_around_xml",)


def test_odd_names_and_shapes_are_read() -> None:
    """Attributes hold control characters and entities; base64 may be wrapped or without CDATA."""
    encoded = base64.b64encode(PNG).decode()
    wrapped = "\r\n".join(encoded[at : at + 76] for at in range(0, len(encoded), 76))
    start = '<field type="11" title="A" name="x" id="1" filename="a&quot;\x0b&lt;.txt">'
    for inner in (f"<![CDATA[{wrapped}]]>", encoded, f"<!-- x -->{encoded}"):
        contents, sink = fetched(document(f"{start}{inner}</field>"), Encoding())
        assert (sink.sha256, contents.attachment.filename) == (sha256(PNG), 'a"<.txt')
        assert contents.notes == ("repaired_name",)


def test_places_that_are_none() -> None:
    """A damaged checkpoint asks for nothing."""
    for place in ("", "7", "/1", "7/", "a/b", "7/0"):
        with pytest.raises(NotFound):
            fields.parts_of(place)
