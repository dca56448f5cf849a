"""Refusals as pages.

The fields of a form, read with a bound.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request


class Problem(Exception):
    """An answer that is a page with a heading, a sentence and a status other than 200."""

    def __init__(self, status: int, title: str, text: str) -> None:
        super().__init__(title)
        self.status = status
        self.title = title
        self.text = text


MAX_FORM: Final = 16 * 1024
"""Bytes of a form; real ones have two hundred."""

_TYPE: Final = "application/x-www-form-urlencoded"


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a POST; the last of several with one name counts.

    Raises Problem for another content type and for more than MAX_FORM bytes, and
    ClientDisconnect.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _TYPE:
        raise Problem(415, "Not a form", "This address takes forms of our own pages only.")
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > MAX_FORM:
            raise Problem(413, "Too long", "This form is longer than any of our own.")
    text = body.decode("utf-8", "replace")
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=20))
    except ValueError:
        raise Problem(400, "Not a form", "This form has more fields than any of our own.") from None
