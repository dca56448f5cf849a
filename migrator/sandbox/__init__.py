"""A Kayako Classic look-alike with switchable faults, for demos, rehearsals and tests."""

from migrator.sandbox.model import Attachment, Helpdesk, Truth
from migrator.sandbox.options import (
    ALL,
    ALL_FAULTS,
    ATTACHMENT_FAULTS,
    GLOBAL_FAULTS,
    Fault,
    SandboxOptions,
)
from migrator.sandbox.server import SandboxServer

__all__ = [
    "ALL",
    "ALL_FAULTS",
    "ATTACHMENT_FAULTS",
    "GLOBAL_FAULTS",
    "Attachment",
    "Fault",
    "Helpdesk",
    "SandboxOptions",
    "SandboxServer",
    "Truth",
]
