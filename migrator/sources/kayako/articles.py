"""Articles of the knowledge base and steps of the troubleshooter, with their attachments.

One reply has all of them, without pages: it is kept in a temporary file, cut into rows there, and
each row is parsed by itself, so that a damaged one costs itself only. The mark that an article has
attachments is often wrong, so the attachments of each are listed. Kayako sends their contents in
that list; where it is too much for the server, they are asked for one by one, as far as the article
names them. Where the list of all is too much, articles are asked for by their ids.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count as count_from
from itertools import islice
from typing import IO, NamedTuple, TypeVar
from xml.parsers import expat

from migrator.errors import (
    MemoryExhausted,
    NotFound,
    PartialReply,
    ServerFailed,
    SourceError,
    TooLarge,
    Truncated,
    UnexpectedReply,
)
from migrator.sources.base import (
    Article,
    Attachment,
    Contents,
    Fetched,
    FetchSink,
    for_each,
    in_pool,
    raise_if_final,
)
from migrator.sources.kayako import cleaning, replies
from migrator.sources.kayako.client import Client
from migrator.sources.kayako.contents import Shape
from migrator.sources.kayako.limits import ATTACHMENTS, DEPTH, ROWS, TEXT

S = TypeVar("S", bound=FetchSink)

BASES = {"article": 10**15, "step": 2 * 10**15}
"""What is added to Kayako's ids: those of attachments of posts are all below."""

MISSES = 200
"""Ids in a row without an article, after which no other one is asked for."""
_TOO_MUCH = (MemoryExhausted, ServerFailed, TooLarge, Truncated)
"""Errors of a list that is too long for the server."""
_MOST_IDS = 10**15 - 1
_ROW = 16 << 20
"""Bytes of one row; of a larger one only the head is read."""
_STRAYS = 100
_BLOCK = 1 << 18
_TAIL = 1 << 16
_LONGEST_MARK = 64
_LISTED = 1000
"""The most values of a row, and of one of its lists."""
_VALUE = 500
_NOT_DETAILS = frozenset({"contents", "contentstext", "subject", "author", "staffname"})


class _Book(NamedTuple):
    """What articles, or steps, and their attachments are called in the API."""

    kind: str
    what: str
    path: str
    attachments: str
    row: str
    id: str
    author: str
    shape: Shape


_BOOKS = {
    "article": _Book(
        *("article", "articles of the knowledge base", "/Knowledgebase/Article"),
        *("/Knowledgebase/Attachment", "kbarticle", "kbarticleid", "author"),
        Shape.of("kbattachment", "kbarticleid"),
    ),
    "step": _Book(
        *("step", "steps of the troubleshooter", "/Troubleshooter/Step"),
        *("/Troubleshooter/Attachment", "troubleshooterstep", "id", "staffname"),
        Shape.of("troubleshooterattachment", "troubleshooterstepid"),
    ),
}


async def articles(client: Client, kind: str, at_once: int) -> AsyncIterator[Article]:
    """Yield all articles or steps, as :meth:`HoldsArticles.articles` says.

    A list that is only partly readable is asked for once more.
    """
    book = _BOOKS[kind]
    what = f"the {book.what}"
    lost: list[str] = []
    try:
        file = await _spooled(client, book)
    except _TOO_MUCH as error:
        met = 0
        async for article in _by_id(client, book, at_once, lost):
            met += 1
            yield article
        text = f"{str(error).rstrip('.')}; {met:,} were found by their ids, and there may be more"
        raise PartialReply(text, problems=[text, *lost]) from error
    known: set[int] = set()
    async for article in _listed(client, book, file, at_once, known=known, lost=lost):
        yield article
    if lost and (again := await _spooled_again(client, book)):
        lost.clear()
        async for article in _listed(client, book, again, at_once, known=known, lost=lost):
            yield article
    if lost:
        raise PartialReply(f"{what}: the reply was only partly readable: {lost[0]}.", problems=lost)


async def _listed(
    client: Client,
    book: _Book,
    file: IO[bytes],
    at_once: int,
    *,
    known: set[int],
    lost: list[str],
) -> AsyncIterator[Article]:
    """Yield the articles of a list that are not ``known`` yet; add to ``lost`` what is not read."""
    with file:
        rows = _rows(file, book, f"the {book.what}")
        fresh = (row for row in rows if row.article is None or row.article.id not in known)
        while batch := await in_pool(None, lambda: list(islice(fresh, at_once))):
            for article in await _read_all(client, book, batch, lost):
                known.add(article.id)
                yield article


async def _spooled(client: Client, book: _Book, number: int | None = None) -> IO[bytes]:
    """Return the reply with all articles, or with the one of that id."""
    what = f"the {book.what}" if number is None else f"{book.kind} {number}"
    path = book.path if number is None else f"{book.path}/{number}"
    return await client.spool(path, what, partial(_check, book=book, what=what))


async def _spooled_again(client: Client, book: _Book) -> IO[bytes] | None:
    """Return the reply with all articles; None when it cannot be had any more."""
    try:
        return await _spooled(client, book)
    except SourceError as error:
        raise_if_final(error)
        return None


async def _read_all(
    client: Client, book: _Book, batch: list[_Row], lost: list[str]
) -> list[Article]:
    """Return the articles of some rows with their attachments, and add to ``lost`` what is not."""
    found: dict[int, Article] = {}

    async def read(row: _Row) -> None:
        if row.article is None:
            lost.append(row.problem)
        elif (one := await _with_files(client, book, row)) is not None:
            found[row.number] = one

    await for_each(batch, read, workers=len(batch))
    return [found[number] for number in sorted(found)]


async def _by_id(
    client: Client, book: _Book, at_once: int, lost: list[str]
) -> AsyncIterator[Article]:
    """Yield the articles that answer under their ids, where the list is too much for the server.

    It ends after many ids in a row that are of none, and where nothing is answered any more.
    """
    ids, missed = count_from(1), 0
    while missed < MISSES:
        batch: list[_Row] = []

        async def ask(number: int, batch: list[_Row] = batch) -> None:
            try:
                with await _spooled(client, book, number) as file:
                    rows = await in_pool(None, lambda: list(_rows(file, book, f"id {number}")))
                # Each row is the first one of its reply.
                batch.extend(replace(row, number=number) for row in rows)
            except SourceError as error:
                raise_if_final(error)
                lost.append(f"{book.kind} {number}: {error.reason}")

        before = len(lost)
        await for_each(list(islice(ids, at_once)), ask, workers=at_once)
        if len(lost) - before == at_once:
            return  # the server answers none of them
        missed = 0 if batch else missed + at_once
        if batch:
            for article in await _read_all(client, book, batch, lost):
                yield article


async def count(client: Client, kind: str) -> int:
    """Return the number of all articles or steps; NotFound when the helpdesk offers none."""
    book = _BOOKS[kind]
    with await _spooled(client, book) as file:
        rows = _rows(file, book, f"the {book.what}")
        return await in_pool(None, lambda: sum(1 for row in rows if row.article))


async def fetch(
    client: Client, kind: str, place: str, attachment_id: int, make_sink: Callable[[], S]
) -> Fetched[S]:
    """Stream one attachment of an article or a step into a sink."""
    book, owner, key = _BOOKS[kind], int(place), attachment_id - BASES[kind]
    what = f"attachment {key} of {kind} {owner}"

    def only(found: Sequence[tuple[Contents, S]], /) -> tuple[Contents, S]:
        ids = [(one.attachment.id, one.attachment.post_id) for one, _ in found]
        if ids != [(key, owner)]:
            raise UnexpectedReply(f"the reply for {what} holds {ids or 'no attachment'} instead")
        contents, sink = found[0]
        return replace(contents, attachment=_named(book, contents.attachment)), sink

    path = f"{book.attachments}/{owner}/{key}"
    return await client.fetch_from(path, what, make_sink, only, post_id=owner, shape=book.shape)


def _named(book: _Book, row: Attachment) -> Attachment:
    """Return an attachment as a run knows it: its owner is where it is."""
    key, place = BASES[book.kind] + row.id, str(row.post_id)
    return replace(row, id=key, ticket_id=0, post_id=0, kind=book.kind, place=place)


async def _with_files(client: Client, book: _Book, row: _Row) -> Article | None:
    """Return an article with its attachments; None when it was deleted meanwhile."""
    assert row.article is not None  # noqa: S101 - for mypy: the caller looked
    article, owner = row.article, row.article.id
    path, what = f"{book.attachments}/ListAll/{owner}", f"the attachments of {book.kind} {owner}"
    files: list[Attachment] = []
    problem: SourceError | None = None
    try:
        files = await client.rows_of(path, what, book.shape, owner)
    except NotFound:
        return None
    except SourceError as error:
        raise_if_final(error)
        if row.named:
            files = await _one_by_one(client, book, owner, row.named)
        else:
            files = list(error.rows) if isinstance(error, PartialReply) else []
            problem = error
    known: dict[int, Attachment] = {}
    for one in files:
        if one.id > _MOST_IDS or known.setdefault(one.id, one) != one:
            problem = UnexpectedReply(f"{what}: attachment {one.id} stands in the list twice.")
    found = tuple(_named(book, known[key]) for key in sorted(known) if key <= _MOST_IDS)
    return replace(article, files=found, problem=problem)


async def _one_by_one(
    client: Client, book: _Book, owner: int, named: dict[int, str]
) -> list[Attachment]:
    """Return the attachments that an article names, whose list cannot be had.

    Of one that cannot be had either only the name is known: the article gives its size in words.
    """
    files: list[Attachment] = []
    for key, name in named.items():
        path, what = f"{book.attachments}/ListAll/{owner}/{key}", f"attachment {key} of {book.kind}"
        try:
            files += await client.rows_of(path, f"{what} {owner}", book.shape, owner)
        except NotFound:
            continue
        except SourceError as error:
            raise_if_final(error)
            files.append(Attachment(key, 0, owner, name, notes=(cleaning.ODD_NUMBER,)))
    return files


# The list of all


@dataclass(slots=True)
class _Row:
    """One row: its article, None with a ``problem``, and the attachments that it names itself."""

    number: int
    article: Article | None = None
    named: dict[int, str] = field(default_factory=dict)
    problem: str = ""


def _check(file: IO[bytes], *, book: _Book, what: str) -> None:
    """Raise the error of a reply that is no whole list."""
    file.seek(0)
    head = file.read(replies.SEARCH_LIMIT)
    start = replies.find_document(head, (f"{book.row}s", book.row))
    if start is None:
        raise replies.no_document(head, what=what)
    size = file.seek(0, 2)
    file.seek(max(start, size - _TAIL))
    tail = file.read()
    end = re.compile(rb"</%ss\s*>|<%ss\s*/>" % (book.row.encode(), book.row.encode()))
    if end.search(tail) is None:
        if replies.out_of_memory(tail):
            raise replies.exhausted(what)
        raise Truncated(f"{what}: the reply ends in the middle of its document.")


def _rows(file: IO[bytes], book: _Book, what: str) -> Iterator[_Row]:
    """Yield the rows of a list, with the articles in them."""
    file.seek(0)
    head = file.read(replies.SEARCH_LIMIT)
    start = replies.find_document(head, (f"{book.row}s", book.row)) or 0
    codec = cleaning.codec_of(head[start:], what=what)
    file.seek(start)
    seen: dict[int, bytes] = {}
    tag, strays, number = book.row.encode(), list[str](), 0
    roots, declared = (f"{book.row}s", book.row), head.startswith(b"<?xml", start)
    if odd := replies.more_than_noise(head[:start], roots, declared=declared):
        strays.append(replies.excerpt(odd.strip("<>").encode()))
    for number, piece in enumerate(_pieces(file, tag, strays), 1):
        if number > ROWS:
            raise TooLarge(f"{what}: the reply holds more than {ROWS:,} rows.")
        row = _read(piece, number, codec, book)
        if row.article is not None:
            key, digest = row.article.id, hashlib.sha256(piece).digest()
            if key in seen:
                if digest != seen[key]:
                    problem = f"{book.kind} {key} stands in it twice, with different values"
                    yield _Row(number, problem=problem)
                continue
            seen[key] = digest
        yield row
    for stray in strays:
        number += 1
        yield _Row(number, problem=f'"{stray}" stands among the rows')


def _pieces(file: IO[bytes], tag: bytes, strays: list[str]) -> Iterator[bytes]:
    """Yield the bytes of each row, and add to ``strays`` what is in the list beside them.

    A row ends at its end tag outside of CDATA, or where the next one begins; one that has no such
    end before the bound, or at all, ends where the next one seems to begin.
    """
    marks = re.compile(rb"<!\[CDATA\[|\]\]>|<%s(?=[\s/>])|</%s\s*>" % (tag, tag))
    edge = re.compile(rb"</%s\s*>(?=\s*<(?:/%ss|%s[\s/>]))" % (tag, tag, tag))
    buffer, outside, at, begin, in_cdata, more = b"", b"", 0, -1, False, True
    last = 0  # where the text outside of rows goes on
    while more:
        block = file.read(_BLOCK)
        more = bool(block)
        buffer += block
        for mark in marks.finditer(buffer, at):
            at = mark.end()
            if in_cdata:
                in_cdata = mark[0] != b"]]>"
            elif mark[0] == b"<![CDATA[":
                in_cdata = True
            elif mark[0].startswith(b"</") and begin >= 0:
                yield buffer[begin:at]
                begin, last = -1, at
            elif mark[0].startswith(b"<") and not mark[0].startswith(b"</"):
                if begin >= 0:  # the end tag is lost
                    yield buffer[begin : mark.start()]
                else:
                    _note(outside + buffer[last : mark.start()], tag, strays)
                    outside = b""
                begin = mark.start()
        at = max(at, len(buffer) - _LONGEST_MARK) if more else at
        if begin >= 0 and (not more or len(buffer) - begin > _ROW):
            cut = edge.search(buffer, begin)
            last = at = cut.end() if cut else len(buffer)
            yield buffer[begin : min(at, begin + _ROW)]
            begin, in_cdata, more = -1, False, more or cut is not None
        if begin < 0:
            at = at if more else len(buffer)
            outside = (outside + buffer[last:at])[:_TAIL]
        keep = begin if begin >= 0 else at
        buffer, at, last, begin = buffer[keep:], at - keep, 0, min(begin, 0)
    _note(outside, tag, strays)


def _note(text: bytes, tag: bytes, strays: list[str]) -> None:
    """Add the beginning of what stands among rows and is none, if anything does."""
    if not text.strip() or len(strays) >= _STRAYS:
        return
    inside = re.split(rb"</%ss\s*>" % tag, text, maxsplit=1)[0]
    frame = rb"<\?[^<>]*\?>|<!--(?:(?!--).)*+-->|<%ss(?:\s[^<>]*|/)?>" % tag
    rest = re.sub(frame, b"", inside, flags=re.DOTALL).strip()
    if rest:
        strays.append(replies.excerpt(rest) or "a tag")


def _read(piece: bytes, number: int, codec: str, book: _Book) -> _Row:
    found = _values(piece, codec)
    if found is None:
        return _guess(piece, number, book)
    values, lists = found.values, found.lists
    key = cleaning.number(values.get(book.id) or values.get("id"), _MOST_IDS)
    if not key:
        return _Row(number, problem=f"row {number} has no id")
    text, notes = cleaning.clean_text(values.get("contents", ""), TEXT)
    dated = cleaning.number(values.get("dateline"), cleaning.LAST_SECOND)
    details: dict[str, object] = {
        tag: line
        for tag, value in values.items()
        if tag not in _NOT_DETAILS and tag != book.id and (line := _line(value)) not in ("", "0")
    }
    details |= {tag: [_line(one) for one in some] for tag, some in lists.items()}
    return _Row(
        number,
        Article(
            kind=book.kind,
            id=key,
            subject=_line(values.get("subject", "")),
            author_name=_line(values.get(book.author, "")),
            created_at=dated or 0,
            text=text,
            notes=notes if dated is not None else (*notes, cleaning.ODD_NUMBER),
            details=details,
        ),
        found.named,
    )


def _values(piece: bytes, codec: str) -> _Values | None:
    """Return what a row holds, sanitised if it must be; None for one that stays damaged."""
    for clean in (False, True):
        text = cleaning.Sanitiser(codec).feed(piece, final=True) if clean else piece
        if not clean and codec != "utf-8":
            continue
        try:
            (found := _Values()).read(text)
        except expat.ExpatError:
            continue
        return found
    return None


def _guess(piece: bytes, number: int, book: _Book) -> _Row:
    """Return what can be told of a damaged row: its id, if any; its files are listed all the same.

    A row whose text is lost is a problem of the list, and replaces nothing that is known.
    """
    found = re.search(rb"<%s>\s*(?:<!\[CDATA\[)?\s*([0-9]{1,15})\s*[\]<]" % book.id.encode(), piece)
    key = int(found[1]) if found else 0
    if not key:
        return _Row(number, problem=f"row {number} is damaged, its id too")
    return _Row(number, Article(book.kind, key, notes=(cleaning.ODD_ROW,)))


def _line(text: str) -> str:
    return cleaning.clean_name(text[: 2 * _VALUE])[0][:_VALUE].strip()


@dataclass(slots=True)
class _Values:
    """What a row holds: values by tag, lists of values, and the attachments that it names."""

    values: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    named: dict[int, str] = field(default_factory=dict)
    _path: list[str] = field(default_factory=list)
    _texts: list[list[str]] = field(default_factory=list)
    _file: dict[str, str] = field(default_factory=dict)

    def read(self, piece: bytes) -> None:
        """Read a row; raises ExpatError for one that is not well-formed."""
        parser = expat.ParserCreate("utf-8")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.Parse(piece, True)

    def _start(self, tag: str, _attributes: dict[str, str]) -> None:
        if len(self._path) > DEPTH:
            raise expat.ExpatError("nested too deeply")
        self._path.append(tag)
        self._texts.append([])

    def _text(self, text: str) -> None:
        self._texts[-1].append(text)

    def _end(self, _tag: str) -> None:
        here, told = self._path[1:], "".join(self._texts.pop())
        self._path.pop()
        if here == ["contents"] and "contents" in self.values:
            raise expat.ExpatError("two rows in one")  # an end tag is lost
        if len(here) == 1 and len(self.values) < _LISTED:
            self.values.setdefault(here[0], told)
        elif here == ["attachments", "attachment"]:
            self._take_file()
        elif here[:2] == ["attachments", "attachment"]:
            self._file.setdefault(here[-1], told)
        elif len(here) == 2 and told.strip():
            some = self.lists.setdefault(here[0], [])
            some += [told] if len(some) < _LISTED else []

    def _take_file(self) -> None:
        key = cleaning.number(self._file.get("id"), _MOST_IDS)
        if key and len(self.named) < ATTACHMENTS:
            # As pages show it: escaped, within CDATA.
            name = html.unescape(self._file.get("filename", ""))
            self.named[key] = cleaning.clean_name(name)[0]
        self._file.clear()
