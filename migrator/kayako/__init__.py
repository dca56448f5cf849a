"""Kayako Classic: everything that knows its REST API.

:class:`migrator.kayako.source.Source` is the room's door; it stands in a module of its own, so
that whoever wants the records only does not load an HTTP client.
"""

from migrator.kayako.records import (
    Attachment,
    Contents,
    Department,
    Post,
    Ticket,
    TicketStatus,
)
from migrator.kayako.settings import KayakoSettings
from migrator.kayako.signing import Credentials
from migrator.kayako.urls import UrlForm

__all__ = [
    "Attachment",
    "Contents",
    "Credentials",
    "Department",
    "KayakoSettings",
    "Post",
    "Ticket",
    "TicketStatus",
    "UrlForm",
]
