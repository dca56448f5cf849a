"""How PHP and Laravel read requests and answer them."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum, auto
from pathlib import Path
from typing import Any, Final

JSON: Final = "application/json"
HTML: Final = "text/html; charset=UTF-8"
Params = dict[str, Any]


class Delivery(Enum):
    """How a reply leaves."""

    PLAIN = auto()
    CUT = auto()
    """Half of what was announced, then the connection is closed."""
    LOST = auto()
    """Nothing: the connection is closed."""
    SLOW = auto()
    """All of it, in about a second."""
    HANGS = auto()
    """Nothing, for as long as anybody waits."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of the server."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    delivery: Delivery = Delivery.PLAIN

    def sent(self, delivery: Delivery) -> Reply:
        """Return the same reply, sent in another way."""
        return replace(self, delivery=delivery)

    @property
    def told(self) -> Any:
        """What the JSON says."""
        return json.loads(self.body)


def reply(status: int, told: object) -> Reply:
    """Return JSON as PHP writes it."""
    return Reply(status, json.dumps(told).replace("/", "\\/").encode())


def data(told: object) -> Reply:
    """Return an answer in the envelope of the tickets family."""
    return reply(200, {"ok": True, "data": told})


def page(status: int, title: str, *headers: tuple[str, str]) -> Reply:
    """Return a page of a web server or a proxy."""
    text = f"<html>\r\n<head><title>{title}</title></head>\r\n<body><h1>{title}</h1></body></html>"
    return Reply(status, text.encode(), HTML, headers)


class Refusal(Exception):
    """A call that is refused, with the code and what is said."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        errors: Mapping[str, list[str]] | None = None,
        more: object = None,
    ) -> None:
        super().__init__(message)
        told: Params = {"ok": False, "error": code, "message": message}
        told |= {"errors": dict(errors)} if errors else {}
        told |= {"data": more} if more is not None else {}
        self.reply = reply(status, told)


def invalid(**errors: str) -> Refusal:
    """Return the refusal of fields, given as name and sentence; ``__`` stands for a dot."""
    named = {name.replace("__", "."): [text] for name, text in errors.items()}
    return _refused(named)


def _refused(errors: Mapping[str, list[str]]) -> Refusal:
    first, *others = [text for texts in errors.values() for text in texts]
    more = f" (and {len(others)} more error{'s' * (len(others) > 1)})" if others else ""
    return Refusal(422, "validation_failed", first + more, errors)


# Bodies


def parameters(body: bytes, content_type: str) -> tuple[Params, Any]:
    """Return what a JSON body says, trimmed as Laravel does it, and as it was.

    A body that PHP cannot read says nothing: one with a byte order mark, with bytes that are no
    UTF-8, with NaN, or with half of a surrogate pair.
    """
    if "/json" not in content_type and "+json" not in content_type:
        return {}, None
    try:
        told = json.loads(body.decode(), parse_constant=_no_constant, parse_int=_whole)
        json.dumps(told, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return {}, None
    return (_trimmed(told) if isinstance(told, dict) else {}), told


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _whole(digits: str) -> int | float:
    number = int(digits)
    return number if -(1 << 63) <= number < 1 << 63 else float(digits)


def _trimmed(value: Any) -> Any:
    """Trim every string; empty ones become null."""
    match value:
        case str():
            return value.strip(" \n\r\t\v\0\u00a0\u200b\ufeff") or None
        case dict():
            return {name: _trimmed(one) for name, one in value.items()}
        case list():
            return [_trimmed(one) for one in value]
    return value


@dataclass(slots=True)
class Upload:
    """A file of a form as PHP hands it over; ``error`` where it did not take all of it."""

    name: str
    path: Path
    sha256: str
    size: int
    error: bool = False


@dataclass(slots=True)
class _Part:
    """A part of a form that is being read."""

    header: bytes = b""
    named: dict[bytes, bytes] = field(default_factory=dict)


_DISPOSITION: Final = re.compile(
    rb'(?:^|;)\s*(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;"]*))', re.DOTALL
)


class FileForm:
    """Reads a multipart form, keeping on disk the last file named ``file``, and nothing else."""

    def __init__(self, content_type: str, folder: Path, most: int | None) -> None:
        from python_multipart import MultipartParser  # noqa: PLC0415

        self.upload: Upload | None = None
        self._folder, self._most = folder, most
        self._part = _Part()
        self._file: Any = None
        found = re.search(r'boundary="?([^";]+)', content_type)
        self._parser = found and MultipartParser(
            found[1].strip(),
            {
                "on_part_begin": self._begin,
                "on_header_field": self._field,
                "on_header_value": self._value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._start,
                "on_part_data": self._data,
                "on_part_end": self._end,
            },
        )
        self._name, self._text = b"", b""

    def feed(self, block: bytes) -> None:
        """Take the next bytes of the body; ignore what follows a mistake."""
        from python_multipart.exceptions import FormParserError  # noqa: PLC0415

        if self._parser:
            try:
                self._parser.write(block)
            except FormParserError:
                self._parser = None

    def close(self) -> Upload | None:
        """Return the file, if the form has one; drop what was not ended."""
        if self._file is not None:
            self._file.close()
            Path(self._file.name).unlink()
            self._file = None
        return self.upload

    def _begin(self) -> None:
        self._part = _Part()

    def _field(self, block: bytes, start: int, end: int) -> None:
        self._name += block[start:end]

    def _value(self, block: bytes, start: int, end: int) -> None:
        self._text += block[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._part.named = {
                one[1].lower(): one[2].replace(b'\\"', b'"') if one[2] is not None else one[3]
                for one in _DISPOSITION.finditer(self._text)
            }
        self._name, self._text = b"", b""

    def _start(self) -> None:
        named = self._part.named
        if named.get(b"name") == b"file" and named.get(b"filename"):
            self._file = tempfile.NamedTemporaryFile(dir=self._folder, delete=False)  # noqa: SIM115
            self._hash, self._size = hashlib.sha256(), 0

    def _data(self, block: bytes, start: int, end: int) -> None:
        if self._file is None:
            return
        self._size += end - start
        if self._most is None or self._size <= self._most:
            self._file.write(block[start:end])
            self._hash.update(block[start:end])

    def _end(self) -> None:
        if self._file is None:
            return
        self._file.close()
        name = re.split(rb"[/\\]", self._part.named[b"filename"].split(b"\0")[0])[-1]
        self.upload = Upload(
            name.decode("utf-8", "replace"),
            Path(self._file.name),
            self._hash.hexdigest(),
            self._size,
            error=self._most is not None and self._size > self._most,
        )
        self._file = None


# Validation

_ADDRESS: Final = re.compile(
    r"(?=.{3,254}\Z)(?=[^@]{1,64}@)[^\s@.,:;<>()\[\]\\\"]+(\.[^\s@.,:;<>()\[\]\\\"]+)*"
    r"@[^\W_]([\w-]*[^\W_])?(\.[^\W_]([\w-]*[^\W_])?)*\Z"
)
_MISSING: Final[tuple[Any, ...]] = (None, "", [], {})


class Form:
    """The fields of a request, read with Laravel's rules; :meth:`check` refuses all mistakes."""

    def __init__(self, params: Params) -> None:
        self.params = params
        self.errors: dict[str, list[str]] = {}

    def wrong(self, name: str, text: str) -> None:
        """Note a mistake, as a sentence with ``:name`` in it."""
        spoken = name.replace("_", " ")
        self.errors.setdefault(name, []).append(text.replace(":name", spoken))

    def check(self) -> None:
        """Raise Refusal if there was a mistake."""
        if self.errors:
            raise _refused(self.errors)

    def value(self, name: str, *, required: bool = False) -> Any:
        """Return the value at a dotted name, None for nothing."""
        value: Any = self.params
        for step in name.split("."):
            value = value.get(step) if isinstance(value, dict) else None
        if value in _MISSING:
            if required:
                self.wrong(name, "The :name field is required.")
            return None
        return value

    def _only(self, name: str, value: Any, fits: bool, text: str) -> Any:
        """Return a value that fits or is missing; note a mistake for others."""
        if value is None or fits:
            return value
        self.wrong(name, text)
        return None

    def text(self, name: str, *, required: bool = False, longest: int | None = None) -> str | None:
        """Return a string."""
        value = self.value(name, required=required)
        text: str | None = self._only(
            name, value, isinstance(value, str), "The :name field must be a string."
        )
        if longest is not None and text is not None and len(text) > longest:
            self.wrong(name, f"The :name field must not be greater than {longest} characters.")
        return text

    def email(self, name: str, *, required: bool = False) -> str | None:
        """Return an e-mail address in lower case."""
        value = (self.text(name, required=required) or "").lower() or None
        fits, sentence = is_address(value or ""), "The :name field must be a valid email address."
        found: str | None = self._only(name, value, fits, sentence)
        return found

    def flag(self, name: str) -> bool | None:
        """Return a boolean: PHP takes the numbers and strings 0 and 1 as well."""
        value = self.value(name)
        fits = value in ("0", "1") or (isinstance(value, int) and value in (0, 1))
        found = self._only(name, value, fits, "The :name field must be true or false.")
        return None if found is None else bool(int(found))

    def choice(self, name: str, values: Iterable[str]) -> str | None:
        """Return one of some values."""
        value = self.value(name)
        fits = not isinstance(value, (dict, list)) and str(value) in values
        found = self._only(name, value, fits, "The selected :name is invalid.")
        return None if found is None else str(found)

    def whole(
        self,
        name: str,
        *,
        required: bool = False,
        least: int | None = None,
        most: int | None = None,
    ) -> int | None:
        """Return an integer, also from a string of digits."""
        value = self.value(name, required=required)
        if value is None:
            return None
        number = integer(value)
        if number is None:
            self.wrong(name, "The :name field must be an integer.")
            return None
        if least is not None and number < least:
            self.wrong(name, f"The :name field must be at least {least}.")
        if most is not None and number > most:
            self.wrong(name, f"The :name field must not be greater than {most}.")
        return number

    def date(self, name: str) -> str | None:
        """Return a day."""
        value = self.text(name)
        try:
            return value and datetime.strptime(value, "%Y-%m-%d").date().isoformat()  # noqa: DTZ007
        except ValueError:
            self.wrong(name, "The :name field must match the format Y-m-d.")
            return None

    def items(
        self, name: str, *, required: bool = False, least: int = 0, most: int | None = None
    ) -> list[Any]:
        """Return a list."""
        value = self.value(name, required=required)
        if value is None:
            return []
        if not isinstance(value, list):
            self.wrong(name, "The :name field must be an array.")
            return []
        if len(value) < least or (most is not None and len(value) > most):
            self.wrong(name, f"The :name field must have between {least} and {most} items.")
        return value

    def emails(self, name: str, *, required: bool = False) -> list[str]:
        """Return a list of e-mail addresses."""
        values = self.items(name, required=required)
        for at, one in enumerate(values):
            if not isinstance(one, str) or not is_address(one):
                self.wrong(f"{name}.{at}", "The :name field must be a valid email address.")
        return [str(one).lower() for one in values]


def is_address(text: str) -> bool:
    """Say whether Laravel's rule for e-mail addresses takes a text."""
    return _ADDRESS.match(text) is not None


def integer(value: Any) -> int | None:
    """Return the number that PHP's integer rule sees in a value, None for none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"-?(0|[1-9]\d{0,17})", value):
        return int(value)
    return None
