"""The options that narrow or widen a run, shared by ``run`` and ``plan``."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click


def _since(ctx: click.Context, param: click.Parameter, value: str | None) -> int:
    """Read a date (UTC) or an age as Unix seconds; 0 when not given."""
    if value is None:
        return 0
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", value, re.ASCII):
        try:
            return int(datetime.fromisoformat(value).replace(tzinfo=UTC).timestamp())
        except ValueError as error:
            raise click.BadParameter("is not a day of the calendar", ctx, param) from error
    from migrator.config import duration

    try:
        return int(time.time() - duration(value))
    except ValueError as error:
        text = "must be a day such as 2026-01-31 or an age such as 30d"
        raise click.BadParameter(text, ctx, param) from error


def scope_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as one ``scope``."""

    @click.option(
        "--department",
        "departments",
        multiple=True,
        metavar="ID|TITLE",
        help="Only this department; may be given several times.",
    )
    @click.option(
        "--since",
        callback=_since,
        metavar="DAY|AGE",
        help="Only tickets active since then: 2026-01-31 or 30d.",
    )
    @click.option(
        "--limit-tickets", type=click.IntRange(1), metavar="N", help="Only the first N tickets."
    )
    @click.option("--include-trash", is_flag=True, help="Tickets in the trash too.")
    @functools.wraps(command)
    def wrapped(
        *args: Any,
        departments: tuple[str, ...],
        since: int,
        limit_tickets: int | None,
        include_trash: bool,
        **kwargs: Any,
    ) -> Any:
        from migrator.transfer.walk import Scope

        scope = Scope(
            departments=frozenset(departments) if departments else None,
            since=since,
            limit_tickets=limit_tickets,
            include_trash=include_trash,
        )
        return command(*args, scope=scope, **kwargs)

    return wrapped
