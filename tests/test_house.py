"""The rules of the house, as tests: who may import whom, what stands where, what the docs name."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import IO, BinaryIO, get_type_hints

import pytest

import migrator.archive
from migrator import errors
from migrator.blobs.base import Blob, Store, Writer
from migrator.cli import COMMANDS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "migrator"
MODULES = sorted(PACKAGE.rglob("*.py"))
README = (ROOT / "README.md").read_text(encoding="utf-8")

PLAN = (PACKAGE / "ARCHITECTURE.md").read_text(encoding="utf-8")


def rooms_of(plan: str) -> dict[str, set[str]]:
    """Read the table of rooms: what each may import."""
    rows = re.findall(r"^\| `([\w/]+)` \|[^|]+\| ([^|]+) \|$", plan, re.MULTILINE)
    told = {"every room": {room for room, _ in rows}, "nothing": set[str]()}
    return {room: told.get(cell, set(cell.split(", "))) for room, cell in rows}


MAY_IMPORT = {**rooms_of(PLAN), "__main__": {"cli"}}
"""The rooms and top modules, and what each may import: nothing that stands above it."""


def room_of(name: str) -> str | None:
    """Name the room or top module that a dotted name of this package is in; None for others."""
    first, *parts = name.split(".")
    inner = "/".join(parts[:2])
    if first != "migrator" or not parts:
        return None
    return inner if inner in MAY_IMPORT else parts[0] if parts[0] in MAY_IMPORT else None


def imported(source: str, package: str) -> set[str]:
    """Give the dotted names that a module of ``package`` imports, in whatever way.

    At the top or inside a function, relative or not, as a string for importlib, or as an attribute
    of the package.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                names |= {one.name for one in node.names}
            case ast.ImportFrom():
                parts = package.split(".")
                above = parts[: len(parts) + 1 - node.level] if node.level else []
                base = ".".join([*above, *filter(None, [node.module])])
                names |= {f"{base}.{one.name}" for one in node.names}
            case ast.Constant(value=str(text)) if re.fullmatch(r"migrator(\.\w+)+[.:\w]*", text):
                names.add(text.replace(":", ".").rstrip("."))
            case ast.Attribute():
                names.add(ast.unparse(node))
    return names


def trespasses(package: Path) -> list[str]:
    """Say of each module of a tree which rooms it imports and may not."""
    found = []
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package.parent).with_suffix("")
        inside = ".".join(place.parts[:-1])
        room = room_of(".".join(place.parts[:-1] if place.name == "__init__" else place.parts))
        if room is None:
            if place.parts != ("migrator", "__init__"):
                found.append(f"{place}: of no room")
            continue
        rooms = {room_of(name) for name in imported(path.read_text(encoding="utf-8"), inside)}
        strangers = sorted(rooms - {room, None} - MAY_IMPORT[room])  # type: ignore[type-var]
        found += [f"{place}: {stranger}" for stranger in strangers]
    return found


def test_rooms_import_only_what_they_may() -> None:
    """No room imports one that stands above it, and every module is in a room."""
    assert trespasses(PACKAGE) == []


@pytest.mark.parametrize(
    "line",
    [
        "import migrator.serve.web.app",
        "import os, migrator.serve.web as pages",
        "from migrator.serve import web",
        "from migrator.serve.web import build_pages",
        "from ..serve import web",
        "from ..serve.web.app import build_pages as made",
        "def late():\n    from migrator.serve import web",
        "import migrator\n\nmigrator.serve.web.app.build()",
        "importlib.import_module('migrator.serve.web')",
        "importlib.import_module(f'migrator.serve.web.{name}')",
        "COMMANDS = {'pages': 'migrator.serve.web.app:build_pages'}",
    ],
)
def test_no_way_to_import_is_overlooked(tmp_path: Path, line: str) -> None:
    """Each way to import a room that is out of bounds is found, and a new folder as well."""
    tree = tmp_path / "migrator"
    for name in ("report", "attic"):
        (tree / name).mkdir(parents=True)
        (tree / name / "__init__.py").touch()
    (tree / "__init__.py").touch()
    (tree / "report" / "text.py").write_text(f"from . import verdict\n{line}\n")
    found = trespasses(tree)
    assert found[0] == "migrator/attic/__init__: of no room"
    assert found[-1] == "migrator/report/text: serve/web"


def test_the_page_on_the_house_is_true() -> None:
    """ARCHITECTURE.md names no room, module or document that is gone, and draws every room."""
    _, picture, _ = PLAN.split("```")
    for room, others in MAY_IMPORT.items():
        assert (PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").is_file(), room
        assert others <= MAY_IMPORT.keys(), room
        assert room == "__main__" or room.rpartition("/")[2] in picture, room
    for name in re.findall(r"`([\w/]+\.(?:py|md))`", PLAN):
        assert any((top / name).is_file() for top in (PACKAGE, ROOT)), name


_HANDLING = {"fstat", "fsync", "link", "pread", "rename", "replace", "LocalStore"}


def handling(source: str) -> set[str]:
    """Give what a module does that would need to know where a blob is, or what holds it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.BinOp(op=ast.Div(), right=ast.Constant(value=str(text))):
                found |= {text} & {"blobs"}
            case ast.Attribute(value=ast.Name("os"), attr=name):
                found |= {name} & _HANDLING
            case ast.ImportFrom(module="os" | "migrator.blobs.local"):
                found |= {one.name for one in node.names} & _HANDLING
            case ast.Attribute(attr="hardlink_to"):
                found.add("hardlink_to")
    return found


def test_one_module_knows_what_a_blob_is_made_of() -> None:
    """Paths, descriptors and links of blobs stay in their store, which is chosen in one place.

    And one module writes files durably.
    """
    used = {
        str(path.relative_to(PACKAGE)): found
        for path in MODULES
        if (found := handling(path.read_text(encoding="utf-8")))
    }
    no_blobs = {  # files of their own
        "archive/lock.py": {"fstat", "pread"},
        "blobs/durable.py": {"fstat", "fsync", "link", "replace"},
        "plan/plan_file.py": {"pread"},
        "serve/web/sessions.py": {"fstat", "pread"},
    }
    selftest = {"selftest/rig.py": {"blobs"}}  # harms them on purpose, from outside
    store = {"blobs/__init__.py": {"LocalStore"}, "blobs/local.py": {"fstat", "pread"}}
    assert used == no_blobs | selftest | store
    assert handling("os.link(a, b), root / 'blobs', Path(x).hardlink_to(y)") == {
        "link",
        "blobs",
        "hardlink_to",
    }


def test_the_contract_of_a_store_knows_no_place() -> None:
    """A path is what a blob is copied to, and nothing else."""
    places = {
        (name, argument)
        for contract in (Store, Blob, Writer)
        for name, method in vars(contract).items()
        if not name.startswith("__") and (callable(method) or isinstance(method, property))
        for argument, kind in get_type_hints(getattr(method, "fget", method)).items()
        if kind in (Path, str | Path, IO, BinaryIO)
    }
    assert places == {("copy_out", "target"), ("copy_out", "temp")}


def test_one_module_speaks_http_to_the_source() -> None:
    """Only the transport and its connections know httpx and aiohttp; client.py names a type.

    Messages of ``notify`` do not go to the source: channels.py sends them.
    """

    def users(library: str) -> set[str]:
        line = re.compile(rf"^\s*(?:import|from) {library}\b", re.MULTILINE)
        return {path.name for path in MODULES if line.search(path.read_text(encoding="utf-8"))}

    assert users("aiohttp") == users("yarl") == {"connections.py"}
    assert users("httpx") == {"transport.py", "connections.py", "client.py", "channels.py"}


def test_no_query_numbers_its_parameters() -> None:
    """With ``?1``, every Python from 3.12.0 to 3.12.3 warns that parameters will be refused."""
    for path in MODULES:
        assert not re.search(r"(?:[=<>(,]|LIMIT) ?\?\d", path.read_text("utf-8")), path


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
