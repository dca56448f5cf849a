"""A sandbox with the command line as a process, for faults that only the real thing shows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from migrator.cli import invoke
from migrator.sandbox.kayako import SandboxOptions
from migrator.selftest.rig import Ended, Rig

MakeRig = Callable[..., Rig]
Inline = Callable[..., Ended]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[MakeRig]:
    """Make rigs in the test's own directory; keywords are those of SandboxOptions."""
    with contextlib.ExitStack() as stack:

        def make(archive: Path | None = None, **options: object) -> Rig:
            recipe = SandboxOptions(**options)  # type: ignore[arg-type]
            return stack.enter_context(Rig(tmp_path, recipe, archive=archive))

        yield make


@pytest.fixture
def inline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Inline:
    """Call the command line in this process, with an exit code that is due."""
    monkeypatch.chdir(tmp_path)

    def call(code: int, *argv: str) -> Ended:
        capfd.readouterr()
        found = invoke(argv)
        ended = Ended(found, *capfd.readouterr())
        assert ended.code == code, ended
        return ended

    return call


def stored(rig: Rig) -> dict[int, str]:
    """Give the hash of every stored attachment."""
    return {key: row.sha256 for key, row in rig.rows().items() if row.sha256}
