"""A Kayako Classic look-alike with switchable faults, for demos, rehearsals and tests."""

from migrator.sandbox.model import Attachment, Helpdesk, Snapshot, Truth
from migrator.sandbox.options import (
    ALL,
    ALL_FAULTS,
    ATTACHMENT_FAULTS,
    GLOBAL_FAULTS,
    HARMLESS_FAULTS,
    IN_ALL,
    TICKET_FAULTS,
    Fault,
    SandboxOptions,
)
from migrator.sandbox.server import SandboxServer

__all__ = [
    "ALL",
    "ALL_FAULTS",
    "ATTACHMENT_FAULTS",
    "GLOBAL_FAULTS",
    "HARMLESS_FAULTS",
    "IN_ALL",
    "TICKET_FAULTS",
    "Attachment",
    "Fault",
    "Helpdesk",
    "SandboxOptions",
    "SandboxServer",
    "Snapshot",
    "Truth",
]
