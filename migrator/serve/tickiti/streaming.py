"""Answers of any length: sent in pieces while they are made, in constant memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Final

from starlette.types import Receive, Send

from migrator.serve.content import watch
from migrator.serve.refusals import start

_BLOCK: Final = 64 * 1024


async def send_json(send: Send, document: object) -> None:
    """Send a short document as the whole answer."""
    body = json.dumps(document).encode("ascii")
    await start(send, 200, len(body))
    await send({"type": "http.response.body", "body": body})


async def send_pieces(pieces: Iterator[str], receive: Receive, send: Send) -> None:
    """Send the pieces of a JSON document, all of them ASCII.

    A short answer has its length in its head and fails before it is begun; a long one is sent
    in chunks and stays incomplete when making it fails. Stops when the client has gone.
    """
    blocks = _blocks(pieces)
    first = next(blocks, b"")
    second = next(blocks, None)
    if second is None:
        await start(send, 200, len(first))
        await send({"type": "http.response.body", "body": first})
        return
    await start(send, 200, None)
    await send({"type": "http.response.body", "body": first, "more_body": True})
    async with watch(receive) as gone:
        while second is not None and not gone.done():
            await send({"type": "http.response.body", "body": second, "more_body": True})
            await asyncio.sleep(0)  # lets others in: making blocks is work without waiting
            second = next(blocks, None)
        if second is None:
            await send({"type": "http.response.body", "body": b""})


def _blocks(pieces: Iterator[str]) -> Iterator[bytes]:
    block = bytearray()
    for piece in pieces:
        block += piece.encode("ascii")
        if len(block) >= _BLOCK:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)
