"""The rules of the house, as tests: who may import whom, what stands where, what the docs name."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import migrator.archive
import migrator.sandbox.kayako
import migrator.serve.tickiti
import migrator.serve.web
import migrator.sources.kayako
from migrator import errors
from migrator.cli import COMMANDS

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "migrator").rglob("*.py"))
README = (ROOT / "README.md").read_text(encoding="utf-8")

# Data flows one way: kayako → transfer → archive → tickiti. No room reaches back. The verdict of
# an archive is told by all of them, and how far a run is, so these two are made in one place.
MAY_IMPORT = {
    "errors": set(),
    "events": set(),
    "text": set(),
    "config": {"errors"},
    "sources": {"errors", "events"},
    "blobs": {"archive", "errors"},
    "archive": {"blobs", "errors"},
    "pull": {"sources", "archive", "blobs", "errors", "events", "report"},
    "plan": {"sources", "archive", "blobs", "errors", "events", "pull", "report", "text"},
    "serve": {"archive", "blobs", "errors", "report", "text"},
    "report": {"archive", "blobs", "errors", "plan", "text"},
    "handover": {"archive", "blobs", "errors", "report", "text"},
    "sandbox": {"sources"},
}


def room_of(path: Path) -> str:
    """Name the room (or top module) that a file belongs to."""
    return path.relative_to(ROOT / "migrator").parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Name the rooms that a file imports, also inside its functions."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("migrator."):
            rooms.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "migrator":
            rooms |= {alias.name for alias in node.names if alias.name != "__version__"}
        elif isinstance(node, ast.Import):
            rooms |= {one.name.split(".")[1] for one in node.names if "migrator." in one.name}
    return rooms


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_import_only_what_they_may(path: Path) -> None:
    """No room imports a room that data does not come from."""
    room = room_of(path)
    if room in MAY_IMPORT:
        assert imported(path) - {room} <= MAY_IMPORT[room]


def test_the_sandbox_shares_nothing_but_records() -> None:
    """The look-alike is written from the facts: of the source room it may know the records."""
    for path in (ROOT / "migrator/sandbox").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r"migrator\.sources\.(\w+)", text)) <= {"base"}, path


def test_one_module_speaks_http_to_the_source() -> None:
    """Only the transport and its connections know httpx and aiohttp; client.py names a type."""

    def users(library: str) -> set[str]:
        line = re.compile(rf"^\s*(?:import|from) {library}\b", re.MULTILINE)
        return {path.name for path in MODULES if line.search(path.read_text(encoding="utf-8"))}

    assert users("aiohttp") == users("yarl") == {"connections.py"}
    assert users("httpx") == {"transport.py", "connections.py", "client.py"}


@pytest.mark.parametrize(
    "module",
    [
        migrator.archive,
        migrator.sources.kayako,
        migrator.sandbox.kayako,
        migrator.serve.tickiti,
        migrator.serve.web,
    ],
    ids=lambda module: module.__name__,
)
def test_public_names_are_listed_sorted_and_there(module: object) -> None:
    """Every room lists its public names; each exists, has a docstring, and stands in order."""
    names = getattr(module, "__all__")  # noqa: B009 - a module is an object to mypy here
    assert list(names) == sorted(names, key=lambda name: (not name.isupper(), name))
    for name in names:
        assert hasattr(module, name)


def test_every_error_has_an_exit_code_of_the_table() -> None:
    """Each class of the tree has a documented exit code, and the tree in the text names it."""
    found = [
        one
        for one in vars(errors).values()
        if isinstance(one, type) and issubclass(one, errors.MigratorError)
    ]
    assert {one.exit_code for one in found} == {1, 2, 4, 5, 6, 7, 8, 130}
    for one in found:
        assert one.__name__ in (errors.__doc__ or "")
        assert isinstance(one.again, errors.Again)


def test_nothing_else_stands_at_the_top() -> None:
    """The top level holds what the design names, and dot files."""
    allowed = {
        "pyproject.toml",
        "README.md",
        "config.example.toml",
        "migrator",
        "tests",
        "cassettes",
        "LICENSE",
        "CHANGELOG.md",
        "uv.lock",
    }
    built = {"archive", "config.toml", "dist", "htmlcov"}  # ignored by git, made by hand
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert found - built <= allowed


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_readme_names_every_command(command: str) -> None:
    """Every command of the tool stands in the README."""
    assert re.search(rf"migrator {command}\b", README)


def test_the_readme_names_every_exit_code_and_state() -> None:
    """Exit codes and ledger states are documented where users look first."""
    for code in (0, 1, 2, 3, 4, 5, 6, 7, 8, 130):
        assert re.search(rf"^\| {code} +\|", README, re.MULTILINE), code
    for state in migrator.archive.State:
        assert f"`{state.value}`" in README


@pytest.mark.parametrize("mark", ["demo", "tests"])
def test_the_readme_has_its_two_lines(mark: str) -> None:
    """One fenced line right after each mark does all on a fresh machine."""
    found = re.search(rf"<!-- {mark} -->\n```\w*\n([^\n]+)\n```\n", README)
    assert found is not None
    assert "venv" in found.group(1)
