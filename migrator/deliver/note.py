"""The text of a note, and how one is recognized at the target.

A note says in marks that people can see which files it holds: ``[file 14494 SHA-256]``, with ``not
attached`` where Tickiti did not take it, and once ``[kayako-delivery HELPDESK ticket 17 note ID]``.
What others wrote is cut and can neither tag anybody nor look like a mark.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from migrator.archive.bodies import plain_text
from migrator.archive.records import Response, TicketHeader
from migrator.text import brief, human_bytes, iso_time

MOST_FILES: Final = 20
"""Files of one note: nobody knows how many one response may have."""
MOST_TEXT: Final = 40_000
"""Characters of one note, of which posts without files get what files leave."""

_FILE = re.compile(r"\[file (-?[0-9]{1,19}) ([0-9a-f]{64})( not attached)?\]", re.ASCII)
_NOTE = re.compile(r"\[kayako-delivery (\S+) ticket ([0-9]{1,19}) note ([0-9a-f]{24})\]", re.ASCII)
_TAG = re.compile(r"<[^<>]*>")
_SPELT = {"@": "(at)", "#": "(hash)", "[": "(", "]": ")"}

FileKey = tuple[int, str]
"""Attachment id and SHA-256: what makes two files the same one."""


@dataclass(frozen=True, slots=True)
class File:
    """A file to deliver, under the name it gets; ``why`` says why it is not attached, or is ""."""

    id: int
    sha256: str
    size: int
    name: str
    post_id: int = 0
    created_at: int = 0
    original: str = ""
    why: str = ""

    @property
    def key(self) -> FileKey:
        """What makes two files the same one."""
        return self.id, self.sha256


@dataclass(frozen=True, slots=True)
class Note:
    """The HTML of a note and the mark in it."""

    text: str
    marker: str


@dataclass(frozen=True, slots=True)
class Seen:
    """One of our notes as it stands at the target; ``files`` says of each whether it is attached.

    ``attachments`` are the target's own records of what is attached.
    """

    response_id: str
    marker: str
    files: Mapping[FileKey, bool]
    attachments: Sequence[Mapping[str, Any]]
    is_internal: bool


def neutral(text: str, limit: int = 200) -> str:
    """Return foreign text as harmless HTML in one line, without @ and # in any form."""
    plain = "".join(_SPELT.get(unicodedata.normalize("NFKC", c), c) for c in brief(text, limit))
    return html.escape(plain, quote=False)  # quotes would become &#x27;


def host_of(helpdesk: str) -> str:
    """Return the helpdesk's host as notes name it."""
    return re.sub(r"[^\w.:-]", "-", urlsplit(helpdesk).netloc.rpartition("@")[2]) or "helpdesk"


def marker_of(helpdesk: str, ticket_id: int, files: Iterable[File], before: int = 0) -> str:
    """Return the mark of a note: the same files of the same ticket have the same one.

    ``before`` counts the notes that name these files and do not have them.
    """
    listed = sorted((*one.key, bool(one.why)) for one in files)
    facts = json.dumps([helpdesk, ticket_id, listed, before])
    digest = hashlib.sha256(facts.encode()).hexdigest()[:24]
    return f"[kayako-delivery {host_of(helpdesk)} ticket {ticket_id} note {digest}]"


def opening(helpdesk: str, ticket: TicketHeader) -> Note:
    """Return the first text of a ticket that is made for one of ours."""
    marker = marker_of(helpdesk, ticket.id, ())
    return Note(
        f"<p>Ticket {neutral(ticket.display_id or str(ticket.id))} of the old helpdesk "
        f"{host_of(helpdesk)}: {neutral(ticket.subject)}<br>Requester: "
        f"{_person(ticket.requester_name, ticket.requester_email)}<br>"
        f"Opened {_when(ticket.created_at)}.</p><p>{marker}</p>",
        marker,
    )


def split(files: Sequence[File]) -> Iterator[list[File]]:
    """Yield files in the order of their notes, oldest first."""
    ordered = sorted(files, key=lambda one: (one.created_at, one.post_id, one.id))
    for start in range(0, len(ordered), MOST_FILES):
        yield ordered[start : start + MOST_FILES]


def compose(
    helpdesk: str,
    ticket: TicketHeader,
    posts: Sequence[Response],
    files: Sequence[File],
    *,
    every_post: bool,
    pages: str = "",
    before: int = 0,
) -> Note:
    """Return the note for some files of a ticket; ``before`` as of :func:`marker_of`.

    It has the posts of these files; with ``every_post`` also the others, as far as there is room.
    """
    marker = marker_of(helpdesk, ticket.id, files, before)
    by_post: dict[int, list[str]] = {}
    known = {post.id for post in posts}
    for one in files:
        place = one.post_id if one.post_id in known else 0
        by_post.setdefault(place, []).append(f"<li>{_file_line(one)}</li>")
    head = (
        f"<p><b>Files of ticket {neutral(ticket.display_id or str(ticket.id))} "
        f"of the old helpdesk {host_of(helpdesk)}</b></p>"
        f"<p>Subject: {neutral(ticket.subject)}<br>Requester: "
        f"{_person(ticket.requester_name, ticket.requester_email)}<br>"
        f"Opened {_when(ticket.created_at)}, kept as ticket {ticket.id} in the archive"
        f"{f' ({neutral(pages)})' if pages else ''}. Posts and files, oldest first:</p>"
    )
    tail = f"<p>{marker}</p>"
    taken = [line for lines in by_post.values() for line in lines]
    room = MOST_TEXT - sum(map(len, [head, tail, *taken]))
    lines, left_out = [], 0
    for post in posts:
        held = by_post.pop(post.id, [])
        if not held and not every_post:
            continue
        line = _post_line(post)
        if not held and len(line) > room:
            left_out += 1
            continue
        room -= len(line)
        below = f"<ul>{''.join(held)}</ul>" if held else ""
        lines.append(f"<li>{line}{below}</li>")
    lines += [line for held in by_post.values() for line in held]
    if left_out:
        lines.append(f"<li>and {left_out} more posts without files</li>")
    return Note("".join([head, "<ul>", *lines, "</ul>", tail]), marker)


def _post_line(post: Response) -> str:
    who = "staff" if post.staff else "customer"
    what = {"post": "post", "note": "note", "timetrack": "time track"}.get(post.kind, "fields")
    return (
        f"{_when(post.created_at)}: {what} of "
        f"{_person(post.author_name, post.author_email) or who} ({who})"
    )


def _file_line(one: File) -> str:
    before = f", there called {neutral(one.original)}" if one.original not in ("", one.name) else ""
    why = f" Not attached: {neutral(one.why)}. It is in the archive." if one.why else ""
    mark = f"[file {one.id} {one.sha256}{' not attached' if one.why else ''}]"
    return (
        f"{neutral(one.name)}{before}, {human_bytes(one.size)} ({one.size} bytes), "
        f"{_when(one.created_at)}, SHA-256 {one.sha256}.{why} {mark}"
    )


def _person(name: str, email: str) -> str:
    return ", ".join(neutral(part) for part in (name, email) if part)


def _when(at: int) -> str:
    return iso_time(at) or "at an unknown time"


def seen(response: Mapping[str, Any]) -> Seen | None:
    """Return the note of ours that a response of the target is; None for any other."""
    for field in ("html", "plain_text"):
        text = response.get(field)
        if not isinstance(text, str) or "kayako-delivery" not in text:
            continue
        plain = " ".join(html.unescape(_TAG.sub("", text)).split())
        if (mark := _NOTE.search(plain)) is None:
            continue
        files = {(int(m[1]), m[2]): not m[3] for m in _FILE.finditer(plain)}
        attached = response.get("attachments")
        rows = [one for one in attached if isinstance(one, dict)] if attached else []
        identity = response.get("id", response.get("response_id", ""))
        is_internal = response.get("is_internal") in (True, "1", "true")
        return Seen(str(identity), mark[0], files, rows, is_internal)
    return None


def conversation(
    helpdesk: str, ticket: TicketHeader, posts: Iterable[tuple[Response, str]]
) -> bytes:
    """Return the texts of a ticket as one file of plain text; each post comes with its text."""
    lines = [
        f"Ticket {ticket.display_id or ticket.id} of {host_of(helpdesk)}: {brief(ticket.subject)}",
        f"Requester: {brief(ticket.requester_name)} {brief(ticket.requester_email)}".rstrip(),
    ]
    for post, text in posts:
        who = f"{brief(post.author_name)} {brief(post.author_email)}".strip() or "unknown"
        private = ", internal" if post.is_private else ""
        lines += ["", "-" * 70, f"{_when(post.created_at)}  {who}{private}"]
        if post.heading:
            lines.append(brief(post.heading))
        lines += ["", plain_text(text) if post.is_html else text]
    return "\n".join(lines).encode("utf-8", "replace") + b"\n"
