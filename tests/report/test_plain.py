"""How sizes, times and foreign texts are written."""

from __future__ import annotations

import unicodedata
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.text import human_bytes, human_duration, iso_time, shares, shown


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters()))
def test_any_text_becomes_one_harmless_line(text: str) -> None:
    """No control character, direction mark or surrogate gets through, whatever is sent."""
    line = shown(text)
    assert all(char.isprintable() or unicodedata.category(char) == "Zs" for char in line)
    assert len(line.splitlines()) <= 1
    line.encode("utf-8")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain.txt", "plain.txt"),
        ("Übersicht 日本.pdf", "Übersicht 日本.pdf"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\r\nb\u2028c", "a\\r\\nb\\u2028c"),
        ("fdp.\u202eexe", "fdp.\\u202eexe"),
        ("a\udcffb", "a\\udcffb"),
        ("a\u200bb\ufffe", "a\\u200bb\\ufffe"),
        ("a\u3000b", "a\u3000b"),
    ],
)
def test_what_is_escaped(text: str, line: str) -> None:
    """What a terminal would obey is escaped, what it would show stays."""
    assert shown(text) == line


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1048575, "1.0 MiB"),
        (25 << 20, "25.0 MiB"),
        (3 << 30, "3.0 GiB"),
        (5000 << 40, "5,000.0 TiB"),
    ],
)
def test_sizes_for_people(count: int, text: str) -> None:
    """Sizes have a unit of 1024 and one decimal."""
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (59.4, "59 s"),
        (61, "1 min 1 s"),
        (3660, "1 h 1 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    """Durations have their two largest units."""
    assert human_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1_767_323_045, "2026-01-02T03:04:05Z"),
        (None, ""),
        (0, ""),
        (10**18, ""),
        (-(10**18), ""),
    ],
)
def test_times_are_utc(seconds: int | None, text: str) -> None:
    """Times are ISO 8601 in UTC; none, Kayako's 0 and nonsense are empty."""
    assert iso_time(seconds) == text


@given(st.lists(st.integers(0, 10**12), max_size=40), st.integers(1, 3))
def test_shares_add_up(amounts: list[int], digits: int) -> None:
    """Whatever the amounts are, what is written is 100 % in sum; nothing is 0 % that is there."""
    written = shares(amounts, digits=digits)
    if not sum(amounts):
        assert written == ["0 %"] * len(amounts)
        return
    small, large = f"< {10**-digits:.{digits}f} %", f"> {100 - 10**-digits:.{digits}f} %"
    told = [Decimal({small: "0", large: "100"}.get(one, one.removesuffix(" %"))) for one in written]
    assert sum(told) == 100
    for amount, one in zip(amounts, written, strict=True):
        assert (one == "0 %") is (amount == 0)
        assert (one == "100 %") is (amount == sum(amounts))
