"""Names of files that make trouble somewhere."""

from __future__ import annotations

import re

from migrator.report.plain import shown

LONGEST = 255
"""Bytes in a file name on the usual file systems."""

_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE | re.DOTALL)
_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')


def odd(name: str) -> bool:
    """Tell whether a name cannot be the name of a file everywhere, or does not show what it is.

    Empty or too long, with invisible characters, with one that Windows or Unix forbids, with a
    space or a dot at an end, or reserved on Windows.
    """
    return (
        not name
        or len(name.encode("utf-8", "surrogatepass")) > LONGEST
        or shown(name) != name
        or _FORBIDDEN.search(name) is not None
        or name != name.strip(" ")
        or name.endswith(".")
        or _RESERVED.fullmatch(name) is not None
    )
