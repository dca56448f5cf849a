"""How each attachment fault changes the contents, or the reply that they come in.

Faults of a row itself (names, sizes) are made in build.py; here are those of the contents, in
:func:`contents`, and those of the reply around them, in :func:`afflict`.
"""

from __future__ import annotations

import binascii
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from migrator.sandbox.model import shortened
from migrator.sandbox.reply import Delivery, Reply, page, php_error, text
from migrator.sandbox.xmlwriter import Body, Raw, Stream

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
    # Dash and exclamation mark are in no alphabet that PHP knows: it skips them.
    "lenient_base64": lambda data: _cdata(_lines(_base64(data), 1001, b"-!")),
    "no_cdata": _base64,
    "seed_shape": lambda data: b"<![CDATA[" + _base64(data) + b"]]]]><![CDATA[>",
}


def afflict(reply: Reply, fault: str | None, nth: int) -> Reply:
    """Return the reply as the fault lets it out on the ``nth`` request for the attachment."""
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
_EMPTY_500: Final = Reply(Body(b""), 500)
_EXCEPTION: Final = php_error(
    "/Tickets/TicketAttachment",
    "Uncaught Exception",
    "Unable to load attachment chunk in .../class.SWIFT_Attachment.php:418",
)
_LOGIN: Final = page(200, "Login", '<form action="/staff/">Username <input name="username"></form>')
_REPLIES: Final[dict[str, tuple[int, Callable[[Reply], Reply]]]] = {
    "remote_sentence": (_ALWAYS, _noisy(before=REMOTE_SENTENCE)),
    "error_500": (_ALWAYS, _instead(_EMPTY_500)),
    "flaky_500": (2, _instead(_EMPTY_500)),
    "gateway": (1, _instead(page(502, "502 Bad Gateway", "<h1>502 Bad Gateway</h1>"))),
    "timeout_504": (1, _instead(page(504, "504 Gateway Time-out", "<h1>504</h1>"))),
    "throttle": (1, _instead(_busy(429, "Too Many Requests", 1))),
    "busy_503": (1, _instead(_busy(503, "Service Unavailable", 0))),
    "memory": (_ALWAYS, _instead(text(200, MEMORY))),
    "not_xml": (_ALWAYS, _instead(_EXCEPTION)),
    "html_page": (_ALWAYS, _instead(_LOGIN)),
    "cut_once": (1, _by(Delivery.CUT)),
    "cut_silent": (1, _by(Delivery.SILENT)),
    "cut_always": (_ALWAYS, _by(Delivery.SILENT)),
    "chunked": (_ALWAYS, _by(Delivery.CHUNKED)),
    "slow": (_ALWAYS, _by(Delivery.SLOW)),
    "warning_before": (_ALWAYS, _noisy(before=WARNING_DIV)),
    "text_after": (_ALWAYS, _noisy(after=TEXT_WARNING)),
}
"""What happens to the reply, and on how many requests for one attachment."""
