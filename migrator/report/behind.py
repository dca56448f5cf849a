"""The command that lists the rows behind a figure."""

from __future__ import annotations

import shlex

from migrator.report.plain import shown

NONE = "none"
"""How the command line says the key "" of a type, a year or a problem."""


def csv_command(dimension: str, key: str) -> str:
    """Give the shell command that lists all rows behind the figure ``key`` of a ``dimension``.

    Both as in :attr:`Report.behind`. Characters that a terminal would not show are written as
    the escapes of ``$'…'``, which bash, ksh and zsh read.
    """
    return " ".join(["migrator report --format csv", *_options(dimension, key)])


def _options(dimension: str, key: str) -> list[str]:
    if dimension == "duplicate":
        return ["--duplicates"]
    if dimension == "problem":
        state, _, problem = key.partition("/")
        return [f"--state {state}", f"--problem {_quoted(problem or NONE)}"]
    return [f"--{dimension} {_quoted(key or NONE)}"]


def _quoted(value: str) -> str:
    if shown(value) == value:
        return shlex.quote(value)
    return "$'" + "".join(map(_escaped, value)) + "'"


def _escaped(char: str) -> str:
    if char in "\\'":
        return "\\" + char
    if shown(char) == char:
        return char
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "replace"))
