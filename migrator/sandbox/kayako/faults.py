"""How each fault changes what the server sends.

Faults of a row itself (names, sizes) are made in build.py. Here are those of the fields that are
written of a row, in :func:`attachment_fields` and :func:`ticket_fields`, those of the contents, in
:func:`contents`, of the reply around them, in :func:`afflict`, and of whole lists, in
:data:`LISTS`.
"""

from __future__ import annotations

import binascii
import re
import sys
from collections.abc import Callable, Container
from dataclasses import replace
from html.entities import codepoint2name
from typing import Final

from migrator.sandbox.kayako.messages import (
    Body,
    Delivery,
    Fields,
    Raw,
    Reply,
    Stream,
    page,
    php_error,
    text,
)
from migrator.sandbox.kayako.model import SHORTENING, Attachment, Ticket, shortened

WARNING_DIV: Final = (
    b'<div style="BACKGROUND: #f8ebeb; FONT: 8pt Verdana; BORDER: 1px solid #ac8c8c;">'
    b'<font color="red">[Warning]: Missing argument 2 for Controller_TicketAttachment::Get() '
    b"(api/class.Controller_TicketAttachment.php:172)</font></div>\n"
)
REMOTE_SENTENCE: Final = (
    b'Unable to locate remote file "attach_8b2vqk1z". Please contact Kayako support for help.\n'
)
TEXT_WARNING: Final = (
    b"\nWarning\nRouter: /Tickets/TicketAttachment\nmail(): Failed to connect to mailserver in "
    b".../class.SWIFT_Mail.php:231\n" + b"=" * 79 + b"\n"
)
_DEPRECATED: Final = (
    b"<br />\n<b>Deprecated</b>:  Required parameter $_ticketPostID follows optional parameter "
    b"$_attachmentStoreStringContainer, which will be an error in one of the next versions of this "
    b"interpreter, as announced in its notes for those who migrate, in "
    b"<b>/var/www/__apps/tickets/models/Attachment/class.SWIFT_Attachment.php</b> on line "
    b"<b>312</b><br />\n"
)
_NOTICE: Final = (
    b"\n<br />\n<b>Notice</b>:  Undefined index: HTTP_REFERER in "
    b"<b>/var/www/__swift/library/class.SWIFT.php</b> on line <b>1187</b><br />\n"
)
_GONE_AWAY: Final = (
    b"\nWarning: mysqli_query(): MySQL server has gone away in "
    b"/var/www/__swift/library/Database/class.SWIFT_Database.php on line 412\n"
)
_STRANGERS: Final = b"".join(
    b"\n<attachment>\n<id><![CDATA[%d]]></id>\n<contents />\n</attachment>" % (10**9 + n)
    for n in range(2000)
)
FIREWALL: Final = page(
    403,
    "403 Forbidden",
    "<h1>Forbidden</h1><p>Blocked by the rules of the web application firewall (951230: SQL error "
    "leakage). If you think this is wrong, quote incident 3f9a1c.</p>",
)
TIMEOUT: Final = page(504, "504 Gateway Time-out", "<h1>504</h1>")
REFUSED: Final = frozenset({"refused_row", "refused_ticket"})
"""Faults with which the firewall refuses pages."""
MEMORY: Final = (
    "\nFatal error: Allowed memory size of 134217728 bytes exhausted (tried to allocate 20971520 "
    "bytes) in /var/www/__swift/library/XML/class.SWIFT_XML.php on line 184\n"
)


# Fields


def attachment_fields(row: Attachment, fault: str | None, *, whole: bool) -> Fields:
    """Return the fields that a fault changes in an attachment, ``whole`` with its contents."""
    if fault == "size_contradiction" and whole:
        return {"filesize": len(shortened(row.source.read()))}
    if fault == "control_name":  # old versions of the writer let control bytes through
        return {"filename": Raw(_cdata(row.name))}
    if fault == "entity_name":
        return {"filename": _entities(row.name.decode())}
    return {
        "odd_row": Fields(dateline="n/a"),
        "odd_ids": Fields(ticketid=-(1 << 63), ticketpostid=0),
    }.get(fault or "", {})


def ticket_fields(ticket: Ticket, fault: str | None) -> Fields:
    """Return the fields that a fault changes in a ticket."""
    if fault == "entity_subject":
        return {"subject": _entities(ticket.subject)}
    return {
        "odd_date": Fields(creationtime="2010-03-12 10:43:00"),
        "odd_status": Fields(statusid="0x1"),
        "odd_activity": Fields(lastactivity="9" * 20),
    }.get(fault or "", {})


def note_fields(attributes: dict[str, str | int], switches: Container[str]) -> dict[str, str | int]:
    """Return the attributes of a note, as the fault changes them."""
    odd = {"creationdate": "2010-03-12 10:43:00", "billdate": "", "notecolor": "x"}
    found = odd if "odd_notes" in switches else {}
    return {**attributes, **{name: value for name, value in found.items() if name in attributes}}


def note_text(said: str, switches: Container[str]) -> str | Raw:
    """Return the text of a note, or as the fault changes it."""
    return _entities(said) if "entity_notes" in switches else said


def _entities(text: str) -> Raw:
    """Return a text as in HTML, with entities that XML without a DTD does not know."""
    names = {number: f"&{name};" for number, name in codepoint2name.items()}
    return Raw(text.translate(names).encode())


# Contents


def contents(read: Callable[[], bytes], plain: Stream, fault: str | None) -> Raw | Stream:
    """Return the text between the contents tags: ``plain``, or as the fault changes it."""
    if fault in {"missing_file", "remote_sentence"}:
        return Raw(b"")
    make = _ENCODED.get(fault or "")
    return Raw(make(read())) if make else plain


def field_contents(row: Attachment, effect: str | None, nth: int, *, twice: bool) -> Raw | Stream:
    """Return the text of a file in a custom field on the ``nth`` request for it."""
    if not twice and effect not in {"missing_file", "damaged", "short_once"}:
        return row.source.base64(row.size)
    if effect == "missing_file":
        return Raw(b"")
    data = row.source.read()
    if effect == "short_once" and nth == 1:
        data = shortened(data)
    encoded = _base64(_base64(data)) if twice else _base64(data)
    # Of four characters one is left over, which makes no byte.
    return Raw(_cdata(encoded[:-3] if effect == "damaged" else encoded))


def _base64(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False)


def _cdata(encoded: bytes) -> bytes:
    return b"<![CDATA[" + encoded + b"]]>"


def _lines(encoded: bytes, width: int, end: bytes) -> bytes:
    return b"".join(encoded[at : at + width] + end for at in range(0, len(encoded), width))


_ENCODED: Final[dict[str, Callable[[bytes], bytes]]] = {
    **dict.fromkeys(SHORTENING, lambda data: _cdata(_base64(shortened(data)))),
    "wrapped_base64": lambda data: _cdata(_lines(_base64(data), 76, b"\r\n")),
    # Dash and exclamation mark are in no alphabet that PHP knows: it skips them.
    "lenient_base64": lambda data: _cdata(_lines(_base64(data), 1001, b"-!")),
    "no_cdata": _base64,
    "seed_shape": lambda data: b"<![CDATA[" + _base64(data) + b"]]]]><![CDATA[>",
}


# Lists


def around_error(reply: Reply) -> Reply:
    """Return the text of an error with a notice of PHP."""
    said = reply.status >= 400 and len(reply.body)
    return reply.noisy(_DEPRECATED, _NOTICE) if said else reply


def namespaced(document: bytes) -> bytes:
    """Put the whole document into a default namespace."""
    return re.sub(rb"\n<(\w+)>", rb'\n<\1 xmlns="http://www.w3.org/1999/xhtml">', document, count=1)


def _tags(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Change the name in every tag, and leave the values."""

    def changed(document: bytes) -> bytes:
        pieces = re.split(rb"(<!\[CDATA\[.*?\]\]>|<\?.*?\?>)", document, flags=re.DOTALL)
        names = re.compile(rb"(?<=<)(/?)(\w+)")
        pieces[::2] = [
            names.sub(lambda tag: tag[1] + change(tag[2]), piece) for piece in pieces[::2]
        ]
        return b"".join(pieces)

    return changed


def _inside(
    change: Callable[[bytes], bytes], root: bytes = b"attachments"
) -> Callable[[bytes], bytes]:
    """Change all between the tags of the root; leave other documents unchanged."""
    opened, closed = b"\n<%s>" % root, b"\n</%s>" % root

    def changed(document: bytes) -> bytes:
        head, found, rest = document.partition(opened)
        rows, _, tail = rest.rpartition(closed)
        return head + opened + change(rows) + closed + tail if found else document

    return changed


def _half(row: bytes) -> Callable[[bytes], bytes]:
    """Return the first half of the rows, followed by PHP's error."""
    begin = re.compile(rb"\n<%s[ >]" % row)

    def kept(rows: bytes) -> bytes:
        starts = [found.start() for found in begin.finditer(rows)]
        return rows[: starts[len(starts) // 2] if starts else 0] + _GONE_AWAY

    return kept


def _prefixed(document: bytes) -> bytes:
    tagged = _tags(lambda name: b"k:" + name)(document)
    return tagged.replace(b"<k:attachments>", b'<k:attachments xmlns:k="urn:kayako">', 1)


def _closed(document: bytes) -> bytes:
    return document.replace(b"\n<attachments>", b"\n<attachments />", 1).removesuffix(
        b"\n</attachments>"
    )


LISTS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "list_namespace": namespaced,
    "list_prefix": _prefixed,
    "list_capitals": _tags(bytes.upper),
    "list_error": _inside(
        lambda _: b"\n<error>\n<message><![CDATA[Unable to load attachments]]></message>\n</error>"
    ),
    "list_text": _inside(lambda _: _GONE_AWAY),
    "list_half": _inside(_half(b"attachment")),
    "list_div": _inside(lambda _: b"\n" + WARNING_DIV.rstrip()),
    "list_deeper": _inside(lambda rows: b"\n<items>" + rows + b"\n</items>"),
    "list_cdata": _inside(lambda rows: _cdata(rows.replace(b"]]>", b"]]]]><![CDATA[>"))),
    "list_closed": _closed,
}
"""Changes of the list of a ticket's attachments, once."""

_HALVED: Final[dict[str, dict[str, tuple[bytes, bytes]]]] = {
    "half_statuses": {"TicketStatus": (b"ticketstatuses", b"ticketstatus")},
    "half_departments": {"Department": (b"departments", b"department")},
    "half_names": {
        "TicketPriority": (b"ticketpriorities", b"ticketpriority"),
        "TicketType": (b"tickettypes", b"tickettype"),
        "Staff": (b"staffusers", b"staff"),
        "StaffGroup": (b"staffgroups", b"staffgroup"),
        "User": (b"users", b"user"),
        "UserGroup": (b"usergroups", b"usergroup"),
        "UserOrganization": (b"userorganizations", b"userorganization"),
    },
    "half_fields": {
        "TicketCustomField": (b"customfields", b"group"),
        "CustomField": (b"customfields", b"customfield"),
    },
    "half_guides": {
        "Article": (b"kbarticles", b"kbarticle"),
        "Step": (b"troubleshootersteps", b"troubleshooterstep"),
    },
}
"""Root and row of the lists of controllers that a fault cuts in two."""


def halved(controller: str, happens: Callable[[str], bool], reply: Reply) -> Reply:
    """Return half of a list of a controller, if a fault that cuts it ``happens``."""
    for name, lists in _HALVED.items():
        if controller in lists and happens(name):
            root, row = lists[controller]
            return reply.rewritten(_inside(_half(row), root))
    return reply


# Replies


def afflict(reply: Reply, fault: str | None, nth: int) -> Reply:
    """Return the reply as the fault changes it on the ``nth`` request for the attachment."""
    if fault not in _REPLIES:
        return reply
    times, make = _REPLIES[fault]
    return make(reply) if nth <= times else reply


def _instead(broken: Reply) -> Callable[[Reply], Reply]:
    """Send another reply."""
    return lambda _: broken


def _noisy(before: bytes = b"", after: bytes = b"") -> Callable[[Reply], Reply]:
    """Send the reply with text around it."""
    return lambda reply: reply.noisy(before, after)


def _by(delivery: Delivery) -> Callable[[Reply], Reply]:
    """Send the reply in another way."""
    return lambda reply: replace(reply, delivery=delivery)


def _busy(status: int, title: str, seconds: int) -> Reply:
    return replace(page(status, title, title), headers=(("Retry-After", str(seconds)),))


_ALWAYS: Final = sys.maxsize
_UNREADABLE: Final = (
    "\nWarning\nRouter: /Tickets/TicketCustomField\nfile_get_contents(./__swift/files/file_9k): "
    "failed to open stream: Permission denied in .../class.SWIFT_FileManager.php:388\n"
)
_EMPTY_500: Final = Reply(Body(b""), 500)
_EXCEPTION: Final = php_error(
    "/Tickets/TicketAttachment",
    "Uncaught Exception",
    "Unable to load attachment chunk in .../class.SWIFT_Attachment.php:418",
)
SIGN_IN: Final = page(
    200, "Login", '<form action="/staff/">Username <input name="username"></form>'
)
_REPLIES: Final[dict[str, tuple[int, Callable[[Reply], Reply]]]] = {
    "remote_sentence": (_ALWAYS, _noisy(before=REMOTE_SENTENCE)),
    "error_500": (_ALWAYS, _instead(_EMPTY_500)),
    "flaky_500": (2, _instead(_EMPTY_500)),
    "gateway": (1, _instead(page(502, "502 Bad Gateway", "<h1>502 Bad Gateway</h1>"))),
    "timeout_504": (1, _instead(TIMEOUT)),
    "throttle": (1, _instead(_busy(429, "Too Many Requests", 1))),
    "busy_503": (1, _instead(_busy(503, "Service Unavailable", 0))),
    "memory": (_ALWAYS, _instead(text(200, MEMORY))),
    "not_xml": (_ALWAYS, _instead(_EXCEPTION)),
    "html_page": (_ALWAYS, _instead(SIGN_IN)),
    "unreadable": (_ALWAYS, _instead(text(200, _UNREADABLE))),
    "refused": (_ALWAYS, _instead(FIREWALL)),
    "not_found": (_ALWAYS, _instead(page(404, "404 Not Found", "<h1>Not Found</h1>"))),
    "empty": (_ALWAYS, lambda reply: replace(reply, body=Body(b""))),
    "drips": (_ALWAYS, _by(Delivery.DRIPS)),
    "cut_once": (1, _by(Delivery.CUT)),
    "cut_silent": (1, _by(Delivery.SILENT)),
    "cut_always": (_ALWAYS, _by(Delivery.SILENT)),
    "chunked": (_ALWAYS, _by(Delivery.CHUNKED)),
    "slow": (_ALWAYS, _by(Delivery.SLOW)),
    "warning_before": (_ALWAYS, _noisy(before=WARNING_DIV)),
    "text_after": (_ALWAYS, _noisy(after=TEXT_WARNING)),
    "many_contents": (
        _ALWAYS,
        lambda reply: reply.rewritten(_inside(lambda rows: rows + _STRANGERS)),
    ),
}
"""The change of the reply, and the number of requests for one attachment that it hits."""
