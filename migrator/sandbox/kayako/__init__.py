"""A Kayako Classic look-alike with switchable faults, for demos, rehearsals and tests."""

from migrator.sandbox.kayako.model import Attachment, Helpdesk, Snapshot, Truth
from migrator.sandbox.kayako.options import (
    ALL,
    ALL_FAULTS,
    ATTACHMENT_FAULTS,
    FAULTS_OF_KIND,
    FILE_FAULTS,
    GLOBAL_FAULTS,
    HARMLESS_FAULTS,
    IN_ALL,
    KIND_FAULTS,
    TICKET_FAULTS,
    Fault,
    SandboxOptions,
)
from migrator.sandbox.kayako.server import SandboxServer

__all__ = [
    "ALL",
    "ALL_FAULTS",
    "ATTACHMENT_FAULTS",
    "FAULTS_OF_KIND",
    "FILE_FAULTS",
    "GLOBAL_FAULTS",
    "HARMLESS_FAULTS",
    "IN_ALL",
    "KIND_FAULTS",
    "TICKET_FAULTS",
    "Attachment",
    "Fault",
    "Helpdesk",
    "SandboxOptions",
    "SandboxServer",
    "Snapshot",
    "Truth",
]
