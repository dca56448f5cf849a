"""Which file types may be downloaded: always, after a confirmation, or never.

Tickiti keeps explicit rules by extension only; a type without a rule is allowed subject to
review. A renamed file is judged by its name, as Tickiti does.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from migrator.archive import extension_of
from migrator.archive.records import Rule


class Gate(enum.Enum):
    """What the rules say about a file."""

    ALLOW = "allow"
    BLOCK = "block"
    REVIEW = "review"


def gate(rules: Mapping[str, Rule], filename: str) -> Gate:
    """Return what the rules, by extension, say about a file of this name."""
    rule = rules.get(extension_of(filename))
    return Gate(rule.verdict) if rule else Gate.REVIEW
