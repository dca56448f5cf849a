"""Names of files that make trouble somewhere."""

from __future__ import annotations

import unicodedata

from migrator.report.safe_names import safe_name

LONGEST = 255
"""Bytes in a file name on the usual file systems."""


def odd(name: str) -> bool:
    """Tell whether a name cannot be the name of a file everywhere, or does not show what it is.

    Empty or too long, hidden, reserved on Windows, with invisible characters or with ones that
    some system forbids, with a space or a dot at an end.
    """
    composed = unicodedata.normalize("NFC", name)
    return safe_name(composed, LONGEST) != composed
