"""How each attachment fault changes the document or the reply it comes in.

Faults of a row itself (names, sizes) are made in build.py; here are those of the contents, in
:func:`contents`, and those of the reply around them, in :func:`afflict`.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from migrator.sandbox.model import shortened
from migrator.sandbox.reply import Delivery, Reply, page, php_error, text
from migrator.sandbox.xmlwriter import Body, Raw, Stream, XmlWriter

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
MEMORY: Final = (
    "\nFatal error: Allowed memory size of 134217728 bytes exhausted (tried to allocate 20971520 "
    "bytes) in /var/www/__swift/library/XML/class.SWIFT_XML.php on line 184\n"
)


def contents(read: Callable[[], bytes], plain: Stream, fault: str | None) -> Raw | Stream:
    """Return what stands between the contents tags: ``plain``, or what the fault makes of it."""
    if fault in {"missing_file", "remote_sentence"}:
        return Raw(b"")
    make = _ENCODED.get(fault or "")
    return Raw(make(read())) if make else plain


def _base64(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False)


def _cdata(encoded: bytes) -> bytes:
    return b"<![CDATA[" + encoded + b"]]>"


def _lines(encoded: bytes, width: int, end: bytes) -> bytes:
    return b"".join(encoded[at : at + width] + end for at in range(0, len(encoded), width))


_ENCODED: Final[dict[str, Callable[[bytes], bytes]]] = {
    "short_contents": lambda data: _cdata(_base64(shortened(data))),
    "wrapped_base64": lambda data: _cdata(_lines(_base64(data), 76, b"\r\n")),
    # Dash and exclamation mark are in no alphabet that PHP knows; it skips them.
    "lenient_base64": lambda data: _cdata(_lines(_base64(data), 1001, b"-!")),
    "no_cdata": _base64,
    "seed_shape": lambda data: b"<![CDATA[" + _base64(data) + b"]]]]><![CDATA[>",
}


def afflict(reply: Reply, fault: str | None, nth: int, path: str) -> Reply:
    """Return the reply as the fault lets it out on the ``nth`` request for the attachment."""
    make = _REPLIES.get(fault or "")
    return make(reply, nth, path) if make else reply


def _until(count: int, broken: Reply) -> Callable[[Reply, int, str], Reply]:
    """Break the first ``count`` requests."""
    return lambda reply, nth, path: broken if nth <= count else reply


def _deliver(delivery: Delivery, count: int | None = None) -> Callable[[Reply, int, str], Reply]:
    """Send the first ``count`` replies (None: all) in another way."""
    return lambda reply, nth, path: (
        replace(reply, delivery=delivery) if count is None or nth <= count else reply
    )


def _exception(reply: Reply, nth: int, path: str) -> Reply:
    return php_error(
        path,
        "Uncaught Exception",
        "Unable to load attachment chunk in .../class.SWIFT_Attachment.php:418",
    )


_EMPTY_500: Final = Reply(Body(b""), 500)
_REPLIES: Final[dict[str, Callable[[Reply, int, str], Reply]]] = {
    "remote_sentence": lambda reply, nth, path: reply.noisy(before=REMOTE_SENTENCE),
    "error_500": lambda reply, nth, path: _EMPTY_500,
    "flaky_500": _until(2, _EMPTY_500),
    "gateway": _until(1, page(502, "502 Bad Gateway", "<center><h1>502 Bad Gateway</h1></center>")),
    "throttle": _until(
        1, replace(page(429, "429", "Too Many Requests"), headers=(("Retry-After", "1"),))
    ),
    "busy_503": _until(
        1, replace(page(503, "503", "Service Unavailable"), headers=(("Retry-After", "0"),))
    ),
    "memory": lambda reply, nth, path: text(200, MEMORY),
    "not_xml": _exception,
    "html_page": lambda reply, nth, path: page(
        200, "Login", "<form action='/staff/index.php'>User <input name=u></form>"
    ),
    "cut_once": _deliver(Delivery.CUT, 1),
    "cut_silent": _deliver(Delivery.SILENT, 1),
    "cut_always": _deliver(Delivery.SILENT),
    "chunked": _deliver(Delivery.CHUNKED),
    "slow": _deliver(Delivery.SLOW),
    "warning_before": lambda reply, nth, path: reply.noisy(before=WARNING_DIV),
    "text_after": lambda reply, nth, path: reply.noisy(after=TEXT_WARNING),
}
