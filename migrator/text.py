"""How sizes, times and foreign texts are written for people."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime


def shown(text: str) -> str:
    """Make a text of unknown origin one harmless line of a terminal.

    Control characters, line ends, direction marks and other invisible characters, and surrogates
    are written as escapes; everything that a terminal simply shows stays.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char
        if char.isprintable() or unicodedata.category(char) == "Zs"
        else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


LONGEST = 120
"""How many characters of a foreign text are shown."""


def brief(text: str, limit: int = LONGEST) -> str:
    """Make a text of unknown origin one harmless line of at most ``limit`` characters.

    Marks that stand above or below a letter count as nothing in width: no more than three in a
    row are kept, since a tower of them covers the lines around it.
    """
    kept, marks = [], 0
    for char in text[: 4 * limit]:
        marks = marks + 1 if unicodedata.combining(char) else 0
        if marks <= 3:
            kept.append(char)
    line = shown("".join(kept))
    return line if len(line) <= limit and len(text) <= 4 * limit else line[: limit - 1] + "…"


def human_bytes(count: float) -> str:
    """Write a size with a unit of 1024, such as ``21.3 MiB``."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1023.95:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:,.1f} TiB"


def human_duration(seconds: float) -> str:
    """Write a duration with its two largest units, such as ``3 h 20 min``."""
    whole = max(0, round(seconds))
    days, hours = whole // 86_400, whole // 3600 % 24
    minutes, rest = whole // 60 % 60, whole % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def iso_time(seconds: int | None) -> str:
    """Write Unix seconds as ISO 8601 in UTC; empty for None, 0 and times beyond the calendar."""
    if not seconds:
        return ""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()[:19] + "Z"
    except (ValueError, OverflowError, OSError):
        return ""


def shares(amounts: Sequence[int], *, digits: int = 1) -> list[str]:
    """Write amounts as percentages that add up to 100, by the largest remainders.

    What is not nothing is never 0 %, and what is not all never 100 %: these are written as
    ``< 0.1 %`` and ``> 99.9 %``.
    """
    whole, unit = sum(amounts), 100 * 10**digits
    if not whole:
        return ["0 %"] * len(amounts)
    parts = [divmod(amount * unit, whole) for amount in amounts]
    by_rest = sorted(range(len(parts)), key=lambda index: -parts[index][1])
    raised = set(by_rest[: unit - sum(part for part, _ in parts)])
    return [
        _share(amount, whole, parts[index][0] + (index in raised), digits)
        for index, amount in enumerate(amounts)
    ]


def _share(amount: int, whole: int, part: int, digits: int) -> str:
    least, unit = f"{10**-digits:.{digits}f} %", 100 * 10**digits
    if amount in (0, whole):
        return "100 %" if amount else "0 %"
    if part == 0:
        return f"< {least}"
    if part == unit:
        return f"> {100 - 10**-digits:.{digits}f} %"
    return f"{part / 10**digits:.{digits}f} %"
