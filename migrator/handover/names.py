"""File names that work everywhere, made of what a helpdesk calls its files.

They hold on Linux, macOS and Windows: no separators, control, invisible or direction characters,
none of the names of DOS devices, no dots or spaces where Windows drops them, in Unicode's NFC,
and short enough in bytes that ``tree/department/ticket/name`` stays below Windows' 260.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

NAME_BYTES = 120
DEPARTMENT_BYTES = 50
TICKET_BYTES = 60
_EXTENSION_BYTES = 20

_FORBIDDEN = frozenset('<>:"/\\|?*')
_DEVICE = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|clock\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.IGNORECASE
)
_PLAIN = re.compile(r"[0-9A-Z][0-9A-Z-]{0,39}", re.ASCII)


def safe_name(name: str, limit: int = NAME_BYTES) -> str:
    """Make a name that works everywhere, of at most ``limit`` bytes and never empty."""
    text = "".join(map(_safe_char, unicodedata.normalize("NFC", name)))
    text = unicodedata.normalize("NFC", text).strip(" ").rstrip(". ")
    if text[:1] in (".", "-"):  # hidden, or taken for an option
        text = "_" + text[1:]
    text = _fitted(text, limit)
    # Cutting may have made a device of it, by the spaces it took away.
    return _fitted("_" + text, limit) if _DEVICE.fullmatch(text) else text


def numbered(names: Iterable[tuple[int, str]], limit: int = NAME_BYTES) -> dict[int, str]:
    """Give each (id, name) a safe name of its own; equal ones are told apart by their id.

    The first keeps the name. Equal are those that are one file on some system: in other case,
    or written with other code points that look the same.
    """
    found: dict[int, str] = {}
    used: set[str] = set()
    for number, name in names:
        base = candidate = safe_name(name, limit)
        tries = 0
        while _folded(candidate) in used:
            mark = f" ({number})" if not tries else f" ({number}.{tries})"
            stem, extension = _split(base)
            room = limit - len(extension.encode()) - len(mark)
            candidate = _cut(stem, room) + mark + extension
            tries += 1
        used.add(_folded(candidate))
        found[number] = candidate
    return found


def ticket_folder(ticket_id: int, ticket_number: str) -> str:
    """Name the directory of a ticket: its number; with the id where that is not plain."""
    if _PLAIN.fullmatch(ticket_number) and not _DEVICE.fullmatch(ticket_number):
        return ticket_number
    mark = f" ({ticket_id})"
    return _cut(safe_name(ticket_number, TICKET_BYTES), TICKET_BYTES - len(mark)) + mark


def _fitted(text: str, limit: int) -> str:
    """Cut a name to so many bytes; its extension stays."""
    stem, extension = _split(text)
    return _cut(stem, limit - len(extension.encode())) + extension or "_"


def _safe_char(char: str) -> str:
    category = unicodedata.category(char)
    if category == "Zs":
        return " "
    # Others: control, format (direction, invisible), surrogate, private, unassigned; line ends.
    return "_" if char in _FORBIDDEN or category[0] == "C" or category in ("Zl", "Zp") else char


def _split(name: str) -> tuple[str, str]:
    """Split a name into its stem and its extension with the dot, "" if it is none."""
    stem, dot, extension = name.rpartition(".")
    short = len(extension.encode()) < _EXTENSION_BYTES
    return (stem, dot + extension) if stem and extension and short else (name, "")


def _cut(text: str, limit: int) -> str:
    """Cut a text to so many bytes of UTF-8, between two characters, without a ragged end."""
    if len(text.encode()) <= limit:
        return text
    return text.encode()[:limit].decode(errors="ignore").rstrip(". ") or "_"


def _folded(name: str) -> str:
    """Give what equal names have in common."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return unicodedata.normalize("NFKC", folded)
