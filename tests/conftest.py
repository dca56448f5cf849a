"""How all tests run: Hypothesis repeats itself, and files that are flushed lie in memory."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from migrator.archive import schema
from migrator.archive.checkpoint import Border, Checkpoint

MEMORY, ROOM = Path("/dev/shm"), 2 * 1024**3

settings.register_profile("default", max_examples=60, deadline=None, derandomize=True)
settings.register_profile("search", max_examples=2000, deadline=None, print_blob=True)
settings.load_profile("default")

# Thousands of archives are made here, and each flushes every file of its own to the disk.
if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM:
    os.environ["TMPDIR"] = str(MEMORY)
    tempfile.tempdir = None

# No test meets a certificate of a public authority, and reading them all takes each client 25 ms.
# The clients of buckets want one at least.
os.environ["SSL_CERT_FILE"] = str(Path(__file__).with_name("authority.pem"))
os.environ["SSL_CERT_DIR"] = str(Path(__file__).parent)

# A shell's job in the background ignores Ctrl-C, one under nohup the end of its terminal. Tests
# send both to themselves and to what they start, which would ignore them as well.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that are given most time, or the last of them runs alone at the end."""

    def given(item: pytest.Item) -> float:
        mark = item.get_closest_marker("timeout")
        return float(mark.args[0]) if mark else 0.0

    items.sort(key=given, reverse=True)


def pytest_collection_finish() -> None:
    """Spare every collection of garbage to look at thousands of tests."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _one_new_archive() -> Iterator[None]:
    """Give every new archive a copy of what the steps of the schema made of the first.

    They take 20 ms, and thousands of archives are made here. Those of older formats, and of
    commands in a process of their own, take the steps themselves.
    """
    migrate = schema.migrate
    made = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    migrate(Checkpoint(made, Path("made")))

    def copy_or_migrate(checkpoint: Checkpoint) -> None:
        if schema.version(checkpoint) or checkpoint.execute("SELECT 1 FROM sqlite_master"):
            migrate(checkpoint)
            return
        with Border(checkpoint.path):
            made.backup(checkpoint.conn)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "migrate", copy_or_migrate)
        yield
    made.close()
