"""The options of a sandbox: its size, its seed and its faults."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

ALL: Final = "all"
"""Stands for every fault of :data:`IN_ALL` in :attr:`SandboxOptions.faults`."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of an attachment or a ticket, and the result of a perfect pull.

    ``state`` and ``problem`` are those of the attachment. With ``gap`` the pull reports the ticket,
    its row or its fields as not seen; with ``hidden`` it cannot learn of the files in it either.
    A ``lasting`` one is left out of ``all``, as it takes minutes or many megabytes.
    """

    summary: str
    state: str = "stored"
    problem: str | None = None
    gap: bool = False
    hidden: bool = False
    lasting: bool = False

    @property
    def harmless(self) -> bool:
        """Whether a perfect pull is complete in spite of it."""
        return self.state == "stored" and not self.gap


ATTACHMENT_FAULTS: Final[dict[str, Fault]] = {
    "missing_file": Fault("the file is lost: empty contents", "missing", "source_lost_file"),
    "remote_sentence": Fault(
        "a sentence about a remote file, then empty contents", "missing", "source_lost_file"
    ),
    "short_contents": Fault("a chunk of the file is lost", problem="size_mismatch"),
    "wrong_filesize": Fault("the row names a wrong size", problem="size_mismatch"),
    "error_500": Fault("500 with an empty body, always", "failed", "server_error"),
    "flaky_500": Fault("500 twice, then fine"),
    "gateway": Fault("502 of a proxy once, then fine"),
    "timeout_504": Fault("504 of a proxy once, then fine"),
    "throttle": Fault("429 with Retry-After once, then fine"),
    "busy_503": Fault("503 with Retry-After once, then fine"),
    "memory": Fault("PHP runs out of memory, status 200", "failed", "memory_exhausted"),
    "not_xml": Fault("text of an uncaught exception, status 200", "failed", "not_xml"),
    "html_page": Fault("an HTML login page, status 200", "failed", "not_xml"),
    "cut_once": Fault("connection dropped before Content-Length is reached, once"),
    "cut_silent": Fault("connection closed in mid-document without Content-Length, once"),
    "cut_always": Fault("connection closed in mid-document, always", "failed", "truncated"),
    "chunked": Fault("chunked transfer in odd pieces"),
    "slow": Fault("the body dribbles for about a second"),
    "warning_before": Fault("an HTML warning before the XML", problem="noise_around_xml"),
    "text_after": Fault("a text warning after the XML", problem="noise_around_xml"),
    "latin1_name": Fault("a Latin-1 byte in the name", problem="repaired_name"),
    "control_name": Fault("a control byte in the name", problem="repaired_name"),
    "fffe_name": Fault("U+FFFE in the name", problem="repaired_name"),
    "newline_name": Fault("a line break in the name", problem="repaired_name"),
    "cdata_name": Fault("the end of a CDATA section in the name"),
    "wrapped_base64": Fault("base64 in lines of 76 characters"),
    "lenient_base64": Fault("characters in the base64 that PHP skips", problem="lenient_base64"),
    "no_cdata": Fault("contents without CDATA"),
    "empty_file": Fault("a file of zero bytes"),
    "deleted_between": Fault("deleted between list and fetch", "gone", "not_found"),
    "moved_between": Fault("its ticket is merged between list and fetch"),
    "seed_shape": Fault("base64 closed as on the documentation page"),
    "size_contradiction": Fault(
        "the list names the size, the reply with the contents a smaller one, and sends that",
        problem="size_mismatch",
    ),
    "entity_name": Fault("HTML entities in the name, outside CDATA"),
    "odd_row": Fault("the row has the date n/a and the size -5", problem="odd_number"),
    "odd_ids": Fault("the row names ticket -2^63 and post 0"),
    "many_contents": Fault(
        "the reply holds two thousand attachments", "failed", "unexpected_reply"
    ),
}
"""Faults of single attachments, spread over them by the seed."""

TICKET_FAULTS: Final[dict[str, Fault]] = {
    "foreign_list": Fault("the list of attachments is another ticket's, once"),
    "foreign_ticket": Fault("asked for by its id, the ticket is another one, once"),
    "list_namespace": Fault("the list has a default namespace, once"),
    "list_prefix": Fault("the tags of the list have a prefix, once"),
    "list_capitals": Fault("the tags of the list are in upper case, once"),
    "list_error": Fault("an error element instead of rows, once"),
    "list_text": Fault("PHP's warning instead of rows, once"),
    "list_half": Fault("half of the rows, then PHP's warning, once"),
    "list_div": Fault("an HTML warning instead of rows, once"),
    "list_deeper": Fault("the rows of the list stand one level deeper, once"),
    "list_cdata": Fault("the rows of the list are text, once"),
    "list_closed": Fault("the list is closed before its rows, once"),
    "odd_date": Fault("creationtime is a date in words"),
    "odd_status": Fault("statusid is 0x1"),
    "odd_activity": Fault("lastactivity has twenty digits"),
    "entity_subject": Fault("HTML entities in the subject, outside CDATA"),
    "refused_row": Fault(
        "a firewall refuses every page of tickets that it is on, but not the ticket", gap=True
    ),
    "refused_ticket": Fault(
        "a firewall refuses every reply with its subject in it", gap=True, hidden=True
    ),
    "foreign_list_always": Fault(
        "the list of attachments is another ticket's, always", gap=True, hidden=True
    ),
}
"""Faults of single tickets that have attachments, those that leave gaps last."""

_DRIPS: Final = Fault("a byte a second", "failed", "unreachable", lasting=True)
_FIREWALL: Final = Fault("a firewall refuses it, always", "failed", "bad_request")


def _unseen(fault: Fault) -> Fault:
    """Return a fault that costs the whole reply in which the file would be."""
    return replace(fault, gap=True, hidden=True)


def _named(kind: str, *like: str, **own: Fault) -> dict[str, Fault]:
    """Return the faults of a kind, some of them as those of attachments, named for the kind."""
    faults = {**{name: ATTACHMENT_FAULTS[name] for name in like}, **own}
    return {f"{kind}_{name}": fault for name, fault in faults.items()}


_GUIDES: Final = (
    *("missing_file", "remote_sentence", "short_contents", "error_500", "flaky_500", "memory"),
    *("cut_once", "slow", "lenient_base64", "empty_file", "latin1_name"),
)
_FOREIGN: Final = Fault("the list of its attachments is another one's, once")

KIND_FAULTS: Final[dict[str, dict[str, Fault]]] = {
    "customfield": _named(
        "customfield",
        *("flaky_500", "cut_once", "slow", "control_name"),
        error_500=_unseen(ATTACHMENT_FAULTS["error_500"]),
        memory=_unseen(ATTACHMENT_FAULTS["memory"]),
        missing_file=Fault("a name without contents", "missing", "source_lost_file"),
        nameless=Fault("contents without a name"),
        unreadable=_unseen(
            Fault("PHP's warning instead of all fields, always", "failed", "not_xml")
        ),
        damaged=Fault("base64 that ends within a byte, always", "failed", "bad_base64"),
        short_once=Fault("two thirds of the file, once"),
        foreign_reply=Fault("the fields of another ticket, once"),
        encoded_file=Fault("a file that is base64 itself"),
        refused=_unseen(_FIREWALL),
        drips=_unseen(_DRIPS),
        oversize=Fault("more than ten megabytes of base64", lasting=True),
    ),
    "article": _named("article", *_GUIDES, refused=_FIREWALL, foreign_list=_FOREIGN, drips=_DRIPS),
    "step": _named("step", *_GUIDES, refused=_FIREWALL, foreign_list=_FOREIGN, drips=_DRIPS),
    "linked": _named(
        "linked",
        *("error_500", "flaky_500", "cut_once", "slow"),
        not_found=Fault("404 of the web server", "gone", "not_found"),
        html_page=Fault("an HTML page, status 200", "missing", "source_lost_file"),
        empty=Fault("no bytes, status 200", "missing", "source_lost_file"),
        moved=Fault("301 to another path of the same host"),
        moved_foreign=Fault("302 to another host", "failed", "bad_request"),
        login=Fault("302 to the page for signing in", "failed", "bad_request"),
        loop=Fault("302 to itself", "failed", "bad_request"),
        oversize=Fault("an image of 128 MiB", "failed", "too_large"),
        damaged=Fault("bytes that its name does not fit", problem="hash_mismatch"),
        refused=_FIREWALL,
        drips=_DRIPS,
    ),
}
"""Faults of other files than those of posts, by their kind: each makes a file of its own."""

FILE_FAULTS: Final[dict[str, Fault]] = {
    **ATTACHMENT_FAULTS,
    **{name: fault for faults in KIND_FAULTS.values() for name, fault in faults.items()},
}
"""Faults of files of every kind."""

ROW_FAULTS: Final = frozenset(
    name
    for name in FILE_FAULTS
    if name.endswith(
        ("_name", "wrong_filesize", "empty_file", "odd_row", "encoded_file", "_damaged", "oversize")
    )
) - {"customfield_damaged", "linked_oversize"}
"""Faults of the row itself, which cannot be switched off."""

GLOBAL_FAULTS: Final[dict[str, str]] = {
    "repeated_page": "a page of tickets is the first page again, once for each order",
    "page_namespace": "a page of tickets has a default namespace, once for each order",
    "half_statuses": "half of the ticket statuses, then PHP's warning, once",
    "half_departments": "half of the departments, then PHP's warning, once",
    "half_names": "half of the staff, users, priorities and the like, then a warning, once each",
    "half_fields": "half of the groups of a ticket's custom fields, then a warning, once each",
    "half_guides": "half of the articles and of the steps, then PHP's warning, once each",
    "odd_notes": "notes have a date in words, or none, and a color that is no number",
    "entity_notes": "HTML entities in notes, outside CDATA",
    "lost_answer": "what is written, changed or deleted is so, but a 504 says it, once each",
    "wrong_count": "the number of tickets is that of others, then of all with the trash, once each",
    "noisy_errors": "PHP's deprecations stand around the text of every error",
    "auth_fail": "every signature is refused",
    "api_off": "the REST API is switched off: 403 with an empty body",
    "no_count": "an old version without GetTicketCount",
    "no_paging": "an old version that ignores count and start",
    "no_sort": "an old version that lists tickets by id, whatever sort is asked for",
    "lying_marks": "one ticket in twenty is marked wrongly as having attachments, or as not",
    "random_order": "attachments are listed in no order",
    "posts_desc": "posts are listed newest first",
    "old_posts": "an old version: posts numbered by ticket, no privacy, untyped time tracks",
    "doc_shape": "TicketPost/ListAll answers as documented, not as implemented",
    "down": "every request ends in 503",
    "stray_warning": "an HTML warning before every list",
    "list_500": "the attachment list of one ticket fails with 500, always",
    "drift": "a ticket goes to the trash while the pages are walked",
    "list_empty": "the attachment list of one ticket is empty, once, though its post has some",
    "short_queries": "values of more than 512 bytes are dropped from queries, as by Suhosin",
    "double_base64": "files in custom fields are encoded twice",
    "old_fields": "an old version: custom fields with fewer attributes, encoded twice",
    "no_fields": "an old version without calls for custom fields",
    "no_guides": "an old version without calls for knowledge base and troubleshooter",
}
"""Faults of the whole helpdesk."""

_GLOBAL_IN_ALL: Final = frozenset(
    {
        *("repeated_page", "page_namespace", "wrong_count", "noisy_errors", "entity_notes"),
        *("half_statuses", "half_departments", "half_names", "half_guides"),
    }
)

ALL_FAULTS: Final[dict[str, str]] = {
    **{name: fault.summary for name, fault in {**FILE_FAULTS, **TICKET_FAULTS}.items()},
    **GLOBAL_FAULTS,
}
"""Every switch with one line about it."""

IN_ALL: Final = frozenset({*FILE_FAULTS, *TICKET_FAULTS, *_GLOBAL_IN_ALL}) - {
    name for name, fault in FILE_FAULTS.items() if fault.lasting
}
"""The faults in ``all``. Other faults of the whole helpdesk would hide some of these."""

FAULTS_OF_KIND: Final[dict[str, frozenset[str]]] = {
    kind: IN_ALL & faults.keys()
    for kind, faults in {"post": ATTACHMENT_FAULTS, **KIND_FAULTS}.items()
}
"""The faults in ``all`` of files of each kind."""

HARMLESS_FAULTS: Final = IN_ALL - {
    name for name, fault in {**FILE_FAULTS, **TICKET_FAULTS}.items() if not fault.harmless
}
"""The faults of ``all`` with which a perfect pull is complete."""

FEWEST_DEPARTMENTS: Final = 4
"""The fewest departments with tickets of a helpdesk."""
FEWEST_USERS: Final = 9
"""The fewest users of a helpdesk."""


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """All options of a sandbox: equal options give equal helpdesks, byte for byte.

    ``tickets`` counts those alive or in the trash. ``faults`` are names of ``ALL_FAULTS``, ``all``
    for those of ``IN_ALL``, or a kind of files for those of it in ``all``; from 40 tickets on each
    hits at least one attachment or ticket. ``latency`` is waited before each reply, in seconds.
    ``big`` adds one attachment per size, in bytes. ``departments`` counts those that have tickets.

    ``notes`` counts those of each closed ticket, ``field_files`` the files in custom fields,
    ``articles`` and ``steps`` those of the knowledge base and the troubleshooter, ``links`` the
    files that texts link to. A chosen fault of such a kind adds one more, unless there are none.

    Raises ValueError for an unknown fault, a negative number, ``big`` without tickets, or too few
    departments or users.
    """

    seed: int = 1
    tickets: int = 40
    faults: frozenset[str] = frozenset()
    latency: float = 0.0
    big: tuple[int, ...] = ()
    departments: int = FEWEST_DEPARTMENTS
    users: int = FEWEST_USERS
    notes: int = 2
    field_files: int = 6
    articles: int = 6
    steps: int = 4
    links: int = 6

    def __post_init__(self) -> None:
        """Check that such a helpdesk can be built."""
        unknown = self.faults - ALL_FAULTS.keys() - FAULTS_OF_KIND.keys() - {ALL}
        if unknown:
            raise ValueError(f"unknown faults: {', '.join(sorted(unknown))}")
        amounts = (self.notes, self.field_files, self.articles, self.steps, self.links)
        if min(self.tickets, self.latency, *self.big, *amounts) < 0:
            raise ValueError("tickets, latency, big and other amounts cannot be negative")
        if self.big and not self.tickets:
            raise ValueError("big attachments need at least one ticket")
        if self.departments < FEWEST_DEPARTMENTS:
            raise ValueError(f"there are at least {FEWEST_DEPARTMENTS} departments with tickets")
        if self.users < FEWEST_USERS:
            raise ValueError(f"there are at least {FEWEST_USERS} users")

    @property
    def chosen(self) -> frozenset[str]:
        """The names of all faults that are chosen, those that ``all`` and kinds stand for too."""
        many = {**FAULTS_OF_KIND, ALL: IN_ALL}
        single = self.faults - many.keys()
        return single.union(*(many[name] for name in self.faults & many.keys()))

    @property
    def attachment_faults(self) -> tuple[str, ...]:
        """The chosen attachment faults, in the order of the table."""
        return tuple(name for name in ATTACHMENT_FAULTS if name in self.chosen)

    def faults_of(self, kind: str) -> tuple[str, ...]:
        """Return the chosen faults of files of another kind, in the order of the table."""
        return tuple(name for name in KIND_FAULTS[kind] if name in self.chosen)

    @property
    def ticket_faults(self) -> tuple[str, ...]:
        """The chosen ticket faults, in the order of the table."""
        return tuple(name for name in TICKET_FAULTS if name in self.chosen)
