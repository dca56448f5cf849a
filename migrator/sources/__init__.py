"""Helpdesks that files are pulled from: the contract, and one folder for each of them.

To add one: a folder with a ``connect`` that yields a :class:`~migrator.sources.base.Source`, the
settings that it takes, and a line in ``SOURCES``. ``tests/sources/conformance.py`` checks that it
keeps the contract.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from typing import TYPE_CHECKING

from migrator.events import Listener

if TYPE_CHECKING:
    from migrator.sources.base import Source

SOURCES = {
    "KayakoSettings": "migrator.sources.kayako.source",
}
"""The module of each source, by the name of its settings."""


def open_source(
    settings: object,
    *,
    pool: Executor | None,
    listener: Listener,
    sleep: Callable[[float], Awaitable[None]],
    patient: bool = True,
) -> AbstractAsyncContextManager[Source]:
    """Return the source of some settings, as a context manager.

    It parses, decodes and writes in ``pool``, sends events to the ``listener``, and waits
    between two tries with ``sleep``. A ``patient`` one waits for a server that goes away.
    """
    connect = import_module(SOURCES[type(settings).__name__]).connect
    source: AbstractAsyncContextManager[Source] = connect(
        settings, pool=pool, listener=listener, sleep=sleep, patient=patient
    )
    return source
