"""Base64 that arrives in pieces."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.sources.kayako.contents import Base64Decoder

STRICT = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def decode(*pieces: bytes) -> tuple[bytes, bool, bool]:
    """Decode pieces; return the bytes, ``lenient`` and ``empty``."""
    decoder = Base64Decoder()
    decoded = b"".join([*map(decoder.feed, pieces), decoder.close()])
    return decoded, decoder.lenient, decoder.empty


def oracle(text: bytes) -> tuple[bytes, bool]:
    """Decode at once: by the stdlib where it is strict base64, else by PHP's rule, bit by bit."""
    squeezed = b"".join(text.split(None)) if not set(text) & {11, 12} else text
    if STRICT.fullmatch(squeezed):
        return base64.b64decode(squeezed, validate=True), False
    letters = re.sub(rb"[^A-Za-z0-9+/]", b"", text).decode()
    table = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    bits = "".join(f"{table.index(letter):06b}" for letter in letters)
    return bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits) - 7, 8)), True


@pytest.mark.parametrize(
    ("text", "decoded", "lenient"),
    [
        (b"", b"", False),
        (b"QUJD", b"ABC", False),
        (b"QUI=", b"AB", False),
        (b"QQ==", b"A", False),
        (b" Q\r\nUJ\tD\n", b"ABC", False),
        (b"QQ=\n=\n", b"A", False),
        (b"QUI", b"AB", True),
        (b"QQ", b"A", True),
        (b"Q", b"", True),
        (b"QQ=", b"A", True),
        (b"QUJD=", b"ABC", True),
        (b"====", b"", True),
        (b"QQ==QUJD", base64.b64decode(b"QQQUJD=="), True),
        (b"Q!U-J_D", b"ABC", True),
        (b"QU\x0bJD", b"ABC", True),
        (b"\xff\x00QUJD", b"ABC", True),
    ],
)
def test_strict_and_lenient(text: bytes, decoded: bytes, lenient: bool) -> None:
    """Strict base64 with white space is strict, all else is read as PHP reads it."""
    assert decode(text)[:2] == (decoded, lenient)
    assert decode(*(text[at : at + 1] for at in range(len(text))))[:2] == (decoded, lenient)


def test_empty_means_only_white_space() -> None:
    """White space is nothing; padding or junk is something, though it decodes to nothing."""
    assert [decode(text)[2] for text in (b"", b" \n\t\r", b"=", b"!", b" QQ==")] == [
        True,
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("text", "dangling"),
    [
        (b"", False),
        (b"QUJD", False),
        (b"QQ", False),
        (b"QUI", False),
        (b"Q", True),
        (b"QUJDx", True),
        (b"QU!JD\xff", False),
        (b"QUxJD=", True),
        (b"QQ==QUJDQUx", True),
    ],
)
def test_a_character_too_many_is_noticed(text: bytes, dangling: bool) -> None:
    """Six bits that are no byte shift all that follows them, though the length stays right."""
    for pieces in ([text], [text[at : at + 1] for at in range(len(text))]):
        decoder = Base64Decoder()
        for piece in pieces:
            decoder.feed(piece)
        decoder.close()
        assert decoder.dangling is dangling


def test_takes_memoryviews() -> None:
    """A view of a buffer is as good as bytes, in strict and lenient text."""
    assert decode(memoryview(b"QUJD"), memoryview(b"Q!Q=="))[:2] == (b"ABCA", True)  # type: ignore[arg-type]


PIECES = st.one_of(
    st.binary(max_size=9).map(base64.b64encode),
    st.binary(max_size=60).map(base64.encodebytes),
    st.sampled_from([b"=", b"==", b" ", b"\r\n", b"!", b"Q", b"]", b"\xff", b"-_"]),
    st.text("ABab01+/", max_size=9).map(str.encode),
    st.binary(max_size=6),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(PIECES, max_size=6))
def test_streaming_equals_decoding_at_once(pieces: list[bytes]) -> None:
    """Any text in any pieces decodes to what it decodes to as a whole."""
    whole = b"".join(pieces)
    expected = oracle(whole)
    assert decode(*pieces)[:2] == expected
    assert decode(whole)[:2] == expected
    assert decode(*(whole[at : at + 1] for at in range(len(whole))))[:2] == expected
