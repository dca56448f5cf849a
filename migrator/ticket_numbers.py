"""The file that says which Tickiti ticket number each Kayako ticket got."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from migrator.errors import ConfigError


def load_ticket_numbers(path: Path) -> dict[int, str]:
    """Read which Tickiti ticket number each Kayako ticket id got, from a CSV file.

    The header is ``kayako_ticket_id,ticket_number``; both must be unique. Raises ConfigError
    that lists all mistakes with their lines.
    """
    rows = _read_csv(path)
    if not rows or rows[0][1] != ["kayako_ticket_id", "ticket_number"]:
        raise ConfigError(f"{path}: its first line must be kayako_ticket_id,ticket_number.")
    numbers: dict[int, str] = {}
    owners: dict[str, int] = {}
    mistakes: list[str] = []
    for line, cells in rows[1:]:
        ticket_id = int(cells[0]) if re.fullmatch(r"[0-9]{1,18}", cells[0], re.ASCII) else None
        if ticket_id is None or len(cells) != 2 or not cells[1] or not cells[1].isprintable():
            mistakes.append(f"line {line}: must be a Kayako ticket id and a ticket number")
        elif ticket_id in numbers:
            mistakes.append(f"line {line}: ticket {ticket_id} is listed twice")
        elif (owner := owners.setdefault(cells[1], ticket_id)) != ticket_id:
            mistakes.append(f"line {line}: ticket {owner} has this number already")
        else:
            numbers[ticket_id] = cells[1]
    if mistakes:
        mistakes[20:] = [f"and {len(mistakes) - 20} more"] if len(mistakes) > 20 else []
        raise ConfigError("\n  ".join([f"{path} cannot be used:", *mistakes]))
    return numbers


def _read_csv(path: Path) -> list[tuple[int, list[str]]]:
    """Read the lines that hold something, as line number and cells."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines, strict=True)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except OSError as exc:
        raise ConfigError(f"Cannot read {path}: {exc.strerror}.") from exc
    except (UnicodeDecodeError, csv.Error) as exc:
        raise ConfigError(f"{path} is not a CSV file in UTF-8: {exc}.") from exc
    return [(line, cells) for line, cells in rows if any(cells)]
