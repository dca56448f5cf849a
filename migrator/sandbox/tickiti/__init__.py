"""A Tickiti look-alike with its writing calls and switchable faults, for rehearsals and tests."""

from migrator.sandbox.tickiti.faults import (
    ALL,
    FAULTS,
    HARMLESS,
    HARMLESS_FAULTS,
    IN_ALL,
    Faults,
)
from migrator.sandbox.tickiti.model import Attachment, Key, Limits, Mail, Response, Ticket
from migrator.sandbox.tickiti.server import Tickiti

__all__ = [
    "ALL",
    "FAULTS",
    "HARMLESS",
    "HARMLESS_FAULTS",
    "IN_ALL",
    "Attachment",
    "Faults",
    "Key",
    "Limits",
    "Mail",
    "Response",
    "Ticket",
    "Tickiti",
]
