"""Reports: one model of the ledger, told as text, JSON and CSV."""

from __future__ import annotations

from migrator.report.machine import to_csv, to_json
from migrator.report.model import Report, build
from migrator.report.text import render
from migrator.report.verdict import exit_code

__all__ = ["Report", "build", "exit_code", "render", "to_csv", "to_json"]
