"""`migrator help`: the commands, the help of one, and the pages of the manual."""

from __future__ import annotations

import os
import pty
import sys
from pathlib import Path

import pytest

import migrator
from migrator.cli import COMMANDS
from tests.cli.conftest import Cli

PAGES = sorted((Path(migrator.__file__).parent / "docs").glob("*.md"))


@pytest.mark.parametrize("words", [["run"], ["token", "create"], ["token"], ["help"]])
def test_help_of_a_command_is_its_option(cli: Cli, words: list[str]) -> None:
    """`help COMMAND` is `COMMAND --help`, of subcommands as well."""
    assert cli("help", *words) == cli(*words, "--help")


def test_help_lists_the_commands_and_the_pages(cli: Cli) -> None:
    """Without a word, all commands and all pages of the manual are listed, on stdout."""
    code, out, err = cli("help")
    assert (code, err) == (0, "")
    assert out.startswith(cli("--help").out.rstrip())
    for page in PAGES:
        title = page.read_text("utf-8").partition("\n")[0].removeprefix("# ")
        assert title.split()[-1] in out
        assert f"\n  {page.stem} " in out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_help_shows_each_page(cli: Cli, page: Path) -> None:
    """A page is printed as it is where stdout is no terminal, however its name is written."""
    for word in (page.stem, page.name, page.stem.upper()):
        if word not in COMMANDS:
            assert cli("help", word) == (0, page.read_text("utf-8"), "")


def test_a_page_named_as_a_command_is_reached_as_a_file(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command wins, `help NAME.md` shows the page."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "run.md").write_text("# The page\n")
    monkeypatch.setattr("migrator.cli.help_cmd.files", lambda _: tmp_path)
    assert cli("help", "run").out.startswith("Usage: migrator run")
    assert cli("help", "run.md").out == "# The page\n"


@pytest.mark.parametrize(
    ("words", "near"),
    [(["bucket"], "Did you mean buckets?"), (["tokn"], "Did you mean token?"), (["zzz"], "")],
)
def test_an_unknown_topic_suggests_the_nearest(cli: Cli, words: list[str], near: str) -> None:
    """An unknown word exits with 2 and names what was probably meant."""
    result = cli("help", *words)
    assert result.refused("There is no command and no page of the manual")
    assert near in result.err
    assert near or "Did you mean" not in result.err


def test_an_unknown_subcommand_is_a_mistake(cli: Cli) -> None:
    """`help token nonsense` exits with 2, as `token nonsense` does."""
    assert cli("help", "token", "nonsense").refused("No such command 'nonsense'")


def test_a_page_goes_through_the_pager_on_a_terminal(tmp_path: Path) -> None:
    """PAGER gets the page where stdin and stdout are a terminal."""
    pager = tmp_path / "pager"
    pager.write_text('#!/bin/sh\necho "paged: $(head -1)"\n')
    pager.chmod(0o755)
    env = os.environ | {"PAGER": str(pager), "PYTHONPATH": str(PAGES[0].parent.parent.parent)}
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-m", "migrator", "help", "buckets"], env)
    said = b""
    try:
        while block := os.read(terminal, 4096):
            said += block
    except OSError:  # the terminal's other end is closed
        pass
    os.close(terminal)
    assert os.waitpid(pid, 0)[1] == 0
    assert said.startswith(b"paged: # One puller")
