"""``migrator init``."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

EXAMPLE = Path(__file__).parent.parent.parent / "config.example.toml"


def test_init_writes_the_example_for_its_owner_alone(cli: Cli, tmp_path: Path) -> None:
    """The file is config.example.toml, word for word, and private."""
    code, out, err = cli("init")
    assert (code, out) == (0, "config.toml\n")
    assert "migrator doctor" in err
    path = tmp_path / "config.toml"
    assert path.read_bytes() == EXAMPLE.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_init_never_overwrites(cli: Cli, tmp_path: Path) -> None:
    """An existing file stays as it is, with exit code 2; another name can be given."""
    path = tmp_path / "config.toml"
    path.write_text("mine")
    code, out, err = cli("init")
    assert (code, out) == (2, "")
    assert "already exists" in err
    assert path.read_text() == "mine"
    assert cli("-c", "other.toml", "init")[0] == 0
    assert (tmp_path / "other.toml").exists()


def test_init_where_nothing_can_be_written(cli: Cli) -> None:
    """A directory that is not there is told as such."""
    code, _, err = cli("-c", "none/config.toml", "init")
    assert code == 2
    assert "No such file or directory" in err


def test_init_leaves_nothing_half_done(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the example cannot be read no empty file stays behind, which init would not replace."""
    monkeypatch.setattr("migrator.cli.init_cmd.EXAMPLE", "not packaged")
    assert cli("init")[0] == 1
    assert not (tmp_path / "config.toml").exists()


def test_what_init_wrote_only_wants_the_keys(cli: Cli) -> None:
    """The fresh file has no mistakes but the keys that only the user knows."""
    cli("init")
    code, _, err = cli("doctor")
    assert code == 2
    assert err.count("is missing") == 2
