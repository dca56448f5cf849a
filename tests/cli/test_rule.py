"""``migrator rule``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Cli


def listed(cli: Cli) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in cli("rule", "list")[1].splitlines()[1:]}


def test_rules_are_set_and_unset(cli: Cli, home: Path) -> None:
    """A rule appears in the list under its plain extension, and goes again."""
    assert listed(cli)[".pdf"][0] == "allow"
    assert listed(cli)[".exe"][0] == "block"
    assert cli("rule", "set", ".LOG", "allow", "--note", "ours\x1b")[0] == 0
    assert listed(cli)[".log"] == ["allow", "ours\\x1b"]
    assert cli("rule", "set", "log", "block")[0] == 0
    assert listed(cli)[".log"] == ["block"]
    assert cli("rule", "unset", "log")[0] == 0
    assert ".log" not in listed(cli)
    assert cli("rule", "unset", "log").refused("no rule for .log")


@pytest.mark.parametrize("extension", ["", ".", "tar.gz", "a/b", "a b", "a\x1b"])
def test_an_extension_that_is_none(cli: Cli, home: Path, extension: str) -> None:
    """What no name can end in after its last dot is a usage error."""
    before = listed(cli)
    assert cli("rule", "set", extension, "allow").refused("must be one extension")
    assert listed(cli) == before


def test_a_rule_without_its_verdict_is_told_what_there_is(cli: Cli, home: Path) -> None:
    """The choices stand in lines of their own, without escapes."""
    code, _, err = cli("rule", "set", "exe")
    assert code == 2
    assert "Choose from:\n  allow,\n  block\nTry `migrator rule set --help`.\n" in err
