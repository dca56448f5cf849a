"""Kayako Classic: everything that knows its REST API.

The door of the room is :class:`migrator.sources.kayako.source.KayakoSource`, in a module of its
own, so that whoever wants the records only does not load an HTTP client.
"""

from migrator.sources.base import Attachment, Contents, Department, Post, Ticket, TicketStatus
from migrator.sources.kayako.signing import Credentials, KayakoSettings, UrlForm

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
