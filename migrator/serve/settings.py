"""What the operator of the endpoint may choose.

Which file types may be downloaded: always, after a confirmation, or never.

Tickiti keeps explicit rules by extension only; a type without a rule is allowed subject to
review. A renamed file is judged by its name, as Tickiti does.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from migrator.archive import extension_of
from migrator.archive.records import Row, Rule, State, TicketHeader


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """What the operator may choose.

    ``max_download`` is in bytes of the file itself; a file of exactly that size is served, a
    larger one in ranges only.
    ``posts_follow`` says that runs read posts after the attachments that name them: until then
    they are in no query, because a post that is read may move in the order of time, and an
    exporter would meet it twice or never.
    ``serve_deleted`` serves files and tickets that the source no longer has.
    """

    max_download: int = 25 * 1024 * 1024
    serve_deleted: bool = False
    posts_follow: bool = False

    def serves(self, row: Row) -> bool:
        """Tell whether the bytes of an attachment are for clients at all."""
        return row.state is State.STORED or (row.state is State.DELETED and self.serve_deleted)

    def shows(self, ticket: TicketHeader) -> bool:
        """Tell whether a ticket is for clients at all."""
        return ticket.deleted_at is None or self.serve_deleted


class Gate(enum.Enum):
    """What the rules say about a file."""

    ALLOW = "allow"
    BLOCK = "block"
    REVIEW = "review"


def gate(rules: Mapping[str, Rule], filename: str) -> Gate:
    """Return what the rules, by extension, say about a file of this name."""
    rule = rules.get(extension_of(filename))
    return Gate(rule.verdict) if rule else Gate.REVIEW
