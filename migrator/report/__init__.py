"""Reports: one model of the ledger, told as text, JSON and CSV."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from migrator.report.json_report import to_csv, to_json
    from migrator.report.model import Report, build
    from migrator.report.text import render

__all__ = ["Report", "build", "render", "to_csv", "to_json"]

_HOME = {
    "Report": "model",
    "build": "model",
    "render": "text",
    "to_csv": "json_report",
    "to_json": "json_report",
}


def __getattr__(name: str) -> object:
    # Late, as every command writes plain text, and few of them make a report.
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
