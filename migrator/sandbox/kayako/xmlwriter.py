"""XML exactly as Kayako Classic writes it, byte for byte.

One element per line, every value in CDATA, ``<x />`` for an empty one, attributes HTML-escaped,
control bytes removed, no final newline. Nothing checks that values are UTF-8, so neither do we:
names are bytes.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

HEADER = b'<?xml version="1.0" encoding="UTF-8"?>'
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Stream:
    """Bytes made while they are sent; ``length`` is exact."""

    length: int
    blocks: Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class Raw:
    """Stands between the tags as it is: no CDATA, no cleaning."""

    data: bytes


class Body:
    """The bytes of a reply, some of them perhaps made on demand."""

    def __init__(self, *parts: bytes | Stream) -> None:
        self.parts = parts

    def __len__(self) -> int:
        """Return the exact number of bytes."""
        return sum(p.length if isinstance(p, Stream) else len(p) for p in self.parts)

    def blocks(self) -> Iterator[bytes]:
        """Give the bytes in order, in blocks of any size."""
        for part in self.parts:
            if isinstance(part, Stream):
                yield from part.blocks()
            else:
                yield part

    def around(self, before: bytes = b"", after: bytes = b"") -> Body:
        """Return the same body with noise around it."""
        return Body(before, *self.parts, after)


def clean(value: str | bytes | int) -> bytes:
    """Remove what the writer removes and split what would end a CDATA section."""
    data = value if isinstance(value, bytes) else str(value).encode()
    return _CONTROL.sub(b"", data).replace(b"]]>", b"]]]]><![CDATA[>")


class XmlWriter:
    """Collects one document."""

    def __init__(self) -> None:
        self._parts: list[bytes | Stream] = [HEADER]

    def open(self, tag: str, **attributes: str | int) -> None:
        """Begin a container, on its own line."""
        self._parts.append(f"\n<{tag}{_attributes(attributes)}>".encode())

    def close(self, tag: str) -> None:
        """End a container, on its own line."""
        self._parts.append(f"\n</{tag}>".encode())

    def value(
        self, tag: str, value: str | bytes | int | Raw | Stream, **attributes: str | int
    ) -> None:
        """Write one element with its value."""
        if isinstance(value, Stream):
            inner: tuple[bytes | Stream, ...] = (b"<![CDATA[", value, b"]]>")
            empty = value.length == 0
        elif isinstance(value, Raw):
            inner, empty = (value.data,), not value.data
        else:
            data = clean(value)
            inner, empty = (b"<![CDATA[" + data + b"]]>",), not data
        head = f"\n<{tag}{_attributes(attributes)}"
        if empty:
            self._parts.append(f"{head} />".encode())
        else:
            self._parts += (f"{head}>".encode(), *inner, f"</{tag}>".encode())

    def body(self) -> Body:
        """Return the document."""
        return Body(*_joined(self._parts))


def _attributes(attributes: dict[str, str | int]) -> str:
    return "".join(f' {name}="{_escaped(str(v))}"' for name, v in attributes.items())


def _escaped(value: str) -> str:
    """Escape as PHP does before 8.1, which leaves apostrophes."""
    return html.escape(value, quote=False).replace('"', "&quot;")


def _joined(parts: list[bytes | Stream]) -> Iterator[bytes | Stream]:
    """Glue the bytes between two streams together, so that they are sent at once."""
    run: list[bytes] = []
    for part in parts:
        if isinstance(part, bytes):
            run.append(part)
        else:
            yield b"".join(run)
            yield part
            run = []
    yield b"".join(run)
