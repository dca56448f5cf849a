"""The handover: a directory with all that is needed to live without this tool.

It holds files by their hash, and lists with a line of JSON for each attachment, ticket and post.
HANDOVER.md describes it; a test keeps that complete. The order makes it resumable: the marker
first, then files, lists, tree and reports, ``SHA256SUMS`` near the end, and last the marker's
entry that it is finished. If the work is killed, doing it again ends with the same directory.

A blob becomes a hard link where that is possible and a copy elsewhere. It is read and hashed
before it gets its name there, and existing files are read again, so that nothing damaged is ever
handed over as good.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from migrator import __version__
from migrator.archive.records import (
    ArticleRow,
    PeopleNote,
    Reply,
    Response,
    Row,
    TicketHeader,
)
from migrator.archive.sql import decoded
from migrator.blobs import durable
from migrator.blobs.base import Examined, Store, Verdict
from migrator.errors import ConfigError, Interrupted
from migrator.report.json_report import judged
from migrator.report.verdict import DAMAGED, Seen, judge, look, proof_lines
from migrator.text import DEPARTMENT_BYTES, iso_time, numbered, ticket_folder

if TYPE_CHECKING:
    from migrator.archive import Archive

TEMP = ".unfinished"
"""The directory for files that are being written; it is gone once all is handed over."""
_BLOCK = 1 << 20


class Outbox:
    """A directory that takes files of an archive, for its owner alone.

    OSErrors end here, as ArchiveUnwritable. Several threads may put different files at a time.
    ``stopped`` is called between the blocks of a large file; it may raise.
    """

    def __init__(self, root: Path, stopped: Callable[[], None] = lambda: None) -> None:
        self.root = root
        self._temp = root / TEMP
        self._stopped = stopped

    def prepare(self) -> None:
        """Create the directory, and remove what a killed process left half-written in it."""
        with self._writing():
            durable.make_dirs(self.root)
            self._remove(self._temp)
            durable.make_dir(self._temp)

    def finish(self) -> None:
        """Remove the place of temporary files."""
        with self._writing():
            self._remove(self._temp)
            durable.sync_dir(self.root)

    def folder(self, *parts: str) -> Path:
        """Create a directory below the root, one part after the other; links are not followed."""
        path = self.root
        with self._writing():
            for part in parts:
                path = path / part
                durable.make_dir(path)
                if path.is_symlink():
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return path

    def sync(self, folders: Iterable[Path]) -> None:
        """Make the names in these directories durable."""
        with self._writing():
            for folder in folders:
                durable.sync_dir(folder)

    def remove(self, name: str) -> None:
        """Remove a file or a directory with all that is in it; harmless when there is none."""
        with self._writing():
            self._remove(self.root / name)
            durable.sync_dir(self.root)

    def write(self, name: str, pieces: Iterable[str]) -> str:
        """Write a text, as UTF-8, durably and in one step; returns its SHA-256."""
        digest = hashlib.sha256()

        def told() -> Iterator[bytes]:
            for piece in pieces:
                data = piece.encode("utf-8", "backslashreplace")
                digest.update(data)
                yield data

        with self._writing():
            durable.write(self.root / name, told(), temp=self._new(), mode=durable.READ_ONLY)
        return digest.hexdigest()

    def put(self, store: Store, sha256: str, size: int, folder: Path, *, link: bool) -> Examined:
        """Write one blob into ``folder``, under its SHA-256; the caller syncs the folder.

        Anything but OK says that the archive has no good bytes; then there is no such file.
        """
        target = folder / sha256
        with self._writing():
            if _is(target, sha256, size):
                return Examined(Verdict.OK)
            target.unlink(missing_ok=True)
            return store.copy_out(
                sha256, size, target, temp=self._new(), link=link, stopped=self._stopped
            )

    def twin(self, source: Path, sha256: str, target: Path) -> None:
        """Link or copy a file of this directory to ``target``; the caller syncs its folder."""
        with self._writing():
            if durable.link(source, target):
                return
            with source.open("rb") as file:
                if not durable.copy(self._blocks(file), target, sha256, temp=self._new()):
                    raise OSError(errno.EIO, "what was just written cannot be read")

    def _blocks(self, file: BinaryIO) -> Iterator[bytes]:
        while block := file.read(_BLOCK):
            self._stopped()
            yield block

    def _new(self) -> Path:
        return self._temp / secrets.token_hex(16)

    def _remove(self, path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with durable.writing(self.root, "handover"):
            yield


def same_bytes(path: Path, sha256: str) -> bool:
    """Read a file and tell whether it has that SHA-256; False where it cannot be read, too."""
    with suppress(OSError), os.fdopen(durable.open_file(path), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    return False


def _is(path: Path, sha256: str, size: int) -> bool:
    return durable.is_file(path) and path.lstat().st_size == size and same_bytes(path, sha256)


MANIFEST, TICKETS, POSTS = "manifest.jsonl", "tickets.jsonl", "posts.jsonl"
NOTES, ARTICLES, REPLIES = "people_notes.jsonl", "articles.jsonl", "replies.jsonl"
DELIVERED = "delivered.jsonl"
_Record = Row | TicketHeader | Response | PeopleNote | ArticleRow | Reply
_TIMES = (
    *("created_at", "stored_at", "last_activity", "deleted_at", "received_at", "superseded_at"),
)


def _reader(kind: type[_Record]) -> tuple[list[str], attrgetter[Any]]:
    names = [one.name for one in dataclasses.fields(kind)]
    return names, attrgetter(*names)


_KINDS = (Row, TicketHeader, Response, PeopleNote, ArticleRow, Reply)
_FIELDS = {kind: _reader(kind) for kind in _KINDS}
"""Found once: there are millions of rows."""


def _plain(record: _Record) -> dict[str, object]:
    """Return a record's fields, with times as ISO 8601 in UTC; null where there is none."""
    names, values = _FIELDS[type(record)]
    facts = dict(zip(names, values(record), strict=True))
    for name in _TIMES:
        if name in facts:
            facts[name] = iso_time(facts[name]) or None
    return facts


def _line(facts: Mapping[str, object]) -> str:
    return json.dumps(facts) + "\n"


FORMAT = "migrator.handover/1"
MARKER = "handover.json"
SUMS = "SHA256SUMS"
README = "README.md"
FILES, TREE = "files", "tree"
BATCH = 256
_VERDICT = "<!-- verdict -->"
"""Stands in HANDOVER.md where the README of a handover says how complete it is."""

Tell = Callable[[str, int, Verdict, int], None]
"""A function called for every file: its SHA-256, size in bytes, verdict, and how many there are."""
Documents = Callable[[], Mapping[str, Iterable[str]]]
_Parts = tuple[str, str, str]
_Key = tuple[int, str, str]
"""A ticket, or kind and place of what belongs to none."""
OUTSIDE = {"article": "knowledge-base", "step": "troubleshooter", "linked": "linked"}
"""Where files of no ticket are in the tree, by kind."""


@dataclass(slots=True)
class Handover:
    """The files handed over; ``damaged`` and ``lost`` are hashes of files that were not.

    ``files`` and ``bytes`` include ``replies`` and ``reply_bytes``, of kept replies.
    ``unreadable`` says why damaged ones could not be read at all. ``files`` and ``bytes`` count
    different contents. ``rows`` counts lines by list. ``without_file`` are attachments whose line
    in the manifest names no file. ``seen`` has the facts for the verdict, including what was read
    for the handover.
    """

    files: int = 0
    bytes: int = 0
    damaged: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    without_file: int = 0
    tree: int = 0
    replies: int = 0
    reply_bytes: int = 0
    seen: Seen | None = None
    unreadable: dict[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """6 when the archive had no good bytes of what it says it stored, else the verdict's."""
        return judge(self.seen).exit_code if self.seen is not None else DAMAGED


def _key(row: Row) -> _Key:
    if row.ticket_id:
        return row.ticket_id, "", ""
    return 0, row.kind, row.place if row.kind in ("article", "step") else ""


def path_of(sha256: str) -> str:
    """Return where a content is, relative to the handover."""
    return f"{FILES}/{sha256[:2]}/{sha256[2:4]}/{sha256}"


def claim(root: Path, archive: Path, source: str) -> dict[str, object]:
    """Check that a directory may be used; return its marker, or nothing for a new one.

    Raises ConfigError for a directory that holds anything else, for one inside the archive or
    around it, and for the handover of another helpdesk.
    """
    target, ours = root.resolve(), archive.resolve()
    if target == ours or target.is_relative_to(ours) or ours.is_relative_to(target):
        raise ConfigError(
            f"{str(root)!r} and the archive {str(archive)!r} hold one another. Choose a directory "
            "of its own for the handover."
        )
    marker = read_marker(root)
    known = marker.get("source")
    if marker and source and known and known != source:
        raise ConfigError(
            f"{str(root)!r} is the handover of {known!s}, not of {source}. Choose another "
            "directory."
        )
    return marker


def read_marker(root: Path) -> dict[str, object]:
    """Return what a handover says of itself; nothing for an empty directory, or none at all.

    Raises ConfigError for anything else.
    """
    refusal = ConfigError(
        f"{str(root)!r} is not empty and no handover of this tool: there is no {MARKER} of the "
        f"format {FORMAT}. Choose a new or an empty directory."
    )
    try:
        if (root / MARKER).is_file():
            found = json.loads((root / MARKER).read_bytes()[:1_000_000])
            if isinstance(found, dict) and found.get("format") == FORMAT:
                return found
            raise refusal
        # Without a marker it was killed at the first step: only our own empty folder is there.
        strangers = [one for one in root.iterdir() if one.name != TEMP] if root.exists() else []
    except (OSError, ValueError) as error:
        raise refusal from error
    if strangers:
        raise refusal
    return {}


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a handover.

    ``now`` is the time in Unix seconds. A ``tree`` that was made once is made again. With
    ``link`` off every file is a copy. ``tell`` is called for every file; once ``stopped`` returns
    True, the work ends. ``pool`` reads several files at a time.
    """

    now: int
    tree: bool = False
    link: bool = True
    tell: Tell = lambda *_: None
    stopped: Callable[[], bool] = lambda: False
    pool: Executor | None = None


def hand_over(archive: Archive, root: Path, documents: Documents, options: Options) -> Handover:
    """Write the handover of an archive into ``root``, or update it.

    ``documents`` returns the texts of the reports by file name. Raises ConfigError for a directory
    that must not be used, ArchiveUnwritable for one that cannot be written, Interrupted.
    """
    return _Work(archive, root, documents, options)()


def _said(seen: Seen) -> list[str]:
    """Return what may be said of the archive, as paragraphs of the README."""
    return [f"**{judge(seen).sentence}**", " ".join(proof_lines(seen))]


class _Work:
    """One handover in the making."""

    def __init__(
        self, archive: Archive, root: Path, documents: Documents, options: Options
    ) -> None:
        helpdesk, runs = archive.queries.helpdesk(), archive.queries.runs(1)
        self._source = helpdesk.address if helpdesk else runs[0].source if runs else ""
        marker = claim(root, archive.path, self._source)
        self._archive = archive
        self._documents = documents
        self._options = options
        self._tree = options.tree or marker.get("tree") is True
        self._out = Outbox(root, self._go_on)
        self._result = Handover()
        self._bad: set[str] = set()
        self._sums: dict[str, str] = {}
        self._queues = {queue.department_id: queue for queue in archive.access.queues()}

    def __call__(self) -> Handover:
        self._out.prepare()
        self._mark(finished=False)
        # It would vouch for files that are about to change.
        self._out.remove(SUMS)
        self._put_files()
        threads = self._archive.threads
        for name, lines in (
            (MANIFEST, map(self._attachment, self._archive.queries.rows())),
            (TICKETS, map(self._ticket, threads.all_tickets())),
            (POSTS, map(self._post, threads.all_posts())),
            (NOTES, map(self._people_note, threads.all_people_notes())),
            (ARTICLES, map(self._article, threads.all_articles())),
            (REPLIES, map(self._reply, self._archive.replies.all())),
            *self._deliveries(),
        ):
            self._write(name, self._counted(name, lines))
        self._out.remove(TREE)
        if self._tree:
            self._make_tree()
        for name, pieces in self._documents().items():
            self._write(name, pieces)
        archive, bad = self._archive, len(self._result.damaged) + len(self._result.lost)
        seen = archive.queries.together(lambda: look(archive, damaged=bad))
        self._result.seen = seen
        text = Path(__file__).with_name("HANDOVER.md").read_text(encoding="utf-8")
        self._write(README, [text.replace(_VERDICT, "\n\n".join(_said(seen)), 1)])
        self._out.write(SUMS, self._sum_lines())
        self._mark(finished=True)
        self._out.finish()
        return self._result

    def _go_on(self) -> None:
        """Raise Interrupted once somebody wants us to stop."""
        if self._options.stopped():
            raise Interrupted("interrupted; run the same command again to resume the handover")

    def _mark(self, *, finished: bool) -> None:
        facts = {
            "format": FORMAT,
            "finished": finished,
            "source": self._source,
            "made_at": iso_time(self._options.now),
            "made_by": f"migrator {__version__}",
            "tree": self._tree,
        }
        if finished:
            facts |= {
                "files": self._result.files,
                "bytes": self._result.bytes,
                "replies": self._result.replies,
                "damaged": len(self._result.damaged),
                "lost": len(self._result.lost),
                "lines": self._result.rows,
            }
            if (seen := self._result.seen) is not None:
                told = judged(seen, self._options.now)
                facts |= {key: told[key] for key in ("verdict", "scope", "proof", "accepted")}
        self._out.write(MARKER, [json.dumps(facts, indent=2) + "\n"])

    def _write(self, name: str, pieces: Iterable[str]) -> None:
        self._sums[name] = self._out.write(name, pieces)

    # Files

    def _put_files(self) -> None:
        total, _ = self._archive.queries.kept_blobs()
        self._out.folder(FILES)
        blobs, pool = self._archive.queries.expected_blobs(), self._options.pool
        while batch := list(islice(blobs, BATCH)):
            examined = (map if pool is None else pool.map)(self._put, batch)
            for (sha256, size), found in zip(batch, examined, strict=True):
                self._count(sha256, size, found)
                self._options.tell(sha256, size, found.verdict, total)
            self._sync([sha256 for sha256, _ in batch])

    def _put(self, blob: tuple[str, int]) -> Examined:
        self._go_on()
        sha256, size = blob
        folder = self._out.folder(*path_of(sha256).split("/")[:-1])
        return self._out.put(self._archive.blobs, sha256, size, folder, link=self._options.link)

    def _count(self, sha256: str, size: int, found: Examined) -> None:
        result = self._result
        if found.verdict is Verdict.OK:
            result.files += 1
            result.bytes += size
            if not self._archive.queries.is_content(sha256):
                result.replies += 1
                result.reply_bytes += size
            return
        self._bad.add(sha256)
        (result.damaged if found.verdict is Verdict.DAMAGED else result.lost).append(sha256)
        if found.reason:
            result.unreadable[sha256] = found.reason

    def _sync(self, hashes: Iterable[str]) -> None:
        """Make the names of a batch durable, and of the directories that may be new."""
        files = self._out.root / FILES
        folders = {(self._out.root / path_of(sha256)).parent for sha256 in hashes}
        self._out.sync(sorted({*folders, *(folder.parent for folder in folders), files}))

    def _sum_lines(self) -> Iterator[str]:
        for name, sha256 in sorted(self._sums.items()):
            yield f"{sha256}  {name}\n"
        for sha256, _ in self._archive.queries.expected_blobs():
            if sha256 not in self._bad:
                yield f"{sha256}  {path_of(sha256)}\n"

    # Lists

    def _deliveries(self) -> Iterator[tuple[str, Iterator[str]]]:
        queries = self._archive.queries
        if queries.targets():
            yield DELIVERED, (_line(asdict(one)) for one in queries.delivered_lines())

    def _attachment(self, row: Row) -> str:
        path, tree = self._place(row)
        self._result.without_file += path is None
        facts = _plain(row)
        # ``id`` alone would not say whose.
        facts = {"attachment_id": facts.pop("id"), **facts}
        department, queue = self._room(row.department_id)
        facts |= {"state": row.state.value, "department": department, "queue_name": queue}
        return _line(facts | {"path": path, "tree": tree})

    def _ticket(self, ticket: TicketHeader) -> str:
        facts = _plain(ticket)
        facts = {"ticket_id": facts.pop("id"), **facts}
        facts["details"] = decoded(ticket.details, "tickets.details")
        return _line(facts | {"department": self._room(ticket.department_id)[0]})

    def _post(self, post: Response) -> str:
        facts = _plain(post)
        del facts["length"]  # the text is there
        facts["facts"] = decoded(post.facts, "posts.facts") if post.facts else None
        return _line({"post_id": facts.pop("id"), **facts})

    def _people_note(self, note: PeopleNote) -> str:
        facts = _plain(note)
        return _line({"note_id": facts.pop("id"), **facts, "facts": note.facts or None})

    def _article(self, article: ArticleRow) -> str:
        facts = _plain(article)
        return _line({"kind": facts.pop("kind"), "article_id": facts.pop("id"), **facts})

    def _reply(self, reply: Reply) -> str:
        path = None if reply.sha256 in self._bad else path_of(reply.sha256)
        return _line(_plain(reply) | {"path": path})

    def _room(self, department_id: int) -> tuple[str, str]:
        """Return the names of a department and of its queue."""
        if department_id < 0:  # of no ticket
            return "", ""
        queue = self._queues.get(department_id)
        if queue is None:  # known by a ticket that was merged into another one, and by no list
            return f"Department {department_id}", f"Department {department_id}"
        return queue.title, queue.name

    def _counted(self, name: str, lines: Iterator[str]) -> Iterator[str]:
        """Yield the lines of a list, count them, and check for a stop."""
        self._result.rows[name] = 0
        for number, line in enumerate(lines, 1):
            self._result.rows[name] = number
            if number % BATCH == 0:
                self._go_on()
            yield line

    def _place(self, row: Row) -> tuple[str | None, str | None]:
        """Return where the file of an attachment is, and where in the tree."""
        if row.sha256 is None or row.sha256 in self._bad:
            return None, None
        if not self._tree:
            return path_of(row.sha256), None
        _, parts = self._named(_key(row))[row.id]
        return path_of(row.sha256), "/".join((TREE, *parts))

    # Tree

    @functools.cached_property
    def _departments(self) -> dict[int, str]:
        """Return the directories of the departments."""
        groups = sorted(self._archive.figures.by_department(), key=lambda one: int(one.key))
        titles = [(int(one.key), one.title) for one in groups if int(one.key) >= 0]
        # Not those of departments, whatever these are called.
        return numbered([*enumerate(OUTSIDE.values(), -len(OUTSIDE)), *titles], DEPARTMENT_BYTES)

    @functools.cached_property
    def _named(self) -> Callable[[_Key], dict[int, tuple[Row, _Parts]]]:
        """Return the places of a ticket's attachments; neighbours need the same ticket."""
        return functools.lru_cache(maxsize=256)(self._named_now)

    def _named_now(self, key: _Key) -> dict[int, tuple[Row, _Parts]]:
        ticket_id, kind, place = key
        threads = self._archive.threads
        if ticket_id:
            found = threads.attachments_of_ticket(ticket_id)
        elif kind == "linked":
            found = threads.linked_files(0, limit=-1)
        else:
            found = threads.files_of_article(kind, int(place))
        rows = [row for row in found if row.sha256 is not None and row.sha256 not in self._bad]
        names = numbered((row.id, row.filename) for row in rows)
        return {row.id: (row, (*self._folders(row), names[row.id])) for row in rows}

    def _folders(self, row: Row) -> tuple[str, str]:
        if row.ticket_id:
            folder = ticket_folder(row.ticket_id, row.ticket_number)
            return self._departments[row.department_id], folder
        room = self._departments[list(OUTSIDE).index(row.kind) - len(OUTSIDE)]
        return room, row.place if row.kind in ("article", "step") else "files"

    def _keys(self) -> Iterator[_Key]:
        threads = self._archive.threads
        yield from ((ticket.id, "", "") for ticket in threads.all_tickets())
        yield from ((0, one.kind, str(one.id)) for one in threads.all_articles())
        yield 0, "linked", ""

    def _make_tree(self) -> None:
        departments = {self._out.folder(TREE)}
        for key in self._keys():
            self._go_on()
            folder = None
            for row, (*parts, name) in self._named_now(key).values():
                folder = self._out.folder(TREE, *parts)
                sha256 = str(row.sha256)
                source = self._out.root / path_of(sha256)
                self._out.twin(source, sha256, folder / name)
                self._result.tree += 1
            if folder is not None:
                self._out.sync([folder])
                departments.add(folder.parent)
        self._out.sync(sorted(departments))
