"""From the bytes of a reply to characters, names and numbers that can be kept.

Kayako's XML writer copies bytes from the database unchecked: names and texts can hold Latin-1
bytes, control characters (old versions) and U+FFFE, none of which XML allows. The
:class:`Sanitiser` makes such a document readable and leaves a mark at every repair, so that a
repaired name is recognised. It never touches a character of markup.
"""

from __future__ import annotations

import codecs
import html
import re
from html.entities import html5

from migrator.errors import NotXml
from migrator.sources.kayako.limits import REPAIRS

REPAIRED_NAME = "repaired_name"
REPAIRED_TEXT = "repaired_text"
CUT_TEXT = "cut_text"
ODD_NUMBER = "odd_number"
"""A size or a date was not a valid number; it is kept as 0, for unknown."""
ODD_ROW = "odd_row"
"""A row of a list is damaged; only what could be read of it is kept."""

MARK = "\ufdd0"
"""A noncharacter that XML allows in text, but not in a tag: it marks what was wrong."""
MOST = 9 * 10**15 - 1
"""The largest number that is read: exact in a double, and far below 64 bits."""
LAST_SECOND = 253_402_300_799
"""The end of the year 9999 in Unix seconds; no calendar goes further."""
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_FORBIDDEN_BYTES = bytes(range(32)).translate(None, b"\t\n\r")
_CP1252 = [
    chr(byte) if char == "\ufffd" else char
    for byte, char in enumerate(bytes(range(256)).decode("cp1252", "replace"))
]
_ERRORS = "migrator.sources.kayako.repair"

_OPEN, _CLOSE = b"<![CDATA[", b"]]>"
_STRAY = rb"<(?![A-Za-z_:/!?\x80-\xff])"  # what cannot begin markup
_SUSPECT = re.compile(rb"&|" + _STRAY)
_TOKEN = re.compile(
    rb"<!\[CDATA\[|\]\]>|"
    rb"&(?:#(?:x([0-9A-Fa-f]{1,12})|([0-9]{1,12}));|([A-Za-z][A-Za-z0-9]{0,31};))?|" + _STRAY
)
_LONGEST_TOKEN = 34
_TOKENS_HEAD = re.compile(
    rb"(?:<(?:!(?:\[(?:C(?:D(?:A(?:TA?)?)?)?)?)?)?|\]\]?"
    rb"|&(?:#x?[0-9A-Fa-f]{0,12}|[A-Za-z][A-Za-z0-9]{0,31})?)\Z"
)
"""What may become a token with the next piece."""

_DECLARED = re.compile(rb"<\?xml\s[^<>]*?\bencoding\s*=\s*[\"']([^\"'<>]*)[\"']")
_CODECS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "ascii",
    "ascii": "ascii",
    "iso-8859-1": "latin-1",
    "latin1": "latin-1",
    "windows-1252": "cp1252",
    "cp1252": "cp1252",
}

_NONCHARACTERS = "".join(
    chr(plane | low) for plane in range(0, 0x110000, 0x10000) for low in (0xFFFE, 0xFFFF)
)
_UNFIT = re.compile(f"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef{_NONCHARACTERS}]")
_BREAKS = re.compile("[\t\n\r]+")
_XMLS_OWN = frozenset({b"lt;", b"gt;", b"amp;", b"quot;", b"apos;"})


def _repair(error: UnicodeError) -> tuple[str, int]:
    """Decode invalid bytes as Windows-1252, the likeliest origin, and mark the place."""
    if not isinstance(error, UnicodeDecodeError):  # pragma: no cover - registered for decoding only
        raise error
    bad = error.object[error.start : error.end]
    return MARK + "".join(_CP1252[byte] for byte in bad), error.end


codecs.register_error(_ERRORS, _repair)


def codec_of(head: bytes, *, what: str) -> str:
    """Return the codec for the encoding that an XML declaration names; UTF-8 without one.

    Raises NotXml for an encoding that is not a superset of ASCII as all of Kayako's are.
    """
    declared = _DECLARED.match(head)
    if declared is None:
        return "utf-8"
    name = declared[1].decode("ascii", "replace").strip().lower()
    try:
        return _CODECS[name]
    except KeyError:
        raise NotXml(f"{what}: the reply declares the encoding {name[:40]!a}.") from None


class Sanitiser:
    """Turns a stream of bytes into valid UTF-8 of characters that XML allows.

    This includes references, but not within CDATA, where they are text: those to characters that
    XML forbids (``&#1;``) are marked, those to HTML's entities (``&eacute;``), which XML does not
    know, become their characters. A ``&`` or ``<`` that begins nothing is escaped and marked. The
    result does not depend on where the stream is cut into pieces.
    """

    def __init__(self, codec: str) -> None:
        self._decoder = codecs.getincrementaldecoder(codec)(_ERRORS)
        self._held = b""
        self._in_cdata = False
        self._repairs = 0

    @property
    def pending(self) -> bytes:
        """The bytes of a character or a reference whose end has not come."""
        return self._held + self._decoder.getstate()[0]

    def feed(self, data: bytes, *, final: bool = False) -> bytes:
        """Return the clean form of the next piece, as UTF-8."""
        # Most replies are plain ASCII: nothing to decode, and rarely a control character.
        plain_ascii = data.isascii() and not self._decoder.getstate()[0]
        if not plain_ascii or len(data.translate(None, _FORBIDDEN_BYTES)) < len(data):
            text = _FORBIDDEN.sub(MARK, self._decoder.decode(data, final))
            self._repairs += text.count(MARK)
            data = text.encode()
        clean = self._references(data, final=final)
        if self._repairs > REPAIRS:
            raise NotXml(f"the document is broken in more than {REPAIRS:,} places")
        return clean

    def _references(self, text: bytes, *, final: bool) -> bytes:
        """Replace references that no XML parser understands."""
        text, self._held = self._held + text, b""
        head = _TOKENS_HEAD.search(text, max(0, len(text) - _LONGEST_TOKEN))
        if head and not final:
            text, self._held = text[: head.start()], head[0]
        if _SUSPECT.search(text):
            return _TOKEN.sub(self._token, text)
        opened, closed = text.rfind(_OPEN), text.rfind(_CLOSE)
        if opened != closed:
            self._in_cdata = opened > closed
        return text

    def _token(self, token: re.Match[bytes]) -> bytes:
        if token[0] in {_OPEN, _CLOSE}:
            self._in_cdata = token[0] == _OPEN
            return token[0]
        if self._in_cdata or token[3] in _XMLS_OWN:
            return token[0]
        if token[1] or token[2]:
            code = int(token[1], 16) if token[1] else int(token[2])
            return token[0] if _allowed(code) else MARK.encode()
        self._repairs += 1
        if token[3] and (known := html5.get(token[3].decode())):
            return html.escape(known).encode()
        return MARK.encode() + html.escape(token[0].decode()).encode()


def _allowed(code: int) -> bool:
    """Return whether XML allows the character of this number."""
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        return False
    return not _FORBIDDEN.match(chr(code))


def clean_text(text: str, limit: int) -> tuple[str, tuple[str, ...]]:
    """Return a text without the marks of repairs, and notes of what was done to it.

    It is cut to ``limit`` bytes of UTF-8, between two characters.
    """
    clean = text.replace(MARK, "")
    notes = (REPAIRED_TEXT,) if clean != text else ()
    if len(clean) * 4 <= limit or len(whole := clean.encode()) <= limit:
        return clean, notes
    return whole[:limit].decode(errors="ignore"), (*notes, CUT_TEXT)


def clean_name(text: str) -> tuple[str, bool]:
    """Return a cleaned name, and whether it was changed.

    A run of line breaks and tabs becomes one space; other control characters, lone surrogates
    and noncharacters go. Everything else stays as the source sent it.
    """
    name = _UNFIT.sub("", _BREAKS.sub(" ", text))
    return name, name != text


def number(text: str | None, most: int = MOST) -> int | None:
    """Return a text as a whole number from 0 to ``most``, 0 for an absent or empty one.

    PHP 7 writes a true integer 0 as an empty element. Returns None for anything else: a negative
    number, one with a point, a date in words.
    """
    digits = text.strip() if text else ""
    if not digits:
        return 0
    if len(digits) < 20 and digits.isascii() and digits.isdigit():
        value = int(digits)
        return value if value <= most else None
    return None
