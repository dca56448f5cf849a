"""Formatting of sizes, times and untrusted texts for people, and of names for file systems.

Names that people type are compared in one place, :func:`find_id`.

Names hold on Linux, macOS and Windows: no separators, control, invisible or direction characters,
none of the names of DOS devices, no dots or spaces where Windows drops them, in Unicode's NFC,
and short enough in bytes that ``tree/department/ticket/name`` stays below Windows' 260.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from migrator.errors import ConfigError


def shown(text: str) -> str:
    """Return untrusted text as one harmless line for a terminal.

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


def name_key(name: str) -> str:
    """Return the key by which names that people type are equal."""
    return " ".join(_folded(name).split())


NAMED = 50
"""The most names of what exists in an error."""


def find_id(what: str, wanted: str, known: Iterable[tuple[int, str]]) -> int:
    """Return the id of the one ``what`` that a user means by its id or by its name.

    Case, width and spaces of names do not matter; ``#3`` is always an id. Raises ConfigError when
    none or more than one is meant, and names them.
    """
    pairs = sorted(set(known))
    name = name_key(wanted)
    number = re.fullmatch(r"(#?) ?(-?)0*([0-9]{1,19})", name, re.ASCII)
    found = [
        (key, title)
        for key, title in pairs
        if (number and str(key) == number[2] + number[3])
        or (name_key(title) == name and not (number and number[1]))
    ]
    if len({key for key, _ in found}) == 1:
        return found[0][0]
    names = [f"{key} ({title})" for key, title in found or pairs]
    names[NAMED:] = [f"and {len(names) - NAMED} more"] if len(names) > NAMED else []
    listed = brief(", ".join(names), 20 * LONGEST) or "none"
    if not found:
        raise ConfigError(f"There is no {what} {brief(wanted)!r}; there are: {listed}.")
    key = found[0][0]
    raise ConfigError(
        f"{brief(wanted)!r} means more than one {what}: {listed}. Give an id, such as '#{key}'."
    )


LONGEST = 120
"""Characters shown of an untrusted text."""


def brief(text: str, limit: int = LONGEST) -> str:
    """Return untrusted text as one harmless line of at most ``limit`` characters.

    Combining marks have no width: at most three in a row are kept, since a stack of them covers
    the lines around it.
    """
    kept, marks = [], 0
    for char in text[: 4 * limit]:
        marks = marks + 1 if unicodedata.combining(char) else 0
        if marks <= 3:
            kept.append(char)
    line = shown("".join(kept))
    return line if len(line) <= limit and len(text) <= 4 * limit else line[: limit - 1] + "…"


def why_unreachable(error: BaseException) -> str:
    """Return why a connection failed, in one line: what the system or TLS says, else the error."""
    import ssl  # noqa: PLC0415 - a Python may lack it, and `doctor` says so

    link: BaseException | None = error
    while link is not None:
        if isinstance(link, ssl.SSLCertVerificationError):
            return brief(f"its certificate is not trusted: {link.verify_message}", 2 * LONGEST)
        if isinstance(link, ssl.SSLError):
            return brief(f"TLS fails: {(link.reason or str(link)).replace('_', ' ').lower()}")
        if isinstance(link, OSError) and link.errno:
            return os.strerror(link.errno) if link.errno > 0 else brief(str(link.strerror))
        link = link.__cause__ or link.__context__
    return brief(str(error) or type(error).__name__, 2 * LONGEST)


def human_bytes(count: float) -> str:
    """Return a size with a unit of 1024, such as ``21.3 MiB``."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1023.95:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:,.1f} TiB"


def human_duration(seconds: float) -> str:
    """Return a duration with its two largest units, such as ``3 h 20 min``."""
    whole = max(0, round(seconds))
    days, hours = whole // 86_400, whole // 3600 % 24
    minutes, rest = whole // 60 % 60, whole % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def counted(number: int, noun: str, of: int | None = None) -> str:
    """Return a number with its noun: ``1 ticket``, ``1,204 tickets``, ``1 of 1,204 tickets``."""
    total = "" if of is None else f" of {of:,}"
    return f"{number:,}{total} {noun}{'' if (number if of is None else of) == 1 else 's'}"


def iso_time(seconds: int | None) -> str:
    """Return Unix seconds as ISO 8601 in UTC; empty for None, 0 and times beyond the calendar."""
    if not seconds:
        return ""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()[:19] + "Z"
    except (ValueError, OverflowError, OSError):
        return ""


def shares(amounts: Sequence[int], *, digits: int = 1) -> list[str]:
    """Return amounts as percentages that add up to 100, by the largest remainders.

    Only nothing is 0 %, and only everything is 100 %: amounts near them are ``< 0.1 %`` and
    ``> 99.9 %``.
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


SERVED_BYTES = 255
"""The longest name on the usual file systems."""
NAME_BYTES = 120
DEPARTMENT_BYTES = 50
TICKET_BYTES = 60
_EXTENSION_BYTES = 20

_FORBIDDEN = frozenset('<>:"/\\|?*')
_DEVICE = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|clock\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.IGNORECASE
)
_SAFE = re.compile(r"[0-9A-Za-z]([0-9A-Za-z _.,()+-]*[0-9A-Za-z_()+-])?", re.ASCII)
_PLAIN = re.compile(r"[0-9A-Z][0-9A-Z-]{0,39}", re.ASCII)


def safe_name(name: str, limit: int = NAME_BYTES) -> str:
    """Return a name that works on every file system, of 1 to ``limit`` bytes."""
    if len(name) <= limit and _SAFE.fullmatch(name) and not _DEVICE.fullmatch(name):
        return name  # as nearly all are
    text = "".join(map(_safe_char, unicodedata.normalize("NFC", name)))
    # At an end, what cannot be seen is dropped: readers and other systems drop it as well.
    text = unicodedata.normalize("NFC", text).strip(" \0").rstrip(". \0").replace("\0", "_")
    if text[:1] in (".", "-"):  # hidden, or taken for an option
        text = "_" + text[1:]
    text = _fitted(text, limit)
    # Cutting strips spaces, which may have turned it into a device name.
    return _fitted("_" + text, limit) if _DEVICE.fullmatch(text) else text


def served_name(name: str, number: int) -> str:
    """Return the name under which clients save attachment ``number``: a safe one, never empty."""
    text = safe_name(name, SERVED_BYTES)
    return f"attachment-{number}" if text == "_" != name else text


def extension_of(name: str) -> str:
    """Return the lower-cased extension that a file has where it is saved, "" if it has none.

    The name is read as the least careful system would: without what Windows drops at the end
    (dots, spaces), with wide letters and dots as the plain ones that they turn into there.
    """
    # The letter keeps the dot of a hidden file, whose name may be all extension elsewhere.
    wide = safe_name("x" + unicodedata.normalize("NFKC", name), SERVED_BYTES + 1)
    return wide.rpartition(".")[2].lower() if "." in wide else ""


def numbered(names: Iterable[tuple[int, str]], limit: int = NAME_BYTES) -> dict[int, str]:
    """Return a safe name for each (id, name); the id distinguishes equal ones.

    The first keeps the name. Names are equal if any system takes them for one file: they differ
    only in case, or in code points that look the same.
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
    """Return a ticket's directory name: its number, with the id where that is not plain."""
    if _PLAIN.fullmatch(ticket_number) and not _DEVICE.fullmatch(ticket_number):
        return ticket_number
    mark = f" ({ticket_id})"
    return _cut(safe_name(ticket_number, TICKET_BYTES), TICKET_BYTES - len(mark)) + mark


def _fitted(text: str, limit: int) -> str:
    """Return a name cut to so many bytes, with its extension."""
    stem, extension = _split(text)
    if not extension and len(text.encode()) > limit:
        stem = stem.replace(".", "_")  # the cut must not turn the middle into an extension
    return _cut(stem, limit - len(extension.encode())) + extension or "_"


def _safe_char(char: str) -> str:
    category = unicodedata.category(char)
    if category == "Zs":
        return " "
    # Others: control, format (direction, invisible), surrogate, private, unassigned; line ends.
    if category[0] == "C" or category in ("Zl", "Zp"):
        return "\0"
    return "_" if char in _FORBIDDEN else char


def _split(name: str) -> tuple[str, str]:
    """Return the stem and the extension with the dot, "" if there is none."""
    stem, dot, extension = name.rpartition(".")
    short = len(extension.encode()) < _EXTENSION_BYTES
    return (stem, dot + extension) if stem and extension and short else (name, "")


def _cut(text: str, limit: int) -> str:
    """Return a text cut to so many bytes of UTF-8, at a character; strip spaces and dots."""
    if len(text.encode()) <= limit:
        return text
    return text.encode()[:limit].decode(errors="ignore").rstrip(". ") or "_"


def _folded(name: str) -> str:
    """Return the key by which names are equal."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
