"""The writer writes what Kayako writes, byte for byte."""

from __future__ import annotations

import pytest

from migrator.sandbox.kayako.messages import Body, Raw, Stream, XmlWriter


def written(writer: XmlWriter) -> bytes:
    """Return the whole document."""
    return b"".join(writer.body().blocks())


def test_document() -> None:
    """One element per line, values in CDATA, no indentation and no final newline."""
    writer = XmlWriter()
    writer.open("attachments")
    writer.open("attachment")
    writer.value("id", 1)
    writer.value("filename", "icon_chart.gif")
    writer.close("attachment")
    writer.close("attachments")
    assert written(writer) == (
        b'<?xml version="1.0" encoding="UTF-8"?>\n<attachments>\n<attachment>\n'
        b"<id><![CDATA[1]]></id>\n<filename><![CDATA[icon_chart.gif]]></filename>\n"
        b"</attachment>\n</attachments>"
    )


def test_empty_container() -> None:
    """A container without children stands on two lines."""
    writer = XmlWriter()
    writer.open("attachments")
    writer.close("attachments")
    assert written(writer).endswith(b"?>\n<attachments>\n</attachments>")


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("", b"<x />"),
        (b"\x00\x0b\x1f\x7f", b"<x />"),
        (Raw(b""), b"<x />"),
        (Stream(0, lambda: iter([])), b"<x />"),
        (0, b"<x><![CDATA[0]]></x>"),
        ("a < b & c", b"<x><![CDATA[a < b & c]]></x>"),
        ("a]]>b", b"<x><![CDATA[a]]]]><![CDATA[>b]]></x>"),
        (b"a\x00b\x0bc\td\ne\x7f", b"<x><![CDATA[abc\td\ne]]></x>"),
        (b"M\xfcller", b"<x><![CDATA[M\xfcller]]></x>"),
        ("\ufffe", "<x><![CDATA[\ufffe]]></x>".encode()),
        (Raw(b"as \x0b is"), b"<x>as \x0b is</x>"),
        (Stream(4, lambda: iter([b"ab", b"cd"])), b"<x><![CDATA[abcd]]></x>"),
    ],
)
def test_values(value: str | bytes | int | Raw | Stream, line: bytes) -> None:
    """Empty values close themselves; control bytes go, Latin-1 and U+FFFE stay."""
    writer = XmlWriter()
    writer.value("x", value)
    assert written(writer).partition(b"\n")[2] == line


def test_attributes_are_escaped() -> None:
    """Attributes are HTML-escaped but for apostrophes, also on an element without a value."""
    writer = XmlWriter()
    writer.value("watcher", "", name='<J> & "O\'D"')
    assert written(writer).endswith(b'\n<watcher name="&lt;J&gt; &amp; &quot;O\'D&quot;" />')


def test_length_is_exact() -> None:
    """A body knows its length without making its bytes."""
    body = Body(b"abc", Stream(1 << 40, lambda: iter([]))).around(b"<", b">>")
    assert len(body) == 3 + (1 << 40) + 3
