"""The metrics of an archive in a file, for the textfile collector of node exporter.

Commands that change what it says write it at their end, and long ones meanwhile. What keeps it
from being written is a warning: no work fails for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

from migrator.cli.common import note, published_at
from migrator.errors import ConfigError, MigratorError, how_to_install

if TYPE_CHECKING:
    from migrator.archive import Archive
    from migrator.config import Config

EVERY: Final = 60.0
"""Seconds between two writes, or more where one takes long."""
_LONGER: Final = 20
PUBLIC: Final = 0o644
"""Node exporter runs as another user, and there are only figures in it."""


@contextmanager
def measured(config: Config, archive: Archive) -> Iterator[None]:
    """Write the configured textfile during the block, now and then, and after it.

    The checkpoint is read over connections of its own, and no bucket is asked.
    """
    target = config.metrics.textfile
    if target is None:
        yield
        return
    ended, told, beside = threading.Event(), set[str](), archive.served()

    def now_and_then() -> None:
        pause = EVERY
        while not ended.wait(pause):
            began = time.monotonic()
            _try(target, config, beside, told)
            pause = max(EVERY, _LONGER * (time.monotonic() - began))

    thread = threading.Thread(target=now_and_then, daemon=True, name="textfile")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        for problem in told | _try(target, config, beside, set()):
            note(problem, level="warning")


def _try(target: Path, config: Config, archive: Archive, told: set[str]) -> set[str]:
    """Write the file; add what keeps it from being written to ``told``, and return that."""
    try:
        _write(target, config, archive)
    except (MigratorError, OSError) as error:
        why = error.strerror or "" if isinstance(error, OSError) else str(error).rstrip(".")
        told.add(f"The metrics could not be written to {str(target)!r}: {why}.")
    return told


def _write(target: Path, config: Config, archive: Archive) -> None:
    from migrator.blobs import durable

    metrics = metrics_room()
    facts = metrics.read(archive, target=config.deliver.url, snapshot=published_at())
    durable.write(target, [metrics.render(facts)[0]], mode=PUBLIC)


def metrics_room() -> ModuleType:
    """Return the module that makes metrics; raise ConfigError without its library."""
    try:
        from migrator.report import metrics
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("prometheus_client"):
            raise
        raise ConfigError(
            f"Metrics need the extra [metrics]. {how_to_install('metrics')}"
        ) from None
    return metrics
