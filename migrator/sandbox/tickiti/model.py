"""What an install holds: tickets, responses, files, people, keys, and the mails it sent."""

from __future__ import annotations

import binascii
import hashlib
import html
import random
import re
import shutil
import tempfile
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

SYSTEM: Final = "system@tickiti.com"
HIDDEN: Final = "Hidden"
"""A queue that nobody sees who was not allowed to by name."""
MIB: Final = 1 << 20


class Generation(IntEnum):
    """Versions of the API, oldest first."""

    JUNE = 1
    UPLOADS = 2
    """Between June and July: files can be uploaded, and tickets named by their id."""
    JULY = 3
    OCTOBER = 4


@dataclass(slots=True)
class Attachment:
    """A file of a response. ``damage`` says how its download is wrong, if it is."""

    id: int
    response_id: int
    name: str
    sha256: str
    file_size: int
    is_inline: bool = False
    damage: str | None = None


@dataclass(slots=True)
class Response:
    """A response of a ticket; ``audit`` rows have no body."""

    id: int
    ticket_id: int
    created_by_email: str
    is_internal: bool
    staff_response: bool
    html: str
    created_at: int
    updated_at: int
    attachments: list[Attachment] = field(default_factory=list)
    audit: list[str] = field(default_factory=list)
    is_pinned: bool = False
    is_email_sourced: bool = False
    is_audit_only: bool = False
    deleted_at: int | None = None
    foreign: bool = False
    """Written by a fault and not by a client."""

    @property
    def plain_text(self) -> str:
        """The body without its tags."""
        return plain(self.html)


@dataclass(slots=True)
class Ticket:
    """A ticket with the responses that it has, in the order in which they were written."""

    id: int
    number: int
    subject: str
    originator_email: str
    created_at: int
    updated_at: int
    status: str = "open"
    priority: str = "20"
    queue: str = "Inbox"
    assigned_to_email: str | None = None
    resolved: str | None = None
    on_hold_until: str | None = None
    participants: list[str] = field(default_factory=list)
    responses: list[Response] = field(default_factory=list)
    linked: set[int] = field(default_factory=set)
    deleted_at: int | None = None

    @property
    def shown(self) -> list[Response]:
        """The responses that are not deleted, pinned ones first, then oldest to newest."""
        alive = [one for one in self.responses if one.deleted_at is None]
        return sorted(alive, key=lambda one: (not one.is_pinned, one.created_at, one.id))


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail that a real install would send, or may send where that is not known."""

    to: str
    why: str
    ticket_number: int
    subject: str
    at: int


@dataclass(frozen=True, slots=True)
class Tag:
    """An ``@word`` or ``#word`` in a body; ``person`` is whom it notified."""

    ticket_number: int
    word: str
    person: str | None


@dataclass(frozen=True, slots=True)
class Key:
    """An API key: what it may do, as whom, and in which queues; None for all."""

    token: str
    abilities: frozenset[str]
    owner: str = "system"
    role: str = "sysadmin"
    queues: frozenset[str] | None = None
    manages: bool = True

    @property
    def email(self) -> str:
        """The address of the owner."""
        return SYSTEM if self.owner == "system" else self.owner

    def sees(self, queue: str) -> bool:
        """Say whether the owner sees the tickets of a queue."""
        return queue != HIDDEN if self.queues is None else queue in self.queues


ROLES: Final = ("customer", "staff", "admin", "sysadmin")
"""Each one includes those before it."""
ABILITIES: Final = frozenset({"tickets:read", "tickets:write", "mail:read"})
BLOCKED: Final = frozenset(
    "exe msi bat cmd com scr ps1 app vbs js jar sh docm xlsm pptm".split()  # noqa: SIM905
)
ALWAYS_ALLOWED: Final = frozenset(
    "pdf doc docx xls xlsx ppt pptx txt rtf csv jpg jpeg png gif webp bmp svg zip 7z".split()  # noqa: SIM905
)


def extension(name: str) -> str:
    """Return what follows the last dot of a name, in lower case."""
    return name.rpartition(".")[2].lower() if "." in name else ""


@dataclass(slots=True)
class Limits:
    """How large files and requests may be, in bytes; None for any."""

    file: int = 25 * MIB
    download: int = 25 * MIB
    upload_max: int | None = None
    """PHP's upload_max_filesize."""
    post_max: int | None = None
    """PHP's post_max_size, over which it hands over an empty request."""
    proxy: int | None = None
    """Over which a proxy refuses the request."""


class Desk:
    """Everything that an install holds, and what it may do to it. Callers hold :attr:`lock`."""

    def __init__(self, generation: Generation, seed: int, clock: Callable[[], float]) -> None:
        self.generation = generation
        self.clock = clock
        self.folder = Path(tempfile.mkdtemp(prefix="tickiti-"))
        self.close = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        """Deletes all files."""
        self.tickets: dict[int, Ticket] = {}
        """By number."""
        self.by_id: dict[int, Ticket] = {}
        self.responses: dict[int, Response] = {}
        self.attachments: dict[int, Attachment] = {}
        self.mails: list[Mail] = []
        self.tags: list[Tag] = []
        self.queues: dict[str, int] = {"Inbox": 1, "Support": 2}
        self.tracking: set[str] = set()
        """Queues that track resolutions."""
        self.staff: dict[str, str] = {
            SYSTEM: "System",
            "priya.sharma@example.com": "Priya Sharma",
            "tom.hale@example.com": "Tom Hale",
        }
        self.customers: set[str] = set()
        self.blocked: set[str] = set(BLOCKED)
        self.allowed: set[str] = set(ALWAYS_ALLOWED)
        self.keys: dict[str, Key] = {}
        self.deleted_files: list[tuple[str, str, str]] = []
        """Name, SHA-256 and reason of each file that a call deleted."""
        self._random = random.Random(seed)  # noqa: S311 - opens nothing real
        self._last: Counter[str] = Counter()

    def now(self) -> int:
        """Return the time in whole seconds, as Tickiti keeps it."""
        return int(self.clock())

    def next_id(self, kind: str) -> int:
        """Return the next id of a table."""
        self._last[kind] += 1
        return self._last[kind]

    # People

    def add_key(
        self,
        abilities: Iterable[str] = ABILITIES,
        *,
        owner: str = "system",
        role: str = "sysadmin",
        queues: Iterable[str] | None = None,
        manages: bool = True,
    ) -> Key:
        """Make an API key."""
        letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
        secret = "".join(self._random.choices(letters, k=40))
        token = f"{self.next_id('key')}|{secret}{binascii.crc32(secret.encode()):08x}"
        seen = None if queues is None else frozenset(queues)
        key = Key(token, frozenset(abilities), owner, role, seen, manages)
        self.keys[token] = key
        if owner != "system" and role != "customer":
            self.staff.setdefault(owner, owner.partition("@")[0])
        return key

    def mail(self, ticket: Ticket, to: Iterable[str], why: str) -> None:
        """Count mails."""
        at = self.now()
        self.mails += [
            Mail(one, why, ticket.number, ticket.subject, at) for one in dict.fromkeys(to)
        ]

    # Files

    def keep(self, path: Path, sha256: str) -> None:
        """Keep bytes under their hash."""
        path.replace(self.folder / sha256)

    def keep_bytes(self, contents: bytes) -> str:
        """Keep bytes and return their hash."""
        sha256 = hashlib.sha256(contents).hexdigest()
        (self.folder / sha256).write_bytes(contents)
        return sha256

    def stored(self, sha256: str) -> Path | None:
        """Return the path of a stored file, None without one."""
        path = self.folder / sha256
        return path if re.fullmatch(r"[0-9a-f]{64}", sha256) and path.is_file() else None

    def drop_unused(self, *only: str) -> int:
        """Delete stored files that no response uses, of ``only`` these if given; count them."""
        used = {one.sha256 for one in self.attachments.values()}
        names = [one.name for one in self.folder.iterdir() if len(one.name) == 64]
        unused = [name for name in names if name not in used and (not only or name in only)]
        for name in unused:
            (self.folder / name).unlink()
        return len(unused)

    # Tickets

    def find(self, *, number: int | None = None, ticket_id: int | None = None) -> Ticket | None:
        """Return a ticket that is not deleted."""
        found = self.by_id.get(ticket_id or 0) if number is None else self.tickets.get(number)
        return found if found is not None and found.deleted_at is None else None

    def add_ticket(
        self, subject: str, originator: str, *, number: int | None = None, **more: Any
    ) -> Ticket:
        """Add a ticket without any response, mailing nobody."""
        while number is None or number in self.tickets:
            number = self._random.randrange(100_000, 1_000_000)
        now = self.now()
        ticket = Ticket(
            self.next_id("ticket"), number, subject, originator.lower(), now, now, **more
        )
        self.queues.setdefault(ticket.queue, len(self.queues) + 1)
        if originator.lower() not in self.staff:
            self.customers.add(originator.lower())
        self._join(ticket, originator.lower())
        self.tickets[number] = self.by_id[ticket.id] = ticket
        return ticket

    def _join(self, ticket: Ticket, email: str) -> None:
        if email not in ticket.participants:
            ticket.participants.append(email)

    def join(self, ticket: Ticket, email: str) -> None:
        """Make somebody a participant, also one without an account."""
        if email not in self.staff:
            self.customers.add(email)
        self._join(ticket, email)

    def write(
        self,
        ticket: Ticket,
        author: str,
        body: str,
        *,
        internal: bool,
        files: Iterable[dict[str, Any]] = (),
        at: int | None = None,
    ) -> Response:
        """Add a response; its images become files, and its tags notify people."""
        self.join(ticket, author)
        now = self.now() if at is None else at
        response = Response(
            self.next_id("response"),
            ticket.id,
            author,
            internal,
            author in self.staff,
            "",
            now,
            now,
        )
        ticket.responses.append(response)
        self.responses[response.id] = response
        response.html = self.extracted(response, body)
        for one in files:
            self.attach(response, one["name"], one["sha256"])
        ticket.updated_at = now
        self.tag(ticket, response.plain_text)
        return response

    def audit(self, ticket: Ticket, author: str, *lines: str) -> Response:
        """Add a row without a body that tells of changes."""
        response = self.write(ticket, author, "", internal=True)
        response.audit, response.is_audit_only = list(lines), True
        return response

    def attach(
        self, response: Response, name: str, sha256: str, *, inline: bool = False
    ) -> Attachment:
        """Attach a stored file to a response."""
        size = (self.folder / sha256).stat().st_size
        made = Attachment(self.next_id("attachment"), response.id, name, sha256, size, inline)
        self.attachments[made.id] = made
        response.attachments.append(made)
        return made

    def extracted(self, response: Response, body: str) -> str:
        """Attach the images whose bytes are in a body, and return the body with references."""

        def attached(found: re.Match[str]) -> str:
            try:
                contents = binascii.a2b_base64(found[3], strict_mode=True)
            except binascii.Error:
                return found[0]
            kind = found[2].lower().partition("+")[0]
            name = f"image{len(response.attachments) + 1}.{kind}"
            made = self.attach(response, name, self.keep_bytes(contents), inline=True)
            return f"{found[1]}cid:{made.sha256[:16]}@tickiti"

        return _IMAGE.sub(attached, body)

    def tag(self, ticket: Ticket, text: str) -> list[str]:
        """Record the tags of a text, notify those it names, and return what names nobody."""
        strangers = []
        for word in re.findall(r"(?<![\w@])[@#][\w][\w.-]*", text):
            person = self.person(word) if word[0] == "@" else None
            self.tags.append(Tag(ticket.number, word, person))
            if person is not None:
                self.mail(ticket, [person], "tagged")
            elif word[0] == "@":
                strangers.append(word)
        return strangers

    def person(self, word: str) -> str | None:
        """Return whom of the staff an ``@word`` names."""
        named = word[1:].rstrip(".").lower()
        for email, name in self.staff.items():
            if named in {email.partition("@")[0], name.lower().replace(" ", "."), name.lower()}:
                return email
            if named == name.lower().partition(" ")[0]:
                return email
        return None


_IMAGE: Final = re.compile(
    r"(<img\b[^>]*?\bsrc\s*=\s*[\"'])"
    r"data:image/(png|jpe?g|gif|webp|bmp|svg\+xml);base64,([A-Za-z0-9+/=]*)",
    re.IGNORECASE,
)


def plain(body: str) -> str:
    """Return the text of some HTML."""
    broken = re.sub(r"<(br|/p|/div|/tr|/li|/h\d)\b[^>]*>", "\n", body, flags=re.IGNORECASE)
    return html.unescape(re.sub(r"<[^>]*>", "", broken)).strip()


def iso(at: int) -> str:
    """Return a time as the API writes it."""
    return datetime.fromtimestamp(at, UTC).isoformat()


def system_clock() -> float:
    """Return the time."""
    return time.time()
