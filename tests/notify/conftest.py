"""A receiver, and the parts of a command line that tells it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.config import NOTIFY
from tests.cli.conftest import cli  # noqa: F401 - a fixture
from tests.notify.receiver import Receiver, receiving


@pytest.fixture
def receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """Receive messages; the environment names nobody else, and nothing is left in /tmp."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in NOTIFY.values():
        monkeypatch.delenv(name, raising=False)
    with receiving() as made:
        yield made
