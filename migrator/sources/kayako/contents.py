"""Contents of attachments: base64 streamed from Kayako's XML into sinks.

expat finds the structure. The base64 itself, nearly all of a reply, bypasses it: once expat has
confirmed that a CDATA section opens inside ``contents``, raw bytes go straight to the decoder until
the first ``]``. Anything else (wrapped base64, no CDATA, several sections, entities) goes through
expat into the same decoder, only slower. Memory does not depend on the size of a reply.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, NoReturn, Protocol, TypeVar
from xml.parsers import expat

import pybase64

from migrator.errors import BadBase64, NotXml, PartialReply, Truncated, UnexpectedReply
from migrator.sources.base import Attachment, Contents
from migrator.sources.kayako import replies
from migrator.sources.kayako.cleaning import (
    LAST_SECOND,
    MOST,
    ODD_NUMBER,
    REPAIRED_NAME,
    Sanitiser,
    clean_name,
    codec_of,
    number,
)
from migrator.sources.kayako.limits import (
    ATTACHMENTS,
    CONTENTS_ELEMENTS,
    DEPTH,
    FIELD,
    PIECE,
    SPARSE,
    TOKEN,
)

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_OTHERS = bytes(range(256)).translate(None, _ALPHABET)
_WHITE_SPACE = b" \t\r\n"
_LAST = 8
"""Characters checked one by one where a piece does not end in the alphabet."""


class Base64Decoder:
    """Decodes one base64 text from any pieces, strictly while it can.

    White space is allowed anywhere. At the first thing that strict base64 does not allow
    (a foreign character, padding that is wrong or not at the end), decoding goes on by the rule
    of PHP's ``base64_decode``: every character outside the alphabet is skipped, ``=`` too, and a
    dangling single character is dropped. ``lenient`` says that this happened; it is final after
    :meth:`close`. Both rules agree on all that was decoded before, so nothing is taken back.
    ``dangling`` means that single character: no encoder writes six bits alone, so characters were
    lost or added, which shifted all that follows.
    """

    def __init__(self) -> None:
        self.lenient = False
        self.dangling = False
        self.empty = True
        """Whether only white space has come."""
        self._carry = b""  # the characters of an unfinished group of four: alphabet only
        self._padding = 0

    def feed(self, data: bytes | memoryview) -> bytes:
        """Return the bytes completed by the next piece."""
        if self.lenient or self._padding:
            return self._feed_carefully(bytes(data))
        # The usual case, at the speed of memory: unbroken characters of the alphabet.
        text = self._carry + data
        whole = len(text) & ~3
        unbroken = not text[max(whole - 1, 0) :].translate(None, _ALPHABET)
        if not unbroken:  # padding, mostly
            whole = max(len(text) - _LAST, 0) & ~3
        try:
            if text.endswith(b"=", 0, whole):
                raise ValueError  # noqa: TRY301
            decoded = pybase64.b64decode(memoryview(text)[:whole], validate=True)
        except ValueError:
            return self._feed_carefully(bytes(data))
        self.empty = self.empty and not whole
        if unbroken:
            self._carry = text[whole:]
            self.empty = self.empty and not self._carry
            return decoded
        self._carry = b""
        return decoded + self._feed_carefully(text[whole:])

    def close(self) -> bytes:
        """Return the bytes of an unfinished last group, and finalise ``lenient``."""
        group, self._carry = self._carry, b""
        if (len(group), self._padding) not in {(0, 0), (2, 2), (3, 1)}:
            self.lenient = True
        self.dangling = len(group) == 1
        return pybase64.b64decode(group + b"=" * (4 - len(group))) if len(group) > 1 else b""

    def _feed_carefully(self, data: bytes) -> bytes:
        text = data.translate(None, _WHITE_SPACE)
        letters = text.translate(None, _OTHERS)
        padding = len(text) - len(text.rstrip(b"="))
        if len(letters) + padding != len(text) or (self._padding and letters):
            self.lenient = True
        self._padding += padding
        self.empty = self.empty and not text
        group = self._carry + letters
        whole = len(group) & ~3
        self._carry = group[whole:]
        return pybase64.b64decode(memoryview(group)[:whole], validate=True)


LENIENT_BASE64 = "lenient_base64"

_FIELDS = ("id", "ticketid", "filename", "filesize", "filetype", "dateline")
_CDATA = b"<![CDATA["
_RUN = b"<contents>" + _CDATA
_RUN_END = b"]]></contents>"
_WIKI_RUN_END = b"]]]]><![CDATA[></contents>"
"""How the run ends in Kayako's documentation, whose samples were themselves kept in CDATA.

Read literally such a document is never well-formed, so no whole document is misread by this.
"""

_NEAR = 2048
_TRAILER_LIMIT = 1 << 16
_SPARSE_FROM = 1 << 20


class Sink(Protocol):
    """A receiver of the decoded bytes of one attachment, in order."""

    def write(self, data: bytes, /) -> object:
        """Write the next bytes; may raise, which ends the reading."""


S = TypeVar("S", bound=Sink)


class _Kind(enum.IntEnum):
    """The meaning of an element, by its place; numbers are quick to look up."""

    REPLY = enum.auto()
    POSTS = enum.auto()
    POST = enum.auto()
    LIST = enum.auto()
    ATTACHMENT = enum.auto()
    FIELD = enum.auto()
    CONTENTS = enum.auto()
    IGNORED = enum.auto()


# A post has a child called contents too: its text, which is ignored like all that is not here.
_POSTS = {
    (_Kind.REPLY, "posts"): _Kind.POSTS,
    (_Kind.REPLY, "post"): _Kind.POST,
    (_Kind.POSTS, "post"): _Kind.POST,
    (_Kind.POST, "id"): _Kind.FIELD,
    (_Kind.POST, "ticketpostid"): _Kind.FIELD,
    (_Kind.POST, "ticketid"): _Kind.FIELD,
    (_Kind.POST, "attachments"): _Kind.LIST,
}


class Shape(NamedTuple):
    """How a reply names attachments: its possible roots, its elements, and their owner's field.

    ``run`` is what may begin base64.
    """

    roots: tuple[str, ...]
    meaning: dict[tuple[_Kind, str], _Kind] = {}  # noqa: RUF012 - never changed
    owner: str = ""
    run: bytes = _RUN

    @classmethod
    def of(cls, row: str, owner: str) -> Shape:
        """Return the shape of a list whose rows have this tag."""
        rows = f"{row}s"
        meaning = {
            (_Kind.REPLY, rows): _Kind.LIST,
            (_Kind.REPLY, row): _Kind.ATTACHMENT,
            (_Kind.LIST, row): _Kind.ATTACHMENT,
            (_Kind.ATTACHMENT, "contents"): _Kind.CONTENTS,
            **{(_Kind.ATTACHMENT, tag): _Kind.FIELD for tag in (*_FIELDS, owner)},
        }
        return cls((rows, row), meaning, owner)


_OWN = Shape.of("attachment", "ticketpostid")
TICKETS = Shape((*_OWN.roots, "posts", "post"), _OWN.meaning | _POSTS, _OWN.owner)
"""The attachments of posts, alone or within posts."""


@dataclass(slots=True)
class _Found(Generic[S]):
    """One attachment as it is being read."""

    post: dict[str, str]
    fields: dict[str, str] = field(default_factory=dict)
    sink: S | None = None
    decoder: Base64Decoder = field(default_factory=Base64Decoder)
    size: int = 0
    read: int = 0

    def write(self, data: bytes) -> None:
        """Write decoded bytes to the sink."""
        if data and self.sink is not None:
            self.size += len(data)
            self.sink.write(data)


class ContentsReader(Generic[S]):
    """Reads one reply with contents: feed its bytes, then close.

    ``make_sink`` is called once per ``contents`` element, also for an empty one. ``what`` names the
    reply in errors; attachments that name none get ``ticket_id`` and ``post_id``. ``most`` is how
    many attachments the reply may hold: one more fails it at once. Understands the documented shape
    (``attachments``) and the one that servers send for TicketPost (``posts``, each with its
    ``attachments``), and by another ``shape`` those of articles. With ``rows_only`` contents are
    passed over: an attachment then costs itself only where its row cannot be read, and what stands
    around the document is not laid to any. The result does not depend on how the reply is cut into
    pieces. Used by one
    thread at a time. After an error the reader raises the same error again; the caller drops the
    sinks made so far.
    """

    def __init__(
        self,
        make_sink: Callable[[], S],
        *,
        what: str,
        ticket_id: int = 0,
        post_id: int = 0,
        most: int = ATTACHMENTS,
        shape: Shape = TICKETS,
        rows_only: bool = False,
    ) -> None:
        self._make_sink = make_sink
        self._shape = shape
        self._rows_only = rows_only
        self._what = what
        self._most = most
        self._ids = {"ticketid": ticket_id, shape.owner: post_id}
        self._stage = self._seek
        self._held = b""  # bytes that a stage cannot judge before it sees more
        self._begun = b""  # the document, as far as it came with its beginning
        self._recent = b""  # the last bytes fed, to find what broke it
        self._failure: BaseException | None = None
        self._noise = False
        self._around = b""  # the beginning of what stands around the document
        self._trailer = b""
        self._sanitiser = Sanitiser("utf-8")
        self._fed = 0  # bytes given to expat
        self._cdata_at = -1  # where the last CDATA section inside contents began, in those
        self._closed_at: int | None = None  # where the root's end was reported, in those
        self._kinds = [_Kind.REPLY]
        self._post: dict[str, str] = {}
        self._text: list[str] = []
        self._text_size = 0
        self._elements = 0
        self._found: list[_Found[S]] = []
        self._parser = self._make_parser()

    def feed(self, data: bytes) -> None:
        """Read the next bytes of the reply; raises a SourceError, or what a sink raises."""
        with self._alive():
            rest = data
            while rest:
                rest = self._stage(rest)
                if self._begun:  # what stood before the document says nothing of what broke it
                    data, self._begun = self._begun, b""
            if self._stage != self._seek:
                self._recent = (self._recent + data[-_NEAR:])[-_NEAR:]

    def close(self) -> list[tuple[Contents, S]]:
        """End the reply and return its attachments, in order, each with its sink.

        Raises Truncated, NotXml, MemoryExhausted, UnexpectedReply, or BadBase64 where contents
        that are not strict base64 do not even decode to the declared size.
        """
        with self._alive():
            self._end_document()
            return self._rows() if self._rows_only else [self._finish(one) for one in self._found]

    def _end_document(self) -> None:
        """See the document to its end."""
        if self._stage == self._seek:
            raise replies.no_document(self._held, what=self._what)
        rest, self._held = self._held, b""
        if self._closed_at is None:
            self._parse(rest)
            self._parse(b"", final=True)
        else:
            self._after(rest)
        if replies.holds_root(self._trailer, self._shape.roots):
            raise NotXml(f"{self._what}: the reply holds two documents.")
        self._noise = self._noise or replies.is_noise(self._trailer)
        self._around += b"\n" + self._trailer

    @contextmanager
    def _alive(self) -> Iterator[None]:
        """Keep the first error: expat would continue after a handler's, without handlers."""
        if self._failure is not None:
            raise self._failure
        try:
            yield
        except BaseException as failure:
            self._failure = failure
            raise

    # The stages: each takes bytes, sets the next stage when it is done, returns the rest.

    def _seek(self, data: bytes) -> bytes:
        """Find the beginning of the document."""
        self._held += data
        start = replies.find_document(self._held, self._shape.roots)
        if start is None:
            if len(self._held) > replies.SEARCH_LIMIT:
                raise replies.no_document(self._held, what=self._what)
            return b""
        document, before = self._held[start:], self._held[:start]
        self._noise, self._around = replies.is_noise(before), before[:_TRAILER_LIMIT]
        self._held, self._begun = b"", document
        self._sanitiser = Sanitiser(codec_of(document, what=self._what))
        self._stage = self._markup
        return document

    def _markup(self, data: bytes) -> bytes:
        """Pass all to expat, up to where a run of base64 begins."""
        data = self._held + data
        begin = data.find(self._shape.run)
        if begin < 0:
            cut = len(data) - _overlap(data, self._shape.run)
            self._held = b""
            self._parse(data[:cut])
            self._held = data[cut:]
            return b""
        self._held = b""
        end = begin + len(self._shape.run)
        self._parse(data[:end])
        # Only expat knows whether this is the tag or a file name that reads like it.
        if self._closed_at is None and self._cdata_at == self._fed - len(_CDATA):
            self._stage = self._run
        return data[end:]

    def _run(self, data: bytes) -> bytes:
        """Decode base64 as it comes, up to the first bracket."""
        end = data.find(b"]")
        self._decode(data if end < 0 else data[:end])
        if end < 0:
            return b""
        self._stage = self._run_end
        return data[end:]

    def _run_end(self, data: bytes) -> bytes:
        """Read the one odd ending of the documentation as the ending that it stands for."""
        data = self._held + data
        if len(data) < len(_WIKI_RUN_END) and _WIKI_RUN_END.startswith(data):
            self._held = data
            return b""
        self._held = b""
        self._stage = self._markup
        if data.startswith(_WIKI_RUN_END):
            return _RUN_END + data[len(_WIKI_RUN_END) :]
        return data

    def _after(self, data: bytes) -> bytes:
        """Save the beginning of what follows the document."""
        data, self._held = self._held + data, b""
        self._trailer = (self._trailer + data).lstrip()[:_TRAILER_LIMIT]
        return b""

    # expat

    def _make_parser(self) -> expat.XMLParserType:
        parser = expat.ParserCreate("utf-8", intern=None)  # which would keep every name
        parser.buffer_text = True
        parser.buffer_size = 1 << 16
        if hasattr(parser, "SetReparseDeferralEnabled"):  # expat 2.6 and later
            parser.SetReparseDeferralEnabled(False)
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartCdataSectionHandler = self._cdata
        return parser

    def _parse(self, data: bytes, *, final: bool = False) -> None:
        """Parse in pieces, so that a tag beyond its bound never becomes attributes."""
        for start in range(0, len(data), PIECE):
            if self._closed_at is None:
                self._parse_piece(data[start : start + PIECE])
            else:
                self._after(data[start : start + PIECE])
        if final:
            self._parse_piece(b"", final=True)

    def _parse_piece(self, data: bytes, *, final: bool = False) -> None:
        text = self._sanitiser.feed(data, final=final)
        before = self._fed
        self._fed += len(text)
        try:
            self._parser.Parse(text, final)
        except expat.ExpatError as error:
            if self._closed_at is None:
                self._broken(error, text, before, final=final)
        if self._closed_at is not None:
            self._stage = self._after
            rest = text[_end_of_tag(text, self._closed_at - before) :]
            self._after(rest + self._sanitiser.pending)
        elif self._fed - self._parser.CurrentByteIndex > TOKEN:
            raise NotXml(f"{self._what}: the reply holds a tag that does not end.")

    def _broken(
        self, error: expat.ExpatError, text: bytes, before: int, *, final: bool
    ) -> NoReturn:
        at = max(0, self._parser.ErrorByteIndex - before)
        # Only between the values: a file name may read like PHP's message.
        before_it = (self._recent + text[max(0, at - _NEAR) : at])[-_NEAR:].rpartition(_CDATA)[2]
        if replies.out_of_memory(before_it + text[at : at + _NEAR].partition(_CDATA)[0]):
            raise replies.exhausted(self._what) from None
        if final:
            raise Truncated(
                f"{self._what}: the reply ends in the middle of its document."
            ) from None
        raise NotXml(f"{self._what}: the reply is broken XML: {error}.") from None

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        parent = self._kinds[-1]
        self._elements += 1 + len(attributes)
        if self._elements > CONTENTS_ELEMENTS:
            raise UnexpectedReply(
                f"{self._what}: the reply holds more than {CONTENTS_ELEMENTS:,} elements."
            )
        if parent is _Kind.CONTENTS:
            raise NotXml(f"{self._what}: the contents hold the tag {tag[:40]!a}.")
        if len(self._kinds) > DEPTH:
            raise NotXml(f"{self._what}: the reply is nested too deeply.")
        kind = self._shape.meaning.get((parent, tag), _Kind.IGNORED)
        self._kinds.append(kind)
        if kind is _Kind.POST:
            self._post = {}
        elif kind is _Kind.ATTACHMENT:
            if len(self._found) >= self._most:
                raise UnexpectedReply(
                    f"{self._what}: the reply holds more than {self._most:,} attachments."
                )
            self._found.append(_Found(self._post))
        elif kind is _Kind.FIELD:
            self._text, self._text_size = [], 0
        elif kind is _Kind.CONTENTS:
            found = self._found[-1]
            if found.sink is not None:
                raise UnexpectedReply(f"{self._what}: an attachment has contents twice.")
            found.sink = self._make_sink()

    def _end(self, tag: str) -> None:
        kind = self._kinds.pop()
        if kind is _Kind.FIELD:
            of_post = self._kinds[-1] is _Kind.POST
            fields = self._post if of_post else self._found[-1].fields
            fields.setdefault(tag, "".join(self._text))  # as the lists have it
        elif kind is _Kind.CONTENTS:
            found = self._found[-1]
            found.write(found.decoder.close())
        if len(self._kinds) == 1:
            self._closed_at = self._parser.CurrentByteIndex

    def _characters(self, text: str) -> None:
        kind = self._kinds[-1]
        if kind is _Kind.CONTENTS:
            self._decode(text.encode("ascii", "replace"))
        elif kind is _Kind.FIELD:
            self._text_size += len(text)
            if self._text_size > FIELD:
                raise UnexpectedReply(f"{self._what}: a field is longer than {FIELD:,} characters.")
            self._text.append(text)

    def _cdata(self) -> None:
        if self._kinds[-1] is _Kind.CONTENTS:
            self._cdata_at = self._parser.CurrentByteIndex

    # Records

    def _decode(self, data: bytes) -> None:
        found = self._found[-1]
        if self._rows_only:
            return
        found.write(found.decoder.feed(data))
        found.read += len(data)
        if found.read > SPARSE * found.size + _SPARSE_FROM:
            raise BadBase64(f"{self._what}: the contents hold next to nothing but white space.")

    def _rows(self) -> list[tuple[Contents, S]]:
        """Return the attachments without their contents; raises PartialReply."""
        rows: list[tuple[Contents, S]] = []
        problems: list[str] = []
        for found in self._found:
            try:
                attachment = self._attachment(found)
            except UnexpectedReply as error:
                problems.append(str(error))
                continue
            rows.append((Contents(attachment, 0, present=False), found.sink or self._make_sink()))
        if problems:
            raise PartialReply(problems[0], rows=[one.attachment for one, _ in rows])
        return rows

    def _finish(self, found: _Found[S]) -> tuple[Contents, S]:
        """Return the records of one attachment, after the checks possible here."""
        attachment = self._attachment(found)
        if found.sink is None:
            raise UnexpectedReply(
                f"{self._what}: attachment {attachment.id} has no contents element."
            )
        notes = attachment.notes
        if found.decoder.lenient:
            if found.size != attachment.filesize:
                raise BadBase64(
                    f"{self._what}: the contents are not base64; what can be read of them is "
                    f"{found.size} bytes, not {attachment.filesize}."
                )
            if found.decoder.dangling:  # the right length, but shifted by six bits from somewhere
                raise BadBase64(f"{self._what}: the contents are base64 with a character too many.")
            notes += (LENIENT_BASE64,)
        present, said = not found.decoder.empty, ""
        if not present and self._around.strip():
            if error := replies.unread(self._around, what=self._what):
                raise error
            said = replies.of_remote_file(self._around)
        contents = Contents(attachment, found.size, present, notes, said)
        return contents, found.sink

    def _attachment(self, found: _Found[S]) -> Attachment:
        filename, repaired = clean_name(found.fields.get("filename", ""))
        attachment_id, _ = self._number(found, "id")
        if attachment_id <= 0:
            raise UnexpectedReply(f"{self._what}: the reply holds an attachment without id.")
        filesize, is_size = self._number(found, "filesize")
        created_at, is_date = self._number(found, "dateline", most=LAST_SECOND)
        return Attachment(
            id=attachment_id,
            ticket_id=self._number(found, "ticketid", "ticketid")[0],
            post_id=self._number(found, self._shape.owner, "ticketpostid", "id")[0],
            filename=filename,
            filesize=filesize,
            filetype=clean_name(found.fields.get("filetype", ""))[0],
            created_at=created_at,
            notes=(
                *((REPAIRED_NAME,) if repaired else ()),
                *(() if is_size and is_date else (ODD_NUMBER,)),
                *((replies.NOISE_AROUND_XML,) if self._noise and not self._rows_only else ()),
            ),
        )

    def _number(
        self, found: _Found[S], tag: str, *of_post: str, most: int = MOST
    ) -> tuple[int, bool]:
        """Return a number of the attachment, else of its post, else what the caller knows.

        The second part says whether the attachment's own value is a number.
        """
        own = number(found.fields.get(tag), most)
        posts = (value for name in of_post if (value := number(found.post.get(name), most)))
        return own or next(posts, 0) or self._ids.get(tag, 0), own is not None


def _end_of_tag(text: bytes, at: int) -> int:
    """Return where the end tag ends that expat reported ``at``; it may have begun before.

    The end of an empty element such as ``<attachments />`` is reported behind it.
    """
    if at >= 0 and not text.startswith(b"</", at):
        return at
    return text.find(b">", max(0, at)) + 1


def _overlap(data: bytes, pattern: bytes) -> int:
    """Return how many bytes at the end of ``data`` could begin ``pattern``."""
    sizes = range(min(len(pattern) - 1, len(data)), 0, -1)
    return next((size for size in sizes if data.endswith(pattern[:size])), 0)
