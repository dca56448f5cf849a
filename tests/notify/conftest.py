"""A receiver, and the parts of a command line that tells it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from migrator.config import NOTIFY
from tests.cli.conftest import cli  # noqa: F401 - a fixture
from tests.notify.receiver import Receiver, receiving


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """Receive messages; the environment names nobody else."""
    for name in NOTIFY.values():
        monkeypatch.delenv(name, raising=False)
    with receiving() as made:
        yield made
