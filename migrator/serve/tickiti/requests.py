"""The fields of a request body, read one by one, with all errors reported together."""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from migrator.serve.bounds import MAX_LIST, MAX_RANGE
from migrator.serve.refusals import Refusal

T = TypeVar("T")

# Bounded, as int() raises on thousands of digits:
_ID: Final = re.compile(r"0*([0-9]{1,18})", re.ASCII)
_INTEGER: Final = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:Z|\+00:00)?", re.ASCII)
_DAY_SECONDS: Final = 86_400


class Fields:
    """Reads the fields of a body and collects sentences about the wrong ones in ``errors``.

    A field that is null or a blank text counts as missing, as in Laravel. A list that restricts
    an answer must have entries, none of them blank: what is left of an empty one is no question.
    Unknown fields are ignored: a later client may send them.
    """

    def __init__(self, body: Mapping[str, object]) -> None:
        self._body = body
        self.errors: dict[str, list[str]] = {}

    def has(self, field: str) -> bool:
        """Return whether the field was sent."""
        return self._value(field) is not None

    def _value(self, field: str) -> object:
        """Return what was sent, texts without spaces around them; None for nothing."""
        value = self._body.get(field)
        return (value.strip() or None) if isinstance(value, str) else value

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
        if isinstance(value, str):
            if value.isdigit() and value.isascii():  # nearly all are
                return value
            value = self._value(field)
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
        text = self._of(field, str, "a string")
        return None if text is None else _sound(text)

    def flag(self, field: str) -> bool | None:
        """Return a boolean, None where there is none."""
        return self._of(field, bool, "true or false")

    def integer(self, field: str, *, low: int, high: int | None = None) -> int | None:
        """Return an integer from ``low`` to ``high``, both included; None where there is none."""
        value = self._value(field)
        if value is None:
            return None
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
        entries = value if isinstance(value, list) else [value]
        texts = [_identifier(entry) for entry in entries]
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
        value = self._of(field, dict, "an object")
        return None if value is None else Fields(value)

    def mappings(self, field: str) -> list[Fields]:
        """Return an array of objects; empty where there is none."""
        value = self._value(field)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > MAX_LIST:
            self.wrong(field, f"The {field} field must be an array of {MAX_LIST} objects at most.")
            return []
        if not all(isinstance(one, dict) for one in value):
            self.wrong(field, f"The {field} field must be an array of objects.")
            return []
        return [Fields(one) for one in value]

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
        if isinstance(value, list) and all(isinstance(one, str) and one in known for one in value):
            return frozenset(value)
        self.wrong(field, f"The {field} field must be an array out of {', '.join(known)}.")
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
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _sound(value.strip()) if isinstance(value, str) else None


def _sound(text: str) -> str:
    """Return the text without lone surrogates, which JSON can express and no database can hold."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


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
    """The requested heavy fields of responses, and the most characters of a body."""

    heavy: frozenset[str]
    max_body_chars: int | None


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


def thread_request(body: Mapping[str, object]) -> tuple[TicketName, Parts]:
    """Check the fields of a request for a ticket or its responses; raises as the download."""
    fields = Fields(body)
    ticket = _ticket(fields)
    wanted = parts(fields)
    fields.check()
    return ticket, wanted


def parts(fields: Fields, light: tuple[str, ...] = ()) -> Parts:
    """Read ``fields`` and ``max_body_chars``; ``light`` names fields that always come anyway."""
    chosen = fields.choices("fields", (*HEAVY, *light))
    heavy = frozenset(HEAVY) if chosen is None else chosen & frozenset(HEAVY)
    return Parts(heavy, fields.integer("max_body_chars", low=0))


def _ticket(fields: Fields) -> TicketName:
    """Read ``ticket_number``, or ``ticket_id`` of later clients: exactly one of the two."""
    if not fields.has("ticket_id"):
        return TicketName(number=fields.identifier("ticket_number"))
    if fields.has("ticket_number"):
        fields.wrong("ticket_id", "Give the ticket_number field or the ticket_id field, not both.")
    return TicketName(id=whole_number(fields.identifier("ticket_id")))
