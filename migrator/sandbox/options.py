"""What a sandbox is made of: its size, its seed and its faults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ALL: Final = "all"
"""Stands for every attachment fault in :attr:`SandboxOptions.faults`."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong with an attachment, and what a perfect pull makes of it."""

    summary: str
    state: str = "stored"
    problem: str | None = None


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
}
"""Faults of single attachments, spread over them by the seed."""

ROW_FAULTS: Final = frozenset(
    {"wrong_filesize", "empty_file"}
    | {name for name in ATTACHMENT_FAULTS if name.endswith("_name")}
)
"""Those that are in the row itself and can therefore not be turned off."""

GLOBAL_FAULTS: Final[dict[str, str]] = {
    "auth_fail": "every signature is refused",
    "api_off": "the REST API is switched off: 403 with an empty body",
    "no_count": "an old version without GetTicketCount",
    "no_paging": "an old version that ignores count and start",
    "no_sort": "an old version that lists tickets by id, whatever sort is asked for",
    "lying_marks": "one ticket in twenty is marked wrongly as having attachments, or as not",
    "random_order": "attachments are listed in no order",
    "posts_desc": "posts are listed newest first",
    "doc_shape": "TicketPost/ListAll answers as documented, not as implemented",
    "down": "every request ends in 503",
    "stray_warning": "an HTML warning before every list",
    "list_500": "the attachment list of one ticket fails with 500, always",
    "drift": "a ticket goes to the trash while the pages are walked",
}
"""Faults of the whole helpdesk; not part of ``all``."""

ALL_FAULTS: Final[dict[str, str]] = {
    **{name: fault.summary for name, fault in ATTACHMENT_FAULTS.items()},
    **GLOBAL_FAULTS,
}
"""Every switch with one line about it."""


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """The whole recipe: equal options make equal helpdesks, byte for byte.

    ``tickets`` counts those alive or in the trash. ``faults`` are names of ``ALL_FAULTS``, or
    ``all`` for every attachment fault; from 40 tickets on each hits at least one attachment.
    ``latency`` is waited before each reply, in seconds. ``big`` adds one attachment per size,
    in bytes. Raises ValueError for an unknown fault, a negative number, or ``big`` without tickets.
    """

    seed: int = 1
    tickets: int = 40
    faults: frozenset[str] = frozenset()
    latency: float = 0.0
    big: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        unknown = self.faults - ALL_FAULTS.keys() - {ALL}
        if unknown:
            raise ValueError(f"unknown faults: {', '.join(sorted(unknown))}")
        if min(self.tickets, self.latency, *self.big) < 0:
            raise ValueError("tickets, latency and big cannot be negative")
        if self.big and not self.tickets:
            raise ValueError("big attachments need at least one ticket")

    @property
    def attachment_faults(self) -> tuple[str, ...]:
        """The chosen attachment faults, in the order of the table."""
        return tuple(n for n in ATTACHMENT_FAULTS if n in self.faults or ALL in self.faults)
