"""What malloc is told, where it is glibc's: elsewhere nothing is lost but some memory or speed."""

from __future__ import annotations

import ctypes
from contextlib import suppress

# Of malloc.h:
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

_LARGE = 1 << 20
_SPARE = 8 << 20


def share_one_heap() -> None:
    """Let no thread have a heap of its own: each would keep megabytes, while the GIL is shared."""
    _tell((_M_ARENA_MAX, 1))


def keep_blocks() -> None:
    """Take blocks of less than a megabyte from the heap, and keep some of it for the next ones.

    Otherwise malloc may ask the kernel for every block of 128 KiB or more, whose pages are then
    cleared and mapped one by one.
    """
    _tell((_M_MMAP_THRESHOLD, _LARGE), (_M_TRIM_THRESHOLD, _SPARE))


def _tell(*options: tuple[int, int]) -> None:
    with suppress(AttributeError, OSError, TypeError):  # there is nothing to tell but glibc
        libc = ctypes.CDLL(None)
        for name, value in options:
            libc.mallopt(name, value)
