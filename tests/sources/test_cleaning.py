"""Characters, names and numbers out of any bytes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.errors import NotXml
from migrator.sources.kayako.cleaning import Sanitiser, clean_name, clean_text, codec_of, number

MARK = "\ufdd0"


@pytest.mark.parametrize(
    ("codec", "data", "text"),
    [
        ("utf-8", "grün \U0001f600".encode(), "grün \U0001f600"),
        ("utf-8", b"gr\xfcn", f"gr{MARK}ün"),
        ("utf-8", b"\x93quoted\x94", f"{MARK}\u201cquoted{MARK}\u201d"),
        ("utf-8", b"a\x81", f"a{MARK}\x81"),
        ("utf-8", b"cut \xe2\x82", f"cut {MARK}\u00e2\u201a"),
        ("utf-8", b"a\x00b\x0bc\td\n", f"a{MARK}b{MARK}c\td\n"),
        ("utf-8", "\ufffe\uffff\x7f".encode(), f"{MARK}{MARK}\x7f"),
        ("utf-8", b"a&#1;&#x0;&#xFFFE;&#65535;b", f"a{MARK * 4}b"),
        ("utf-8", b"&#xD83D;&#56832;&#x110000;&#999999999999;", MARK * 4),
        ("utf-8", b"&#9;&#x41;&#xD7FF;&lt;&apos;", "&#9;&#x41;&#xD7FF;&lt;&apos;"),
        ("utf-8", b"&#1F;&#x;&", f"{MARK}&amp;#1F;{MARK}&amp;#x;{MARK}&amp;"),
        ("utf-8", b"caf&eacute;&nbsp;&hearts;", "café\xa0♥"),
        ("utf-8", b"&LT;b&QUOT;&nvlt;", "&lt;b&quot;&lt;\u20d2"),
        ("utf-8", b"R&D;&eacute&Eacute ", f"R{MARK}&amp;D;{MARK}&amp;eacute{MARK}&amp;Eacute "),
        ("utf-8", b"<![CDATA[&eacute; & <3]]>&eacute;", "<![CDATA[&eacute; & <3]]>é"),
        ("utf-8", b"<b>I <3 1<2 <</b>", f"<b>I {MARK}&lt;3 1{MARK}&lt;2 {MARK}&lt;</b>"),
        ("utf-8", b"<![CDATA[&#1;]]&#1;]]>&#1;]]", f"<![CDATA[&#1;]]&#1;]]>{MARK}]]"),
        ("utf-8", b"<![CDATA[a\x01]]><b>&#1;\xfc</b>", f"<![CDATA[a{MARK}]]><b>{MARK}{MARK}ü</b>"),
        ("ascii", b"caf\xe9", f"caf{MARK}é"),
        ("latin-1", b"caf\xe9\x93", "café\x93"),
        ("cp1252", b"\x93\x81", f"\u201c{MARK}\x81"),
    ],
)
def test_sanitiser_repairs_and_marks(codec: str, data: bytes, text: str) -> None:
    """What cannot be read becomes what is likely, what XML forbids goes; each is marked."""
    assert Sanitiser(codec).feed(data, final=True).decode() == text


PIECES = [
    b"<![CDATA[",
    b"]]>",
    b"]",
    b"&#1;",
    b"&#x1",
    b"&#x41;",
    b"&eacute;",
    b"&CounterClockwiseContourIntegral;",
    b"&nosuch",
    b";",
    b"&",
    b"<",
    b"\xfc",
    b"\x01",
    b"a",
]


@settings(deadline=None, max_examples=300)
@given(
    st.binary(max_size=40) | st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join),
    st.lists(st.integers(0, 40), max_size=8),
)
def test_sanitiser_does_not_see_the_pieces(data: bytes, cuts: list[int]) -> None:
    """Any pieces give what the whole gives, and it is valid UTF-8."""
    sanitiser, edges = Sanitiser("utf-8"), [0, *sorted(cuts), len(data)]
    pieces = [sanitiser.feed(data[a:b]) for a, b in pairwise(edges)]
    joined = b"".join([*pieces, sanitiser.feed(b"", final=True)])
    assert joined == Sanitiser("utf-8").feed(data, final=True)
    joined.decode()


@pytest.mark.parametrize(
    ("head", "codec"),
    [
        (b"<attachments>", "utf-8"),
        (b'<?xml version="1.0" encoding="UTF-8"?>', "utf-8"),
        (b"<?xml version='1.0' encoding = 'ISO-8859-1' ?>", "latin-1"),
        (b'<?xml version="1.0" encoding="windows-1252"?>', "cp1252"),
        (b'<?xml version="1.0" encoding="us-ascii"?>', "ascii"),
        (b'<?xml version="1.0"?><a encoding="utf-16"/>', "utf-8"),
    ],
)
def test_declared_encodings_are_honoured(head: bytes, codec: str) -> None:
    """The encoding of the declaration counts, and only of the declaration."""
    assert codec_of(head, what="x") == codec


@pytest.mark.parametrize("name", [b"UTF-16", b"Shift_JIS", b"utf-7", b"\xff"])
def test_other_encodings_are_refused(name: bytes) -> None:
    """An encoding whose markup is not ASCII is never guessed at."""
    with pytest.raises(NotXml, match="encoding"):
        codec_of(b'<?xml version="1.0" encoding="' + name + b'"?>', what="x")


@pytest.mark.parametrize(
    ("text", "name", "repaired"),
    [
        ("Bericht (1).pdf", "Bericht (1).pdf", False),
        (" ../../a\\b\u202e'\"<b>.txt ", " ../../a\\b\u202e'\"<b>.txt ", False),
        ("a\r\n\tb.txt", "a b.txt", True),
        ("a\x7f\x85\x1b[0m.txt", "a[0m.txt", True),
        (f"gr{MARK}ün.txt", "grün.txt", True),
        ("a\ud800\U0001fffe\ufdef.txt", "a.txt", True),
    ],
)
def test_names_lose_what_no_name_may_hold(text: str, name: str, repaired: bool) -> None:
    """A name keeps all but controls, surrogates and noncharacters, and tells if it lost any."""
    assert clean_name(text) == (name, repaired)


@pytest.mark.parametrize(
    ("text", "limit", "clean", "notes"),
    [
        ("grün\n", 99, "grün\n", ()),
        (f"gr{MARK}ün\n", 99, "grün\n", ("repaired_text",)),
        ("grün", 5, "grün", ()),
        ("grün", 4, "grü", ("cut_text",)),
        ("grün", 3, "gr", ("cut_text",)),
        (f"{MARK}\U0001f600", 3, "", ("repaired_text", "cut_text")),
        ("", 0, "", ()),
    ],
)
def test_texts_are_clean_and_bounded(
    text: str, limit: int, clean: str, notes: tuple[str, ...]
) -> None:
    """Marks of repairs do not stay in texts, long ones end between two characters; both noted."""
    assert clean_text(text, limit) == (clean, notes)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (None, 0),
        ("", 0),
        (" \n", 0),
        ("541", 541),
        (" 7\n", 7),
        ("007", 7),
        (str(9 * 10**15 - 1), 9 * 10**15 - 1),
    ],
)
def test_numbers(text: str | None, value: int) -> None:
    """Absent and empty numbers are 0; all that a double holds exactly are read."""
    assert number(text) == value


@pytest.mark.parametrize(
    "text",
    [
        *("abc", "1.5", "1e3", "+1", "-1", "\u0661", "\u00b2", "1 2", "0x1", "1_000"),
        *("2010-03-12 10:43:00", f"5{MARK}", str(9 * 10**15), str(-(2**63)), "9" * 5000),
    ],
)
def test_what_is_no_number_is_none(text: str) -> None:
    """Text, negative numbers and such as nothing can count to are not read as others."""
    assert number(text) is None


def test_a_number_may_have_a_bound_of_its_own() -> None:
    """A date has one, beyond which there is no calendar."""
    assert number("10", 10) == 10
    assert number("11", 10) is None
