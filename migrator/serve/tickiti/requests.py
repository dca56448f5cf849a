"""The fields of a request body, read one by one, with all errors reported together."""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import parse_qsl

from migrator.serve.bounds import MAX_LIST, MAX_RANGE
from migrator.serve.refusals import Refusal

T = TypeVar("T")

# Bounded, as int() raises on thousands of digits:
_ID: Final = re.compile(r"0*([0-9]{1,18})", re.ASCII)
_INTEGER: Final = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_BLANK: Final = "\x85\xa0\u1680\u2028\u2029\u200e\u202f\u205f\u3000\ufeff" + "".join(
    map(chr, (*range(9, 14), *range(28, 33), *range(0x2000, 0x200C)))
)
"""Characters that Laravel removes around a text."""
_FLAGS: Final[Mapping[object, bool]] = {True: True, False: False, "1": True, "0": False}
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:Z|\+00:00)?", re.ASCII)
_DAY_SECONDS: Final = 86_400
_BRACKETS: Final = re.compile(r"\[([^\]]*)\]")


def plain(value: object) -> object:
    """Return what a value that was sent means; None: nothing was sent.

    The one place for the habits of PHP and Laravel. Laravel trims texts, and a text without
    anything in it is null. PHP writes a whole number as ``5.0`` once it went through a division.
    """
    if isinstance(value, str):
        return value.strip(_BLANK) or None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def entries(value: object) -> list[object] | None:
    """Return the entries of a list, None for anything else.

    PHP writes a list that it filtered as an object, whose names are the places in the list.
    """
    if isinstance(value, dict) and all(name.isdecimal() for name in value):
        return list(value.values())
    return value if isinstance(value, list) else None


def in_address(query: bytes) -> dict[str, object]:
    """Return the fields of a query string as PHP reads them: ``a[b][]=1`` is a list in an object.

    Raises ValueError for text that is not UTF-8.
    """
    found: dict[str, object] = {}
    for name, value in parse_qsl(query.decode(), keep_blank_values=True, errors="strict"):
        *path, last = [name.partition("[")[0], *_BRACKETS.findall(name)]
        level = found
        for key in path:
            inner = level.setdefault(key or str(len(level)), {})
            level = inner if isinstance(inner, dict) else {}
        level[last or str(len(level))] = value
    return found


class Fields:
    """Reads the fields of a body and collects sentences about the wrong ones in ``errors``.

    :func:`plain` and :func:`entries` say what is taken for what. Numbers may be texts, and flags
    ``1`` and ``0``, as in Laravel's rules. A field that is null or a blank text counts as missing.
    A list that restricts an answer must have entries, none of them blank: what is left of an
    empty one is no question. Unknown fields are ignored: a later client may send them.
    """

    def __init__(self, body: Mapping[str, object]) -> None:
        self._body = body
        self.errors: dict[str, list[str]] = {}

    def has(self, field: str) -> bool:
        """Return whether the field was sent."""
        return self._value(field) is not None

    def _value(self, field: str) -> object:
        """Return what was sent; None for nothing."""
        return plain(self._body.get(field))

    def wrong(self, field: str, sentence: str) -> None:
        """Add an error about a field."""
        self.errors.setdefault(field, []).append(sentence)

    def check(self) -> None:
        """Raise Refusal 422 ``validation_failed`` if any field was wrong."""
        if self.errors:
            message = " ".join(line for found in self.errors.values() for line in found)
            raise Refusal(422, "validation_failed", message, errors=self.errors)

    def identifier(self, field: str) -> str:
        """Return a required id or number as text; clients send strings or integers."""
        value = self._body.get(field)
        if isinstance(value, str) and value.isdigit() and value.isascii():  # nearly all are
            return value
        value = plain(value)
        if value is None:
            self.wrong(field, f"The {field} field is required.")
            return ""
        text = _identifier(value)
        if text is None:
            self.wrong(field, f"The {field} field must be a string or an integer.")
        return text or ""

    def _of(self, field: str, kind: type[T], name: str) -> T | None:
        value = self._value(field)
        if value is None or isinstance(value, kind):
            return value
        self.wrong(field, f"The {field} field must be {name}.")
        return None

    def text(self, field: str) -> str | None:
        """Return a string, None where there is none."""
        return self._of(field, str, "a string")

    def flag(self, field: str) -> bool | None:
        """Return a boolean, None where there is none."""
        value = self._value(field)
        if value is None:
            return None
        found = _FLAGS.get(value) if isinstance(value, int | str) else None
        if found is None:
            self.wrong(field, f"The {field} field must be true or false.")
        return found

    def integer(self, field: str, *, low: int, high: int | None = None) -> int | None:
        """Return an integer from ``low`` to ``high``, both included; None where there is none."""
        value = self._value(field)
        if value is None:
            return None
        if isinstance(value, str) and _INTEGER.fullmatch(value):
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            if value >= low and (high is None or value <= high):
                return value
            bounds = f"at least {low}" if high is None else f"from {low} to {high}"
            self.wrong(field, f"The {field} field must be {bounds}.")
        else:
            self.wrong(field, f"The {field} field must be an integer.")
        return None

    def identifiers(self, field: str) -> list[str] | None:
        """Return a list of ids, numbers or names as text; a single one counts as a list.

        None where there is none; never an empty one, nor an empty entry.
        """
        value = self._value(field)
        if value is None:
            return None
        listed = entries(value)
        texts = [_identifier(entry) for entry in ([value] if listed is None else listed)]
        found = [text for text in texts if text is not None]
        if len(found) != len(texts):
            self.wrong(field, f"The {field} field must be an array of strings or integers.")
        elif not found or not all(found):
            self.wrong(field, f"The {field} field must have entries, none of them blank.")
        if len(found) > MAX_LIST:
            self.wrong(field, f"The {field} field may have {MAX_LIST} entries at most.")
        return found

    def integers(self, field: str) -> list[int] | None:
        """Return a list of ids as integers, which may be below zero; None where there is none."""
        texts = self.identifiers(field)
        if texts is None:
            return None
        found = [int(text) for text in texts if _INTEGER.fullmatch(text)]
        if len(found) != len(texts):
            self.wrong(field, f"The {field} field must be an array of integers.")
        return found

    def mapping(self, field: str) -> Fields | None:
        """Return an object as its fields, None where there is none."""
        if self._value(field) == []:  # PHP's empty object
            return Fields({})
        value = self._of(field, dict, "an object")
        return None if value is None else Fields(value)

    def mappings(self, field: str) -> list[Fields]:
        """Return an array of objects; empty where there is none."""
        value = self._value(field)
        if value is None:
            return []
        listed = entries(value)
        if listed is None or len(listed) > MAX_LIST:
            self.wrong(field, f"The {field} field must be an array of {MAX_LIST} objects at most.")
            return []
        found = [Fields(one) for one in listed if isinstance(one, dict)]
        if len(found) != len(listed):
            self.wrong(field, f"The {field} field must be an array of objects.")
        return found

    def adopt(self, field: str, inner: Fields) -> None:
        """Add the errors of a nested object, under the name of its field."""
        for name, sentences in inner.errors.items():
            for sentence in sentences:
                self.wrong(f"{field}.{name}", sentence)

    def choices(self, field: str, known: Collection[str]) -> frozenset[str] | None:
        """Return the entries of an array out of ``known``, None where there is none."""
        value = self._value(field)
        if value is None:
            return None
        listed = entries(value)
        found = [plain(one) for one in listed or ()]
        if listed is not None and all(isinstance(one, str) and one in known for one in found):
            return frozenset(map(str, found))
        self.wrong(field, f"The {field} field must be an array out of {', '.join(known)}.")
        return None

    def choice(self, field: str, known: Collection[str]) -> str | None:
        """Return one out of ``known``, None where there is none."""
        value = self._value(field)
        if value is None or (isinstance(value, str) and value in known):
            return value
        self.wrong(field, f"The {field} field must be one of {', '.join(known)}.")
        return None

    def moment(self, field: str, *, end: bool = False) -> int | None:
        """Return a day or a time in UTC as Unix seconds, None where there is none.

        ``YYYY-MM-DD`` is the first second of the day, or with ``end`` the last one.
        """
        text = self.text(field)
        if text is None:
            return None
        seconds = moment(text, end=end)
        if seconds is None:
            self.wrong(field, f"The {field} field must be YYYY-MM-DD or YYYY-MM-DD HH:MM:SS.")
        return seconds


def moment(text: str, *, end: bool = False) -> int | None:
    """Return a day or a time in UTC as Unix seconds; None for text that is neither."""
    day = _DAY.fullmatch(text) is not None
    if not day and not _TIME.fullmatch(text):
        return None
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:  # such as February 30
        return None
    seconds = int(found.replace(tzinfo=datetime.UTC).timestamp())
    return seconds + _DAY_SECONDS - 1 if day and end else seconds


def whole_number(text: str) -> int | None:
    """Return an id in text form as a number, None where no id can be that."""
    digits = _ID.fullmatch(text)
    return int(digits[1]) if digits else None


def _identifier(value: object) -> str | None:
    """Return an id, a number or a name as text: "" for a blank one, None for what is none."""
    value = "" if isinstance(value, str) and plain(value) is None else plain(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None


HEAVY: Final = ("html", "plain_text", "attachments")
"""The fields of a response that clients may leave out."""

DEFAULT_RANGE: Final = 8 * 1024 * 1024
"""Bytes of a ranged read without a ``length``, as Tickiti's own client requests."""

REVIEW_OK: Final = "review_ok"


@dataclass(frozen=True, slots=True)
class TicketName:
    """The requested ticket: by its number, "" for none, or by its internal id.

    Both are missing where no ticket can have the id that was sent.
    """

    number: str = ""
    id: int | None = None


@dataclass(frozen=True, slots=True)
class AttachmentRequest:
    """A well-formed request for one attachment.

    ``attachment_id`` is None where no attachment can have the id that was sent. ``confirmed`` is
    True when the client said ``"intent": "review_ok"``. ``span`` is the offset and the length
    of a ranged read, None for the whole file.
    """

    ticket: TicketName
    attachment_id: int | None
    confirmed: bool
    span: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Parts:
    """The requested heavy fields of responses, and the most characters of a body.

    ``only`` are the names of all requested fields, None for all light ones.
    """

    heavy: frozenset[str]
    max_body_chars: int | None
    only: frozenset[str] | None = None


def attachment_request(body: Mapping[str, object]) -> AttachmentRequest:
    """Check the fields of a download.

    Raises Refusal 422 ``validation_failed`` that names every wrong field at once.
    """
    fields = Fields(body)
    ticket = _ticket(fields)
    attachment = fields.identifier("response_attachment_id")
    confirmed = fields.text("intent") == REVIEW_OK
    offset = fields.integer("offset", low=0)
    length = fields.integer("length", low=1, high=MAX_RANGE)
    fields.check()
    span = None
    if offset is not None or length is not None:
        span = (offset or 0, length or DEFAULT_RANGE)
    return AttachmentRequest(ticket, whole_number(attachment), confirmed, span)


def ticket_request(body: Mapping[str, object]) -> TicketName:
    """Check the fields of a request about a ticket; raises as the download."""
    fields = Fields(body)
    ticket = _ticket(fields)
    fields.check()
    return ticket


def response_request(body: Mapping[str, object]) -> tuple[int | None, Parts]:
    """Check the fields of a request for one response; raises as the download.

    The id is None where no response can have the one that was sent.
    """
    fields = Fields(body)
    sent = fields.identifier("response_id")
    wanted = parts(fields)
    fields.check()
    return int(sent) if _INTEGER.fullmatch(sent) else None, wanted


def thread_request(body: Mapping[str, object]) -> tuple[TicketName, Parts]:
    """Check the fields of a request for a ticket or its responses; raises as the download."""
    fields = Fields(body)
    ticket = _ticket(fields)
    wanted = parts(fields)
    fields.check()
    return ticket, wanted


def parts(fields: Fields, light: tuple[str, ...] = ()) -> Parts:
    """Read ``fields`` and ``max_body_chars``; ``light`` names fields that may be chosen, too."""
    chosen = fields.choices("fields", (*HEAVY, *light))
    heavy = frozenset(HEAVY) if chosen is None else chosen & frozenset(HEAVY)
    only = None if chosen is None or chosen == heavy else chosen
    return Parts(heavy, fields.integer("max_body_chars", low=0), only)


def _ticket(fields: Fields) -> TicketName:
    """Read ``ticket_number``, or ``ticket_id`` of later clients: exactly one of the two."""
    if not fields.has("ticket_id"):
        return TicketName(number=fields.identifier("ticket_number"))
    if fields.has("ticket_number"):
        fields.wrong("ticket_id", "Give the ticket_number field or the ticket_id field, not both.")
    return TicketName(id=whole_number(fields.identifier("ticket_id")))
