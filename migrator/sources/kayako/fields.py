"""Custom fields of tickets, and the files in them.

A reply holds the values of all fields, files as base64 in the text. Some versions of Kayako encode
a file once, some twice, and none says which; nor is there a size or a hash. So each file is decoded
both ways at once, and :class:`Encoding` decides by what the files of the helpdesk prove.
"""

from __future__ import annotations

import enum
import hashlib
import html
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from migrator.errors import BadBase64, NotFound, NotXml, UnexpectedReply
from migrator.sources.base import Attachment, Contents, CustomFields, HashSink
from migrator.sources.kayako import replies
from migrator.sources.kayako.cleaning import REPAIRED_NAME, clean_name, clean_text, number
from migrator.sources.kayako.contents import Base64Decoder, ContentsReader, Shape
from migrator.sources.kayako.limits import (
    ATTACHMENTS,
    CONTENTS_ELEMENTS,
    DEPTH,
    NAME,
    SPARSE,
    TEXT,
    TOKEN,
)
from migrator.sources.kayako.lists import CLOSED_BY

UNSURE_ENCODING = "unsure_encoding"
FIRST_ID = 3 * 10**15
"""Attachments in custom fields have ids from here on: attachments of posts are below."""
MOST_FIELDS = 10**5
"""Ids of fields are below."""
MOST_TICKETS = 10**10
LONG = 64
"""Bytes of a file that is not base64 by chance."""

_PASSWORD, _LINKED, _FILE = 3, 9, 11
_OF_TICKETS = {0, 3, 4, 9}
"""Types of groups that concern tickets; old versions do not tell the type."""
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_SHAPE = Shape(("customfields",), run=b"><![CDATA[")
_TAG = re.compile(rb"<[^!?](?:[^\"'<>]|\"[^\"]*+\"|'[^']*+')*+>")
_FIELD_TAG = re.compile(rb"<field[\s/>]")
_ATTRIBUTE = re.compile(rb"([\w:.-]+)\s*=\s*(\"[^\"]*+\"|'[^']*+')")
_NOTICES = re.compile(rb"\[Notice\]: Undefined offset: \d+[^<\n]*(?:<br ?/?>)?", re.IGNORECASE)
"""What old versions print ahead of every reply, for each field that is not set."""


class _Sink(Protocol):
    def write(self, data: bytes, /) -> object: ...

    def abort(self) -> object: ...


S = TypeVar("S", bound=_Sink)


class Coded(Generic[S]):
    """The text of one file, decoded once and twice at the same time, each into a sink."""

    def __init__(self, once: S, twice: S) -> None:
        self.once, self.twice = once, twice
        self.size_once = self.size_twice = self.read = 0
        self.plain = False
        """Whether it is no base64 once it is decoded, which proves that it was encoded once."""
        self._outer, self._inner = Base64Decoder(), Base64Decoder()

    @property
    def present(self) -> bool:
        """Whether there is any text."""
        return not self._outer.empty

    @property
    def damaged(self) -> bool:
        """Whether the text itself is not base64."""
        return self._outer.lenient

    @property
    def fits_twice(self) -> bool:
        """Whether it is strict base64 of strict base64."""
        return not (self.plain or self._inner.lenient or self._inner.empty)

    def feed(self, data: bytes) -> None:
        """Decode the next piece of the text."""
        self._take(self._outer.feed(data))

    def close(self) -> None:
        """End the text."""
        self._take(self._outer.close())
        if not self.plain:
            self._write_twice(self._inner.close())

    def _take(self, data: bytes) -> None:
        if not data:
            return
        self.size_once += len(data)
        self.once.write(data)
        if not self.plain:
            # PHP's encoder writes one line: white space is a sign of a file, too.
            if data.translate(None, _BASE64):
                self.plain = True
                self.twice.abort()
            else:
                self._write_twice(self._inner.feed(data))

    def _write_twice(self, data: bytes) -> None:
        if data:
            self.size_twice += len(data)
            self.twice.write(data)


class Encoding:
    """How often a helpdesk encodes files: all of them the same way.

    One file that is no base64 once it is decoded proves that it encodes once. That it encodes
    twice follows where old versions show themselves, or where two different files of some length
    are base64 of base64, and none is not. Until then a file is decoded as often as it can be,
    which loses nothing, and is not sure.
    """

    def __init__(self) -> None:
        self._once = self._old = False
        self._twice: set[str] = set()

    def learn(self, file: Coded[HashSink], *, old: bool) -> None:
        """Learn from a file of a whole reply; ``old`` if only old versions send such fields."""
        self._old = self._old or old
        if file.present and not file.damaged:
            self._once = self._once or file.plain
            if file.fits_twice and file.size_once >= LONG and len(self._twice) < 2:
                self._twice.add(file.twice.sha256)

    def is_twice(self, file: Coded[S], *, what: str) -> tuple[bool, bool]:
        """Return whether a file was encoded twice, and whether that is sure; raises BadBase64."""
        if file.damaged:
            raise BadBase64(f"{what}: the file in the field is not base64.")
        if self._once or file.plain:
            return False, True
        proven = self._old or len(self._twice) > 1
        if proven and not file.fits_twice:
            raise BadBase64(
                f"{what}: the file in the field is not base64 of base64, as others are."
            )
        return file.fits_twice, proven


@dataclass(slots=True)
class Field(Generic[S]):
    """One field as it stands in a reply; ``kind`` is Kayako's number for its type."""

    id: int
    group: str
    title: str
    kind: int
    filename: str | None = None
    old: bool = False
    notes: tuple[str, ...] = ()
    text: list[str] = field(default_factory=list)
    file: Coded[S] | None = None
    raw: hashlib._Hash = field(default_factory=hashlib.sha256)
    """The hash of the text as it came."""

    @property
    def is_set(self) -> bool:
        """Whether the field of a file has one, lost or not."""
        return self.file is not None and (self.file.present or self.filename is not None)


@dataclass(slots=True)
class Definitions:
    """How many fields tickets have that are kept, and how many of these hold files."""

    fields: int = 0
    files: int = 0

    def add(self, kind: int | None, group_kind: int | None) -> None:
        """Count one definition."""
        if kind != _PASSWORD and group_kind in _OF_TICKETS:
            self.fields += 1
            self.files += kind in (_FILE, None)


class _Place(enum.IntEnum):
    REPLY = enum.auto()
    ROOT = enum.auto()
    GROUP = enum.auto()
    VALUE = enum.auto()
    FILE = enum.auto()
    IGNORED = enum.auto()


class FieldsReader(ContentsReader[S]):
    """Reads a reply with custom fields: their definitions, or those of one ticket.

    ``make_sink`` is called twice for each file; with ``wanted`` only for the file in that field.
    After :meth:`finish` the ``fields`` and ``definitions`` of the reply are whole, unless
    ``strays`` says that there is text among them.
    """

    def __init__(self, make_sink: Callable[[], S], *, what: str, wanted: int | None = None) -> None:
        self.fields: list[Field[S]] = []
        self.definitions = Definitions()
        self._places = [_Place.REPLY]
        self._group = ""
        self._wanted = wanted
        self._kept = self._files = 0
        self._now: Field[S]
        self._by_id: dict[int, Field[S]] = {}
        self._twins: list[Field[S]] = []
        self.strays = False
        super().__init__(make_sink, what=what, shape=_SHAPE)

    @property
    def passwords(self) -> int:
        """The number of fields for passwords."""
        return sum(one.kind == _PASSWORD for one in self.fields)

    def finish(self) -> None:
        """End the reply; raises what :meth:`ContentsReader.close` does."""
        with self._alive():
            self._end_document()
            for one in self._twins:
                self._see_same(one, self._by_id[one.id])
            if self.strays or _NOTICES.sub(b"", self._around).strip(b" \t\r\n\xef\xbb\xbf"):
                for one in self.fields:
                    one.notes += (replies.NOISE_AROUND_XML,)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        parent = self._places[-1]
        self._elements += 1 + len(attributes)
        if self._elements > CONTENTS_ELEMENTS:
            raise UnexpectedReply(
                f"{self._what}: the reply holds more than {CONTENTS_ELEMENTS:,} elements."
            )
        if len(self._places) > DEPTH:
            raise NotXml(f"{self._what}: the reply is nested too deeply.")
        if parent in (_Place.VALUE, _Place.FILE):
            raise NotXml(f"{self._what}: a field holds the tag {tag[:40]!a}.")
        place = _Place.IGNORED
        if parent is _Place.REPLY and tag == "customfields":
            place = _Place.ROOT
        elif parent is _Place.ROOT and tag == "group":
            place, self._group = _Place.GROUP, _title(attributes)
        elif parent in (_Place.ROOT, _Place.GROUP) and tag == "field":
            place = self._begin(attributes, self._group if parent is _Place.GROUP else "")
        elif parent is _Place.ROOT and tag == "customfield":
            kind, of = (number(attributes.get(name)) for name in ("fieldtype", "grouptype"))
            self.definitions.add(kind, of)
        self._places.append(place)

    def _begin(self, attributes: dict[str, str], group: str) -> _Place:
        """Begin a field; raises UnexpectedReply without a type: it may be a password."""
        kind, key = number(attributes.get("type")), number(attributes.get("id"), MOST_FIELDS - 1)
        if not kind or not key:
            raise UnexpectedReply(f"{self._what}: a field has no proper id or no type.")
        old = "name" not in attributes
        made: Field[S] = Field(key, group, _title(attributes), kind, old=old)
        if kind == _FILE:
            if "filename" in attributes:
                said = attributes["filename"]
                made.filename, repaired = clean_name(said[:NAME])
                made.notes = (REPAIRED_NAME,) if repaired or len(said) > NAME else ()
            self._files += 1
            if self._files > ATTACHMENTS:
                raise UnexpectedReply(f"{self._what}: it has more than {ATTACHMENTS:,} files.")
            if self._wanted in (None, key) and key not in self._by_id:
                made.file = Coded(self._make_sink(), self._make_sink())
        # A group may be shown for the ticket and once more for its department.
        (self._twins if key in self._by_id else self.fields).append(made)
        self._by_id.setdefault(key, made)
        self._now = made
        return _Place.FILE if kind == _FILE else _Place.VALUE

    def _end(self, _tag: str) -> None:
        if self._places.pop() is _Place.FILE and (file := self._now.file) is not None:
            file.close()
        if len(self._places) == 1:
            self._closed_at = self._parser.CurrentByteIndex

    def _characters(self, text: str) -> None:
        place = self._places[-1]
        if place is _Place.FILE:
            self._decode(text.encode("ascii", "replace"))
        elif place is _Place.VALUE and self._now.kind != _PASSWORD:
            self._now.raw.update(text.encode("utf-8", "replace"))
            self._kept += len(text)
            if self._kept > TEXT:
                raise UnexpectedReply(f"{self._what}: its values are longer than {TEXT:,} bytes.")
            self._now.text.append(text)
        elif place in (_Place.ROOT, _Place.GROUP) and text.strip():
            self.strays = True

    def _cdata(self) -> None:
        if self._places[-1] is _Place.FILE:
            self._cdata_at = self._parser.CurrentByteIndex

    def _see_same(self, one: Field[S], first: Field[S]) -> None:
        """Raise UnexpectedReply unless a field that comes twice has the same in both places."""
        told = [(of.kind, of.filename, of.raw.digest()) for of in (one, first)]
        if told[0] != told[1]:
            raise UnexpectedReply(
                f"{self._what}: field {one.id} stands in it twice, with different values."
            )

    def _decode(self, data: bytes) -> None:
        self._now.raw.update(data)
        if (file := self._now.file) is not None:
            file.feed(data)
            file.read += len(data)
            if file.read > SPARSE * file.size_once + MOST_FIELDS:
                raise UnexpectedReply(f"{self._what}: a file is next to nothing but white space.")


class PasswordVeil:
    """Hides in a reply, as it comes, what stands in fields for passwords.

    ``fields`` counts those. Where that is less than what was read of the reply, it did not
    understand it.
    """

    def __init__(self) -> None:
        self._held = self._closer = b""
        self._hiding = False
        self.fields = 0

    def feed(self, data: bytes, *, final: bool = False) -> bytes:
        """Return what can be passed on by now: a tag may go on in the next bytes."""
        data, shown = self._held + data, bytearray()
        at = 0
        while at < len(data):
            end, found = self._next(data, at, final=final)
            if end == at:
                break
            if not self._hiding or found.startswith(b"</field"):
                self._hiding = False
                shown += data[at:end]
            if not self._hiding and _FIELD_TAG.match(found) and _is_password(found):
                self.fields += 1
                self._hiding = not found.endswith(b"/>")
                shown += b"***" * self._hiding
            at = end
        self._held = data[at:]
        return bytes(shown)

    def _next(self, data: bytes, at: int, *, final: bool) -> tuple[int, bytes]:
        """Return where the next piece ends, and the tag if it is one; its beginning to wait."""
        if self._closer:
            if (end := data.find(self._closer, at)) >= 0:
                end, self._closer = end + len(self._closer), b""
            else:
                end = len(data) if final else max(at, len(data) - len(self._closer) + 1)
            return end, b""
        if (begin := data.find(b"<", at)) != at:
            return (len(data) if begin < 0 else begin), b""
        for opener, closer in CLOSED_BY.items():
            if data.startswith(opener, at):
                self._closer = closer
                return at + len(opener), b""
        if tag := _TAG.match(data, at):
            return tag.end(), tag[0]
        return (at + 1 if final or len(data) - at > TOKEN else at), b""


def _is_password(tag: bytes) -> bool:
    """Return whether a field is for a password, or may be."""
    attributes = dict(_ATTRIBUTE.findall(tag))
    said = attributes.get(b"type", b"").decode(errors="replace")[1:-1]
    return number(html.unescape(said)) in (None, 0, _PASSWORD)


def _title(attributes: dict[str, str]) -> str:
    return clean_name(attributes.get("title", "")[:NAME])[0]


def id_of(ticket_id: int, field_id: int) -> int:
    """Return the id of the file in a field of a ticket."""
    return FIRST_ID + ticket_id * MOST_FIELDS + field_id


def fields_of(
    ticket_id: int, found: list[Field[HashSink]], encoding: Encoding, *, what: str
) -> CustomFields:
    """Return the custom fields of a ticket, without passwords and empty ones."""
    values: list[tuple[str, str, str]] = []
    files: list[Attachment] = []
    if not 0 < ticket_id < MOST_TICKETS:
        raise UnexpectedReply(f"{what}: the number of the ticket is out of range.")
    for one in found:
        if one.file is not None:
            encoding.learn(one.file, old=one.old)
    for one in found:
        if one.file is not None and one.is_set:
            files.append(_file(ticket_id, one, encoding, what))
            values.append((one.group, one.title, one.filename or "(a file without a name)"))
        elif text := clean_text("".join(one.text), TEXT)[0].strip():
            plain = html.unescape(text) if one.kind == _LINKED else text
            values.append((one.group, one.title, plain))
    return CustomFields(tuple(values), tuple(files))


def _file(ticket_id: int, one: Field[HashSink], encoding: Encoding, what: str) -> Attachment:
    assert one.file is not None  # noqa: S101 - the caller has looked
    size, sha256 = 0, ""
    try:
        twice, sure = encoding.is_twice(one.file, what=what)
        if one.file.present:
            sink, size = _chosen(one.file, twice=twice)
            sha256 = sink.sha256 if sure else ""
    except BadBase64:  # whoever fetches it will say so
        pass
    return Attachment(
        id=id_of(ticket_id, one.id),
        ticket_id=ticket_id,
        post_id=0,
        filename=one.filename or "",
        filesize=size,
        notes=tuple(note for note in one.notes if note == REPAIRED_NAME),
        kind="customfield",
        place=f"{ticket_id}/{one.id}",
        sha256=sha256,
    )


def file_of(
    place: str, found: list[Field[S]], encoding: Encoding, *, what: str
) -> tuple[Contents, S]:
    """Return the file in a field, and the sink that has it; the other one is aborted.

    Raises NotFound where the field holds none.
    """
    ticket_id, field_id = parts_of(place)
    one = next((one for one in found if one.id == field_id and one.is_set), None)
    if one is None or one.file is None:
        raise NotFound(f"{what}: the helpdesk no longer shows a file in this field.")
    notes = one.notes
    twice = False
    if one.file.present:
        twice, sure = encoding.is_twice(one.file, what=what)
        notes += () if sure else (UNSURE_ENCODING,)
    sink, size = _chosen(one.file, twice=twice)
    (one.file.once if twice else one.file.twice).abort()
    attachment = Attachment(
        id=id_of(ticket_id, field_id),
        ticket_id=ticket_id,
        post_id=0,
        filename=one.filename or "",
        filesize=size,
        notes=notes,
        kind="customfield",
        place=place,
    )
    return Contents(attachment, size, one.file.present, notes), sink


def _chosen(file: Coded[S], *, twice: bool) -> tuple[S, int]:
    return (file.twice, file.size_twice) if twice else (file.once, file.size_once)


def parts_of(place: str) -> tuple[int, int]:
    """Return the ticket and the field of a place; raises NotFound for what is none."""
    ticket, _, key = place.partition("/")
    ticket_id, field_id = number(ticket), number(key)
    if not ticket_id or not field_id:
        raise NotFound(f"{place[:40]!a} is no field of a ticket")
    return ticket_id, field_id
